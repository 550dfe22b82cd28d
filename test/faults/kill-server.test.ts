import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { numbersByClient, type Publisher, readStored, startPublisher } from '../support/load.js';
import { addDevices, type Gateway, type OnFinished, startGateway, until } from './gateway.js';

const clients = 20;
const perClient = 1_000;

async function startLoad(gateway: Gateway, qos: 1 | 2, onFinished: OnFinished): Promise<Publisher[]> {
  const devices = await addDevices(gateway.server.httpPort, clients);
  return devices.map((device) => {
    const publisher = startPublisher({
      port: () => gateway.server.mqttPort,
      device,
      qos,
      count: perClient,
      window: 50,
    });
    onFinished(() => publisher.destroy());
    return publisher;
  });
}

const total = (publishers: readonly Publisher[]) =>
  publishers.reduce((sum, publisher) => sum + publisher.acknowledged.size, 0);

test.for([
  { qos: 1, kills: 4 },
  { qos: 2, kills: 3 },
] as const)(
  'a server killed $kills times under 20,000 messages of QoS $qos has stored whatever it acknowledged, in order',
  { timeout: 90_000 },
  async ({ qos, kills }, { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished);
    const publishers = await startLoad(gateway, qos, onTestFinished);
    const everything = clients * perClient;

    for (let kill = 0; kill < kills; kill += 1) {
      // At a random moment within this kill's share of the whole.
      const share = (everything * 0.8) / kills;
      const at = Math.round(share * kill) + randomInt(1, Math.round(share));
      await until(`${at} messages are acknowledged`, () => total(publishers) >= at);
      await gateway.server.end('SIGKILL');

      // What was acknowledged by now is stored by now, before anybody sends anything again.
      const stored = numbersByClient(
        await readStored(gateway.nats.url),
        publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
      );
      for (const { clientId, acknowledged } of publishers) {
        const present = new Set(stored.get(clientId)?.firsts);
        expect([...acknowledged].filter((number) => !present.has(number))).toEqual([]);
      }
      await gateway.restart();
    }
    await Promise.all(publishers.map(({ done }) => done));

    const stored = numbersByClient(
      await readStored(gateway.nats.url),
      publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
    );
    const expected = Array.from({ length: perClient }, (_, number) => number);
    for (const publisher of publishers) {
      expect(publisher.acknowledged.size).toBe(perClient);
      expect(publisher.disconnects).toBeGreaterThan(0);
      expect(stored.get(publisher.clientId)?.firsts).toEqual(expected);
    }
  },
);
