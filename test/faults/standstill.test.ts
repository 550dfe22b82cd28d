import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { pingreqPacket, type RawClient } from '../support/raw-client.js';
import { addDevices, connected, startGateway, until } from './gateway.js';

/** Longer than the 3 s after which a client with a keepalive of 2 s is taken for gone. */
const standstillMs = 4_000;

test('a server that stood still reads what came meanwhile before it takes a client for silent', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const { server } = await startGateway(onTestFinished);
  const [quiet, ...devices] = await addDevices(server.httpPort, 5);
  if (quiet === undefined) throw new Error('no device');
  const open = (device: Credentials) =>
    connected(onTestFinished, server.mqttPort, device, { keepaliveSec: 2 });
  const pinging: RawClient[] = [];
  const pings = setInterval(() => {
    for (const client of pinging) client.send(pingreqPacket);
  }, 200);
  onTestFinished(() => clearInterval(pings));
  for (const device of devices) pinging.push(await open(device));
  const silent = await open(quiet);
  server.signal('SIGSTOP');
  onTestFinished(() => server.signal('SIGCONT'));
  await delay(standstillMs);
  const answered = pinging.map(({ received }) => received.length);
  server.signal('SIGCONT');
  await until('the silent client is disconnected', () => silent.closed);
  await until('the others are answered', () =>
    pinging.every(({ received, closed }, index) => !closed && received.length > (answered[index] ?? 0)),
  );
});
