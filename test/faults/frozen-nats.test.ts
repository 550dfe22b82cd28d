import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { numbersByClient, type Publisher, readStored, startPublisher } from '../support/load.js';
import { publishPacket } from '../support/raw-client.js';
import { inCi } from '../support/rounds.js';
import { addDevices, connected, mebibyte, startGateway, until } from './gateway.js';

/** How long NATS is away: in CI as the promise says, else still longer than what the server takes for silence. */
const awayMs = inCi(30_000, 20_000);
const sampleMs = 500;
/** Above what clients and server are late on a busy machine, below how long NATS is away. */
const keepaliveSec = 10;
const maxInFlightBytes = 16 * mebibyte;
/** What a process may grow by for other reasons than the messages that wait. */
const toleratedBytes = 64 * mebibyte;

describe.concurrent('NATS away under load: nothing acknowledged, nobody disconnected, memory flat, all delivered', () => {
  test.for([
    {
      how: 'frozen',
      ingest: 'batch',
      stop: (nats) => nats.pause(),
      back: async (nats) => nats.resume(),
    },
    {
      how: 'ended',
      ingest: 'plain',
      stop: (nats) => nats.halt(),
      back: (nats) => nats.restart(),
    },
  ] as {
    how: string;
    ingest: 'batch' | 'plain';
    stop(nats: Awaited<ReturnType<typeof startGateway>>['nats']): Promise<void>;
    back(nats: Awaited<ReturnType<typeof startGateway>>['nats']): Promise<void>;
  }[])(
    '$how, NATS_INGEST=$ingest',
    { timeout: 300_000 },
    async ({ stop, back, ingest }, { onTestFinished }) => {
      const gateway = await startGateway(onTestFinished, {
        env: {
          MAX_IN_FLIGHT_BYTES: String(maxInFlightBytes),
          PUBLISH_TIMEOUT_SEC: '2',
          NATS_INGEST: ingest,
        },
      });
      const { server } = gateway;
      const port = () => server.mqttPort;
      const start = (options: Omit<Parameters<typeof startPublisher>[0], 'port' | 'qos' | 'count'>) => {
        const publisher = startPublisher({ port, qos: 1, count: Number.POSITIVE_INFINITY, ...options });
        onTestFinished(() => publisher.destroy());
        return publisher;
      };
      const [dropping, ...devices] = await addDevices(server.httpPort, 25);
      if (dropping === undefined) throw new Error('no device');
      // Ordinary clients, which ping and would be disconnected after 15 s of what the server takes for silence.
      const pinging = devices
        .slice(0, 20)
        .map((device) => start({ device, window: 20, keepaliveSec, pingEveryMs: 1_000 }));
      // Clients that send more than the server will hold for them: they are not read, and not disconnected for it. They
      // ping as well: when all they sent is read, they are silent until it is stored.
      const greedy = devices
        .slice(20)
        .map((device) =>
          start({ device, window: 4_000, payloadBytes: 4_096, keepaliveSec, pingEveryMs: 1_000 }),
        );
      const publishers = [...pinging, ...greedy];
      const total = () => publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);
      const unconfirmed = await connected(onTestFinished, server.mqttPort, dropping);
      const sendUnconfirmed = () => {
        if (unconfirmed.socket.writableLength > mebibyte) return;
        const message = publishPacket({ topic: `raw/${dropping.id}`, payload: Buffer.alloc(1_024, 'x') });
        unconfirmed.send(Buffer.concat(Array.from({ length: 200 }, () => message)));
      };
      const flood = setInterval(sendUnconfirmed, 20);
      onTestFinished(() => clearInterval(flood));
      await until('the load runs', () => total() >= inCi(20_000, 5_000));

      const before = server.residentBytes();
      await stop(gateway.nats);
      await until(
        'the server knows that NATS is away',
        async () => (await server.readiness()).nats === 'failed',
      );
      const acknowledgedBefore = total();
      const pingsBefore = pinging.map(({ pings }) => pings.answered);
      let most = before;
      for (let sample = 0; sample < awayMs / sampleMs; sample += 1) {
        await delay(sampleMs);
        most = Math.max(most, server.residentBytes());
      }
      expect(total()).toBe(acknowledgedBefore);
      expect(await server.readiness()).toMatchObject({ status: 503, nats: 'failed', database: 'ok' });

      await back(gateway.nats);
      await until('messages are acknowledged again', () => total() > acknowledgedBefore);
      clearInterval(flood);
      for (const publisher of publishers) publisher.finish();
      await Promise.all(publishers.map(({ done }) => done));

      expect(disconnectsOf(publishers)).toBe(0);
      expect(unconfirmed.closed).toBe(false);
      for (const [index, { pings }] of pinging.entries()) {
        expect(pings.answered - (pingsBefore[index] ?? 0)).toBeGreaterThan(awayMs / 1_000 / 5);
        expect(pings.longestMs).toBeLessThan(keepaliveSec * 1_000);
      }
      expect((most - before) / mebibyte).toBeLessThan((maxInFlightBytes + toleratedBytes) / mebibyte);
      const everyone = [...publishers.map(({ clientId }) => clientId)].map((clientId) => ({
        clientId,
        deviceId: clientId,
      }));
      const messages = await readStored(gateway.nats.url);
      const stored = numbersByClient(
        messages.filter(({ subject }) => subject !== `raw.${dropping.id}`),
        everyone,
      );
      for (const { clientId, acknowledged, sent } of publishers) {
        expect(acknowledged.size).toBe(sent);
        expect(stored.get(clientId)?.firsts).toEqual(Array.from({ length: sent }, (_, number) => number));
      }
    },
  );
});

function disconnectsOf(publishers: readonly Publisher[]): number {
  return publishers.reduce((sum, { disconnects }) => sum + disconnects, 0);
}
