import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { readStored } from '../support/load.js';
import type { ServerProcess } from '../support/server-process.js';
import { addDevices, startGateway, startReplica } from './gateway.js';
import { publishAll } from './qos2-client.js';

test('QoS 2 messages of clients with sessions are stored once each, through kills of the replicas in turn', async ({
  onTestFinished,
  annotate,
}) => {
  const gateway = await startGateway(onTestFinished);
  const replicas: (ServerProcess | undefined)[] = [
    gateway.server,
    await startReplica(onTestFinished, gateway),
  ];
  const devices = await addDevices(gateway.server.httpPort, 8);
  const messages = 400;
  let turn = 0;
  const port = () => {
    turn += 1;
    const up = replicas.filter((replica) => replica !== undefined);
    return (up[turn % up.length] as ServerProcess).mqttPort;
  };
  const publishers = devices.map((device, index) =>
    publishAll(port, device, messages, index % 2 === 0, onTestFinished),
  );
  const total = () => publishers.reduce((sum, { count }) => sum + count, 0);
  let kills = 0;
  for (let at = 1; at <= 4; at += 1) {
    while (total() < (at * messages * devices.length) / 6) await delay(5);
    const victim = at % 2;
    await replicas[victim]?.end('SIGKILL');
    replicas[victim] = undefined;
    kills += 1;
    replicas[victim] = await startReplica(onTestFinished, gateway);
  }
  await Promise.all(publishers.map(({ done }) => done));
  const stored = (await readStored(gateway.nats.url)).map(({ payload }) => payload);
  await annotate(`${stored.length} messages stored, ${kills} kills`);
  expect(new Set(stored).size).toBe(messages * devices.length);
  expect(stored).toHaveLength(messages * devices.length);
});
