import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { pingreqPacket } from '../support/raw-client.js';
import { addDevices, connected, startGateway, until } from './gateway.js';

/** Longer than the 3 s after which a client with a keepalive of 2 s is taken for gone. */
const standstillMs = 4_000;

test('a server that stood still reads what came meanwhile before it takes a client for silent', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const { server } = await startGateway(onTestFinished);
  const devices = await addDevices(server.httpPort, 5);
  const [silent, ...pinging] = await Promise.all(
    devices.map((device) => connected(onTestFinished, server.mqttPort, device, { keepaliveSec: 2 })),
  );
  server.signal('SIGSTOP');
  onTestFinished(() => server.signal('SIGCONT'));
  for (const client of pinging) client.send(pingreqPacket);
  await delay(standstillMs);
  server.signal('SIGCONT');
  await until('the silent client is disconnected', () => silent?.closed === true);
  for (const client of pinging) expect(client.received.map(({ type }) => type)).toEqual([2, 13]);
});
