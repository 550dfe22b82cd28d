import { setTimeout as delay } from 'node:timers/promises';
import { fillByte, type Identity, stampBytes } from './load/packets.js';
import type { PublisherResult } from './load/publisher.js';
import { readStreamMessages, withNats } from './systems/nats.js';
import type { NatsAccess } from './systems/system.js';

export interface Verification {
  readonly verified: string;
  readonly stored: number;
  readonly problems: string[];
}

const settleWithinMs = 20_000;
const readAheadBytes = 8_388_608;

/**
 * Compares what a publisher says was acknowledged with what the stream holds.
 *
 * @param options.extraMessages messages of other loads that are in the stream as well.
 * @param options.contents reads every message and checks that each client's are all there, whole and in order.
 * @param options.lossy QoS 0: what is missing is told, and no problem.
 */
export async function verifyStream(
  nats: NatsAccess,
  options: {
    result: PublisherResult;
    identities: readonly Identity[];
    firstIndex: number;
    payloadBytes: number;
    extraMessages: number;
    contents: boolean;
    lossy: boolean;
  },
): Promise<Verification> {
  const { result, lossy } = options;
  const stream = nats.stream as string;
  const sent = result.sent + options.extraMessages;
  const problems: string[] = [];
  let stored = -1;
  // Messages without acknowledgement may still be on their way.
  for (const endMs = performance.now() + settleWithinMs; performance.now() < endMs; await delay(250)) {
    const now = await readStreamMessages(nats.url, stream);
    if (now >= sent || (now === stored && !lossy)) {
      stored = now;
      break;
    }
    if (now === stored && lossy) break;
    stored = now;
  }
  const acknowledged = result.done + options.extraMessages;
  if (!lossy && stored < acknowledged)
    problems.push(`${acknowledged - stored} of ${acknowledged} acknowledged messages are not in the stream`);
  if (!lossy && result.unacknowledged === 0 && stored !== sent)
    problems.push(`${stored} messages are in the stream and ${sent} were sent`);
  let verified = `${stored} of ${sent} in the stream`;
  if (options.contents && problems.length === 0) {
    const found = await checkContents(nats, stored, options);
    problems.push(...found);
    if (found.length === 0) verified += ', contents and order right';
  }
  return { verified, stored, problems };
}

/** Reads the whole stream; answers what is wrong, at most a few sentences. */
async function checkContents(
  nats: NatsAccess,
  messages: number,
  options: {
    result: PublisherResult;
    identities: readonly Identity[];
    firstIndex: number;
    payloadBytes: number;
  },
): Promise<string[]> {
  const next = new Map<number, number>(options.result.sentBy.map(([client]) => [client, 0]));
  const subjects = new Map(
    options.identities.map(({ id }, index) => [options.firstIndex + index, nats.subjectOf(id)]),
  );
  const wrong = { payload: 0, subject: 0, order: 0 };
  await withNats(nats.url, async (connection) => {
    const consumer = await connection.jetstream({ timeout: 30_000 }).consumers.get(nats.stream as string);
    let left = messages;
    // NATS ends the connection of a reader to whom more than 64 MiB are waiting to be sent.
    const batch = Math.min(5_000, Math.ceil(readAheadBytes / options.payloadBytes));
    if (left === 0) return;
    for await (const message of await consumer.consume({ max_messages: batch })) {
      const data = message.data;
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      const client = data.length >= stampBytes ? view.getUint32(0) : -1;
      const number = data.length >= stampBytes ? view.getUint32(4) : -1;
      if (data.length !== options.payloadBytes || !isFilled(data, client)) wrong.payload += 1;
      else if (message.subject !== subjects.get(client)) wrong.subject += 1;
      else if (next.get(client) !== number) wrong.order += 1;
      next.set(client, number + 1);
      left -= 1;
      if (left === 0) break;
    }
  });
  const problems: string[] = [];
  if (wrong.payload > 0) problems.push(`${wrong.payload} stored payloads are not what was sent`);
  if (wrong.subject > 0) problems.push(`${wrong.subject} messages are on another device's subject`);
  if (wrong.order > 0) problems.push(`${wrong.order} messages are out of order, missing or there twice`);
  for (const [client, count] of options.result.sentBy) {
    if (next.get(client) === count) continue;
    problems.push(`of client ${client} the stream ends at ${next.get(client)}, and ${count} were sent`);
    break;
  }
  return problems;
}

/** Whether the bytes after the stamp are those of the client; of large payloads a part is looked at. */
function isFilled(data: Uint8Array, client: number): boolean {
  const step = data.length > 1_024 ? 61 : 1;
  for (let at = stampBytes; at < data.length; at += step) {
    if (data[at] !== fillByte(client, at)) return false;
  }
  return true;
}
