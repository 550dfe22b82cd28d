import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type Msg, type NatsConnection } from 'nats';
import { openHistogram } from './histogram.js';
import { makePayload } from './packets.js';
import type { PublisherResult, Snapshot } from './publisher.js';

export interface DirectConfig {
  readonly natsUrl: string;
  /** One subject for each of the clients that it stands for. */
  readonly subjects: readonly string[];
  /** They are parted among so many. */
  readonly connections: number;
  readonly payloadBytes: number;
  /** Messages in flight of each subject. */
  readonly window: number;
  readonly ratePerSec: number | undefined;
}

/**
 * A publisher to JetStream on the `nats` library with one inbox for all confirmations: what a back-end service could do
 * at best. It keeps as many messages in flight as all clients of the gateway together.
 */
export function openDirect(config: DirectConfig) {
  const { subjects, window } = config;
  const slots = subjects.length * window;
  const latency = openHistogram();
  // The library keeps a payload until it writes, so each message in flight has bytes of its own.
  const payloads = Array.from({ length: slots }, (_, slot) =>
    makePayload(Math.floor(slot / window), config.payloadBytes),
  );
  const numbers = new Uint32Array(subjects.length);
  const sentAtMs = new Float64Array(slots);
  const free = subjects.map((_, client) =>
    Array.from({ length: window }, (_, each) => client * window + each),
  );
  const inbox = `_INBOX.${randomBytes(8).toString('hex')}`;
  const connections: NatsConnection[] = [];
  let sent = 0;
  let done = 0;
  let strayed = 0;
  let running = false;
  let pacing: NodeJS.Timeout | undefined;

  function onAnswer(error: Error | null, answer: Msg): void {
    const text = Buffer.from(answer.data.buffer, answer.data.byteOffset, answer.data.length);
    if (error !== null || !text.includes('"seq":') || text.includes('"error"')) {
      strayed += 1;
      return;
    }
    const slot = Number(answer.subject.slice(answer.subject.lastIndexOf('.') + 1));
    const client = Math.floor(slot / window);
    latency.record((performance.now() - (sentAtMs[slot] as number)) * 1_000);
    free[client]?.push(slot);
    done += 1;
    if (running && config.ratePerSec === undefined) send(client);
  }

  /** Sends a client's next message, if fewer than its window are in flight. */
  function send(client: number): void {
    const slot = free[client]?.pop();
    if (slot === undefined) return;
    const payload = payloads[slot] as Buffer;
    payload.writeUInt32BE(numbers[client] as number, 4);
    numbers[client] = (numbers[client] as number) + 1;
    sentAtMs[slot] = performance.now();
    const connection = connections[client % connections.length];
    connection?.publish(subjects[client] as string, payload, {
      reply: `${inbox}.${client % connections.length}.${slot}`,
    });
    sent += 1;
  }

  return {
    async connect(): Promise<void> {
      for (let index = 0; index < config.connections; index += 1) {
        const connection = await connect({ servers: config.natsUrl });
        connection.subscribe(`${inbox}.${index}.*`, { callback: onAnswer });
        await connection.flush();
        connections.push(connection);
      }
    },
    start(): void {
      running = true;
      const { ratePerSec } = config;
      if (ratePerSec === undefined) {
        for (const client of subjects.keys()) for (let each = 0; each < window; each += 1) send(client);
        return;
      }
      const startMs = performance.now();
      let given = 0;
      pacing = setInterval(() => {
        const due = Math.floor(((performance.now() - startMs) * ratePerSec) / 1_000);
        for (; given < due; given += 1) send(given % subjects.length);
      }, 1);
    },
    snapshot: (): Snapshot => ({ atMs: performance.now(), sent, done }),
    clearLatency: () => latency.clear(),
    latency: (): number[] => latency.toJson(),
    async finish(request: { timeoutMs: number }): Promise<PublisherResult> {
      running = false;
      clearInterval(pacing);
      const endMs = performance.now() + request.timeoutMs;
      while (done < sent && performance.now() < endMs) await delay(10);
      const unacknowledged = sent - done;
      const sentBy = [...numbers.entries()];
      return { sent, done, strayed, disconnected: 0, pings: 0, pongs: 0, unacknowledged, sentBy };
    },
    async close(): Promise<void> {
      await Promise.all(connections.map((connection) => connection.close()));
    },
  };
}
