import { randomBytes } from 'node:crypto';
import { withFastGetters } from '../../fast-getters.js';
import type { Msg } from '../connection/nats-library.js';
import { type NatsWire, noWire } from '../connection/nats-wire.js';
import { type ForwarderCounters, natsBytesOf, type UplinkMessage } from '../forwarder.js';
import type { InFlight } from '../lanes/in-flight.js';
import type { PubAck } from '../pub-ack.js';
import { openBatchWorth } from './batch-worth.js';

/** Bounds of nats-server: messages of an atomic batch, and what its headers add to each of them. */
const maxMessages = 1_000;
const batchHeaderBytes = 96;
/** Fewer messages that were sent are not worth letting go of before the others. */
const leastDropped = 32;
/** What a batch holds in the memory of gateway and server until it is committed. */
const maxBytes = 1_048_576;
/** A stream takes 50 batches at a time, from all replicas together; the second one is there when the first is stored. */
const maxUnderWay = 2;

/** The group of what goes to another stream than that of NATS_SUBJECT. */
const elsewhere = -1;

/** JetStream's code for "atomic publish is disabled". */
const disabledCode = '10174 ';

interface Batch {
  /** 0: messages that go by themselves. */
  readonly number: number;
  readonly messages: UplinkMessage[];
  readonly tokens: number[];
  /** So many of them have been sent. */
  sent: number;
  bytes: number;
  sentAtMs: number;
  /** As `InFlight.sentAtMs` says it of its messages. */
  departedAtMs: number;
}

/**
 * Decides how messages leave, so that a stream that takes long for each, as one that syncs to disk before it answers, stores
 * many and is not flooded. No more are under way than the stream stores in a moment (`store-pace.ts`). What waits meanwhile
 * goes as an atomic batch (ADR-50, `allow_atomic`; nats-server syncs once for each from 2.15 on) where that is cheaper than its messages by
 * themselves, which is measured. The answer to a batch is exactly as strong as one to each message: all of it is stored, or nothing.
 *
 * Nothing waits for company: a message that finds the stream idle goes at once and alone. The messages of a refused
 * batch are sent by themselves, so that the one at fault is alone to suffer.
 *
 * @param options.inbox answers to batches come to `<inbox>.<number>.c`.
 * @param options.timeoutMs the stream is late when it has not answered for so long.
 * @param options.onUnavailable the stream takes no batches any more.
 */
export function openGroupCommit(options: {
  inbox: string;
  /** Says of each answer what it means, and whether it is the stream's. */
  readAnswer(answer: Msg): PubAck;
  timeoutMs: number;
  /** Whatever waits goes in batches: nothing is measured. */
  always: boolean;
  settle: {
    readonly confirmed: Pick<InFlight, 'settleStored' | 'departed' | 'underWay' | 'sentAtMs' | 'nowMs'>;
    readonly counters: ForwarderCounters;
  };
  /** Largest message with headers that the stream takes, bytes. */
  maxMessageBytes(): number;
  onUnavailable(reason: string): void;
}) {
  const { settle, maxMessageBytes } = options;
  const name = randomBytes(6).toString('hex');
  const prefix = Buffer.from(`${options.inbox}.`);
  /** One object for all messages, and one for all batches: nothing keeps them. */
  const replyTo = { prefix, token: 0, suffix: new Uint8Array() };
  const replyToBatch = { prefix, token: 0, suffix: Buffer.from('.c') };
  let wire = noWire;
  const worth = openBatchWorth(options.always);

  /** Oldest first; messages join the last one. */
  let waiting: Batch[] = [];
  const underWay = new Map<number, Batch>();
  /** Messages of the batches under way. */
  let committing = 0;
  let lastNumber = 0;
  /** Since the last flush a lane was told of the next batch, which it joins once what it has under way is settled. */
  let promised = false;
  let scheduled = false;

  /** When a message was sent last though the stream was late. */
  let lateProbeAtMs = 0;

  const singles = () => Math.max(settle.confirmed.underWay - committing, 0);

  /** The last batch, or those that go by themselves, when the next message may join it. */
  function joinable(batched: boolean): Batch | undefined {
    const last = waiting.at(-1);
    if (last === undefined || (last.number !== 0) !== batched) return undefined;
    return !batched || (last.messages.length < maxMessages && last.bytes < maxBytes) ? last : undefined;
  }

  function joined(batched: boolean): Batch {
    const last = joinable(batched);
    if (last !== undefined) return last;
    if (batched) lastNumber += 1;
    const batch = {
      number: batched ? lastNumber : 0,
      messages: [],
      tokens: [],
      sent: 0,
      bytes: 0,
      sentAtMs: 0,
      departedAtMs: 0,
    };
    waiting.push(batch);
    return batch;
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      flush();
    });
  }

  function flush(): void {
    promised = false;
    try {
      while (waiting.length > 0 && sendSome(waiting[0] as Batch));
      wire.flush();
    } catch {
      // The connection has just ended. The link will say so, and then everything unconfirmed is sent again.
    }
  }

  /** Sends the oldest batch or a part of it; answers whether the next one may be tried. */
  function sendSome(batch: Batch): boolean {
    const count = batch.messages.length - batch.sent;
    if (count === 0) {
      waiting.shift();
      return true;
    }
    if (batch.number !== 0 && worth.pays(count)) {
      if (underWay.size >= maxUnderWay) return false;
      waiting.shift();
      commit(batch);
      return true;
    }
    if (batch.number !== 0 && underWay.size > 0) return false;
    const room = worth.window - singles();
    if (room < count) {
      if (room > 0) sendSingly(batch, room);
      return false;
    }
    // It is let go of when all of it is sent: what is given meanwhile comes behind it.
    sendSingly(batch, count);
    return true;
  }

  function publishSingly(message: UplinkMessage, token: number): void {
    replyTo.token = token;
    wire.publish(message, replyTo);
  }

  function commit(batch: Batch): void {
    const { number } = batch;
    const nowMs = performance.now();
    const messages: UplinkMessage[] = [];
    const tokens: number[] = [];
    for (let index = batch.sent; index < batch.messages.length; index += 1) {
      const message = batch.messages[index] as UplinkMessage;
      const token = batch.tokens[index] ?? 0;
      if (!settle.confirmed.departed(token)) continue;
      // By the policy of now it may be another stream's, which this one would refuse the whole batch for. All of a client's
      // messages have the same policy, so none comes before another.
      if (!message.batchable) {
        publishSingly(message, token);
        continue;
      }
      messages.push(message);
      tokens.push(token);
    }
    if (tokens.length === 0) return;
    worth.abandon();
    underWay.set(number, {
      ...batch,
      messages,
      tokens,
      sent: 0,
      sentAtMs: nowMs,
      departedAtMs: settle.confirmed.nowMs,
    });
    committing += tokens.length;
    const place = { id: Buffer.from(`${name}-${number}`), sequence: 0, last: false };
    replyToBatch.token = number;
    for (const message of messages) {
      place.sequence += 1;
      place.last = place.sequence === messages.length;
      wire.publish(message, place.last ? replyToBatch : undefined, place);
    }
  }

  /** Sends the next messages of a batch by themselves. Those that are not to be sent any more do not count. */
  function sendSingly(batch: Batch, count: number): void {
    let left = count;
    while (left > 0 && batch.sent < batch.messages.length) {
      const message = batch.messages[batch.sent] as UplinkMessage;
      const token = batch.tokens[batch.sent] ?? 0;
      batch.sent += 1;
      if (!settle.confirmed.departed(token)) continue;
      publishSingly(message, token);
      left -= 1;
      if (left === 0 && underWay.size === 0 && message.batchable) worth.noteSingle(token, singles());
    }
    if (batch.sent >= leastDropped && 2 * batch.sent >= batch.messages.length) drop(batch);
  }

  /** Lets go of what has been sent. */
  function drop(batch: Batch): void {
    batch.messages.splice(0, batch.sent);
    batch.tokens.splice(0, batch.sent);
    batch.sent = 0;
  }

  function end(batch: Batch): void {
    underWay.delete(batch.number);
    committing -= batch.tokens.length;
  }

  /** While the stream is late, no more than one message is sent in the time after which others are late. */
  function sendLate(nowMs: number): void {
    const [first] = waiting;
    if (first === undefined || nowMs - lateProbeAtMs < options.timeoutMs) return;
    lateProbeAtMs = nowMs;
    sendSingly(first, 1);
  }

  /** All its messages were given up for lost, or are on their way anew. */
  function isGone({ tokens, departedAtMs }: Batch): boolean {
    return tokens.every((token) => settle.confirmed.sentAtMs(token) !== departedAtMs);
  }

  /** Nothing of the batch is stored. */
  function refuse(batch: Batch, detail: string, forGood: boolean): void {
    const takesNone = forGood && worth.allowed;
    worth.noteRefused(forGood);
    if (takesNone) options.onUnavailable(detail);
    sendSingly(batch, batch.messages.length);
  }

  return withFastGetters({
    /** What waits goes in batches now. */
    get gathering() {
      return worth.gathering;
    },
    /**
     * The batch that a message sent now becomes a part of; 0 when it goes by itself; `elsewhere` when it goes to another stream, which
     * neither waits for what is held nor may go ahead of its client's others.
     *
     * @param again it was sent before and may be stored: its identifier would make the stream refuse a whole batch.
     */
    groupOf(message: UplinkMessage, again: boolean): number {
      if (!message.batchable) return elsewhere;
      if (!worth.allowed || again || message.repeated === true) return 0;
      const room = promised ? 1 : worth.window;
      if (waiting.length === 0 && underWay.size === 0 && settle.confirmed.underWay < room) return 0;
      if (natsBytesOf(message) + batchHeaderBytes > maxMessageBytes()) return 0;
      promised = true;
      return joinable(true)?.number ?? lastNumber + 1;
    },
    /**
     * Sends a message, or keeps it until there is room or its batch leaves. Answers whether it was sent.
     *
     * @param group what `groupOf` has just answered.
     */
    send(message: UplinkMessage, token: number, group: number): boolean {
      // Another stream than that of NATS_SUBJECT is not measured, and neither slows it nor waits for it.
      if (group === elsewhere) {
        publishSingly(message, token);
        return true;
      }
      const alone = singles();
      if (group === 0 && waiting.length === 0 && alone < worth.window) {
        publishSingly(message, token);
        if (underWay.size === 0) worth.noteSingle(token, alone + 1);
        return true;
      }
      const batch = joined(group !== 0);
      batch.messages.push(message);
      batch.tokens.push(token);
      batch.bytes += natsBytesOf(message);
      schedule();
      return false;
    },
    /** The answer to a batch. */
    settle(answer: Msg): void {
      const batch = underWay.get(Number(answer.subject.split('.').at(-2)));
      if (batch === undefined) return;
      const ack = options.readAnswer(answer);
      if (ack.kind === 'other' || ack.kind === 'elsewhere') return;
      end(batch);
      if (ack.kind === 'refused') {
        refuse(batch, ack.detail, ack.cause.startsWith(disabledCode));
      } else if (countOf(answer) === batch.tokens.length) {
        settle.counters.batches += 1;
        settle.counters.batched += batch.tokens.length;
        worth.noteStored(batch.tokens.length, batch.sentAtMs);
        for (const [index, token] of batch.tokens.entries())
          settle.confirmed.settleStored(token, answer.data, batch.tokens.length - 1 - index);
      } else {
        // A server that knows no batches stores what it gets; only of the last message it said so.
        refuse(batch, 'the stream confirms each message of a batch', true);
      }
      flush();
    },
    /** NATS let these not through. */
    noteDenied(tokens: readonly number[]): void {
      const denied = new Set(tokens);
      for (const batch of [...underWay.values()]) {
        // Without its last message a batch is never stored, nor answered; without another one it is refused.
        if (!denied.has(batch.tokens.at(-1) ?? 0)) continue;
        end(batch);
        refuse(batch, 'NATS let the last message of a batch not through', false);
      }
      flush();
    },
    /** A message that went by itself was answered. */
    noteAnswer(token: number): void {
      worth.noteAnswer(token);
      if (waiting.length > 0 || promised) schedule();
    },
    noteLate: worth.noteLate,
    setWay: worth.setWay,
    /** @param problem why the stream takes no batches, or undefined. */
    restart: (problem: string | undefined) => worth.restart(problem === undefined),
    connected(newWire: NatsWire): void {
      wire = newWire;
    },
    /** What is held and what is under way is forgotten, and has to be given again. */
    disconnected(): void {
      waiting = [];
      promised = false;
      underWay.clear();
      committing = 0;
      worth.abandon();
    },
    tick(nowMs: number): void {
      for (const batch of underWay.values()) if (isGone(batch)) end(batch);
      const held = waiting.reduce((sum, { messages, sent }) => sum + messages.length - sent, 0);
      const { late } = worth;
      worth.tick(nowMs, options.timeoutMs, held + settle.confirmed.underWay, underWay.size > 0);
      if (worth.late && !late) lateProbeAtMs = nowMs - options.timeoutMs;
      if (worth.late) sendLate(nowMs);
      flush();
    },
  });
}

/** How many messages of its batch an answer says are stored. */
function countOf(answer: Msg): number | undefined {
  const { batch, count } = answer.json<{ batch?: unknown; count?: unknown }>();
  return batch !== undefined && typeof count === 'number' ? count : undefined;
}
