import { setTimeout as delay } from 'node:timers/promises';
import { openHistogram } from './histogram.js';
import type { Dialect, Identity } from './packets.js';
import { openPublishClient, type PublishClient, type Tally } from './publish-client.js';

export interface PublisherConfig {
  readonly port: number;
  readonly identities: readonly Identity[];
  /** Number of the first client: it stands in every payload. */
  readonly firstIndex: number;
  readonly qos: number;
  readonly payloadBytes: number;
  /** Messages in flight of each client. */
  readonly window: number;
  /** Messages a second of all clients together; undefined: as many as are acknowledged. */
  readonly ratePerSec: number | undefined;
  /** Default: 3.1.1. */
  readonly dialect?: Dialect | undefined;
  /** Clients have sessions that outlive their connections; default: clean ones. */
  readonly session?: boolean | undefined;
}

/** Where a load stands. */
export interface Snapshot {
  readonly atMs: number;
  readonly sent: number;
  readonly done: number;
}

export interface PublisherResult extends Tally {
  /** Messages never acknowledged. */
  readonly unacknowledged: number;
  /** Messages sent by each client, by number of the client. */
  readonly sentBy: readonly [client: number, messages: number][];
}

const connectsAtOnce = 100;

/** Clients that publish as fast as their window lets them, or at a given rate. */
export function openPublisher(config: PublisherConfig) {
  const latency = openHistogram();
  const tally: Tally = { sent: 0, done: 0, strayed: 0, disconnected: 0, pings: 0, pongs: 0 };
  let clients: PublishClient[] = [];
  let pacing: NodeJS.Timeout | undefined;

  function startPacing(ratePerSec: number): void {
    const startMs = performance.now();
    let given = 0;
    let next = 0;
    pacing = setInterval(() => {
      const due = Math.floor(((performance.now() - startMs) * ratePerSec) / 1_000);
      for (; given < due; given += 1) {
        clients[next]?.send(1);
        next = (next + 1) % clients.length;
      }
    }, 1);
  }

  return {
    async connect(): Promise<void> {
      for (let from = 0; from < config.identities.length; from += connectsAtOnce) {
        const batch = config.identities.slice(from, from + connectsAtOnce).map((identity, offset) =>
          openPublishClient({
            ...config,
            index: config.firstIndex + from + offset,
            identity,
            tally,
            latency,
          }),
        );
        clients = [...clients, ...batch];
        for (const client of batch) {
          const code = await client.connected;
          if (code !== 0) throw new Error(`a client was not let in: return code ${code}`);
        }
      }
    },
    start(): void {
      if (config.ratePerSec !== undefined) {
        startPacing(config.ratePerSec);
        return;
      }
      for (const client of clients) {
        client.refilling = true;
        client.send(config.window);
      }
    },
    snapshot: (): Snapshot => ({ atMs: performance.now(), sent: tally.sent, done: tally.done }),
    clearLatency: () => latency.clear(),
    latency: (): number[] => latency.toJson(),
    /** Pings on every connection; answers the number of answers within the time. */
    async ping(request: { timeoutMs: number }): Promise<{ pings: number; pongs: number }> {
      const before = { pings: tally.pings, pongs: tally.pongs };
      for (const client of clients) client.ping();
      const endMs = performance.now() + request.timeoutMs;
      while (tally.pongs - before.pongs < tally.pings - before.pings && performance.now() < endMs)
        await delay(10);
      return { pings: tally.pings - before.pings, pongs: tally.pongs - before.pongs };
    },
    /** Sends no more and waits for what is in flight. */
    async finish(request: { timeoutMs: number }): Promise<PublisherResult> {
      clearInterval(pacing);
      for (const client of clients) client.refilling = false;
      const endMs = performance.now() + request.timeoutMs;
      const inFlight = () => clients.reduce((sum, client) => sum + client.inFlight, 0);
      while (inFlight() > 0 && tally.disconnected === 0 && performance.now() < endMs) await delay(10);
      return {
        ...tally,
        unacknowledged: inFlight(),
        sentBy: clients.map((client, index) => [config.firstIndex + index, client.sent]),
      };
    },
    close(): void {
      for (const client of clients) client.close();
    },
  };
}
