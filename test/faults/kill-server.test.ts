import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { numbersByClient, type Publisher, readStored, startPublisher } from '../support/load.js';
import { inCi } from '../support/rounds.js';
import { addDevice, addDevices, expectUnanswered, startGateway, until } from './gateway.js';

const clients = 20;
const perClient = inCi(1_000, 300);
const everything = clients * perClient;

const total = (publishers: readonly Publisher[]) =>
  publishers.reduce((sum, publisher) => sum + publisher.acknowledged.size, 0);

interface Kills {
  readonly killed: 'server' | 'server and NATS';
  readonly qos: 1 | 2;
  readonly kills: number;
  readonly ingest: 'batch' | 'plain';
  readonly workers?: number;
}

const series: readonly Kills[] = [
  { killed: 'server', qos: 1, kills: 4, ingest: 'batch' },
  { killed: 'server', qos: 2, kills: 3, ingest: 'batch' },
  { killed: 'server', qos: 1, kills: 2, ingest: 'plain' },
  // The process that starts the workers, which end with it.
  { killed: 'server', qos: 1, kills: 2, ingest: 'batch', workers: 2 },
  { killed: 'server', qos: 2, kills: 2, ingest: 'batch', workers: 2 },
  // What the dead server had written is not read by anyone: only what NATS has stored is there.
  { killed: 'server and NATS', qos: 1, kills: 3, ingest: 'batch' },
  { killed: 'server and NATS', qos: 2, kills: 2, ingest: 'batch' },
  { killed: 'server and NATS', qos: 1, kills: 2, ingest: 'plain' },
];
const few: readonly Kills[] = [
  { killed: 'server', qos: 1, kills: 2, ingest: 'batch' },
  { killed: 'server and NATS', qos: 2, kills: 1, ingest: 'batch' },
];

test.for(inCi<readonly Kills[]>(series, few).map((each) => ({ workers: 1, ...each })))(
  '$killed killed under thousands of messages of QoS $qos, $kills times, NATS_INGEST=$ingest, WORKERS=$workers: whatever was acknowledged is stored, in order',
  { timeout: 300_000 },
  async ({ killed, qos, kills, ingest, workers }, { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished, {
      env: { NATS_INGEST: ingest, WORKERS: String(workers) },
    });
    const devices = await addDevices(gateway.server.httpPort, clients);
    const probe = await addDevice(gateway.server.httpPort);
    const publishers = devices.map((device) =>
      startPublisher({ port: () => gateway.server.mqttPort, device, qos, count: perClient, window: 50 }),
    );
    onTestFinished(() => {
      for (const publisher of publishers) publisher.destroy();
    });
    const stored = async () =>
      numbersByClient(
        (await readStored(gateway.nats.url)).filter(({ subject }) => subject !== `raw.${probe.id}`),
        publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
      );

    for (let kill = 0; kill < kills; kill += 1) {
      // At a random moment within this kill's share of the whole.
      const share = (everything * 0.8) / kills;
      const at = Math.round(share * kill) + randomInt(1, Math.round(share));
      await until(`${at} messages are acknowledged`, () => total(publishers) >= at);
      if (killed !== 'server') {
        await gateway.nats.pause();
        await expectUnanswered(onTestFinished, gateway.server.mqttPort, probe);
        await gateway.server.end('SIGKILL');
        await gateway.nats.kill();
        await gateway.nats.restart();
      }
      await gateway.server.end('SIGKILL');

      // What was acknowledged by now is stored by now, before anybody sends anything again.
      const present = await stored();
      for (const { clientId, acknowledged } of publishers) {
        const numbers = new Set(present.get(clientId)?.firsts);
        expect([...acknowledged].filter((number) => !numbers.has(number))).toEqual([]);
      }
      await gateway.restart();
    }
    await Promise.all(publishers.map(({ done }) => done));

    // One that was not connected yet at the first kill and done before the last has noticed none.
    expect(Math.max(...publishers.map(({ disconnects }) => disconnects))).toBeGreaterThan(0);
    const present = await stored();
    const expected = Array.from({ length: perClient }, (_, number) => number);
    for (const publisher of publishers) {
      expect(publisher.acknowledged.size).toBe(perClient);
      expect(present.get(publisher.clientId)?.firsts).toEqual(expected);
    }
  },
);
