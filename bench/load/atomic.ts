import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, headers, type Msg, type NatsConnection } from 'nats';
import { openHistogram } from './histogram.js';
import { makePayload } from './packets.js';
import type { PublisherResult, Snapshot } from './publisher.js';

export interface AtomicConfig {
  readonly natsUrl: string;
  /** One subject for each of the clients that it stands for; a batch has as many messages of each. */
  readonly subjects: readonly string[];
  readonly payloadBytes: number;
  readonly batchMessages: number;
  /** Batches at a time. */
  readonly batches: number;
}

/** A publisher of atomic batches (ADR-50) on the `nats` library, without MQTT: what group commit is held against. */
export function openAtomic(config: AtomicConfig) {
  const { subjects, batchMessages } = config;
  const latency = openHistogram();
  const numbers = new Uint32Array(subjects.length);
  const inbox = `_INBOX.${randomBytes(8).toString('hex')}`;
  const sentAtMs = new Map<number, number>();
  let connection: NatsConnection | undefined;
  let lastBatch = 0;
  let done = 0;
  let strayed = 0;
  let running = false;

  function onAnswer(error: Error | null, answer: Msg): void {
    const batch = Number(answer.subject.slice(answer.subject.lastIndexOf('.') + 1));
    const atMs = sentAtMs.get(batch);
    // The first message of a batch is answered, too, without content.
    if (error === null && answer.data.length === 0 && answer.headers === undefined) return;
    sentAtMs.delete(batch);
    const { count } = error === null && answer.data.length > 0 ? answer.json<{ count?: number }>() : {};
    if (count !== batchMessages || atMs === undefined) {
      strayed += 1;
      return;
    }
    latency.record((performance.now() - atMs) * 1_000);
    done += count;
    if (running) sendBatch();
  }

  function sendBatch(): void {
    lastBatch += 1;
    sentAtMs.set(lastBatch, performance.now());
    for (let sequence = 1; sequence <= batchMessages; sequence += 1) {
      const client = (sequence - 1) % subjects.length;
      const payload = makePayload(client, config.payloadBytes);
      payload.writeUInt32BE(numbers[client] as number, 4);
      numbers[client] = (numbers[client] as number) + 1;
      const head = headers();
      head.set('Nats-Batch-Id', `${inbox.slice(-12)}-${lastBatch}`);
      head.set('Nats-Batch-Sequence', String(sequence));
      const isLast = sequence === batchMessages;
      if (isLast) head.set('Nats-Batch-Commit', '1');
      const reply = isLast ? { reply: `${inbox}.${lastBatch}` } : {};
      connection?.publish(subjects[client] as string, payload, { headers: head, ...reply });
    }
  }

  const sent = () => lastBatch * batchMessages;
  return {
    async connect(): Promise<void> {
      connection = await connect({ servers: config.natsUrl.split(',') });
      connection.subscribe(`${inbox}.*`, { callback: onAnswer });
      await connection.flush();
    },
    start(): void {
      running = true;
      for (let batch = 0; batch < config.batches; batch += 1) sendBatch();
    },
    snapshot: (): Snapshot => ({ atMs: performance.now(), sent: sent(), done }),
    clearLatency: () => latency.clear(),
    latency: (): number[] => latency.toJson(),
    async finish(request: { timeoutMs: number }): Promise<PublisherResult> {
      running = false;
      const endMs = performance.now() + request.timeoutMs;
      while (sentAtMs.size > 0 && performance.now() < endMs) await delay(10);
      const unacknowledged = sentAtMs.size * batchMessages;
      const sentBy = [...numbers.entries()];
      return { sent: sent(), done, strayed, disconnected: 0, pings: 0, pongs: 0, unacknowledged, sentBy };
    },
    async close(): Promise<void> {
      await connection?.close();
    },
  };
}
