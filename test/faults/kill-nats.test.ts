import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { numbersByClient, readStored, startPublisher } from '../support/load.js';
import { inCi } from '../support/rounds.js';
import { addDevice, addDevices, expectUnanswered, startGateway, until } from './gateway.js';

const clients = 20;
const perClient = inCi(1_000, 300);
const kills = inCi(4, 2);

const series = [
  { qos: 1, ingest: 'batch' },
  { qos: 2, ingest: 'plain' },
  { qos: 2, ingest: 'batch' },
  { qos: 1, ingest: 'plain' },
] as const;

test.for(series.slice(0, inCi(4, 2)))(
  'nats-server killed under thousands of messages of QoS $qos, NATS_INGEST=$ingest: no client notices, and all is stored in order',
  { timeout: 300_000 },
  async ({ qos, ingest }, { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished, { env: { NATS_INGEST: ingest } });
    const devices = await addDevices(gateway.server.httpPort, clients);
    const probe = await addDevice(gateway.server.httpPort);
    const publishers = devices.map((device) =>
      startPublisher({ port: () => gateway.server.mqttPort, device, qos, count: perClient, window: 50 }),
    );
    onTestFinished(() => {
      for (const publisher of publishers) publisher.destroy();
    });
    const total = () => publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);

    for (let kill = 0; kill < kills; kill += 1) {
      const share = (clients * perClient * 0.8) / kills;
      const at = Math.round(share * kill) + randomInt(1, Math.round(share));
      await until(`${at} messages are acknowledged`, () => total() >= at);
      await gateway.nats.kill();
      await until('the server says so', async () => (await gateway.server.readiness()).nats === 'failed');
      await expectUnanswered(onTestFinished, gateway.server.mqttPort, probe);
      await gateway.nats.restart();
    }
    await Promise.all(publishers.map(({ done }) => done));

    const stored = numbersByClient(
      (await readStored(gateway.nats.url)).filter(({ subject }) => subject !== `raw.${probe.id}`),
      publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
    );
    const expected = Array.from({ length: perClient }, (_, number) => number);
    for (const { clientId, acknowledged, disconnects } of publishers) {
      expect(disconnects).toBe(0);
      expect(acknowledged.size).toBe(perClient);
      expect(stored.get(clientId)?.firsts).toEqual(expected);
      // Exactly once is what QoS 2 is for.
      if (qos === 2) expect(stored.get(clientId)?.repeated).toBe(0);
    }
    await until('all is well', async () => (await gateway.server.readiness()).status === 200);
  },
);
