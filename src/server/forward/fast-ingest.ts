import { randomBytes } from 'node:crypto';
import type { Msg } from 'nats';
import { type BatchAnswer, type BatchPlace, readBatchAnswer, readBatchPlace } from './batch-answer.js';
import type { UplinkMessage } from './forwarder.js';
import type { InFlight } from './in-flight.js';
import type { ReplyTo } from './nats-wire.js';
import type { Refusal } from './pub-ack.js';

/** Fewer messages in a turn are cheaper confirmed one by one: a batch is answered at its start and its end, and while it
 * is not the only one of its stream also at 1, 2, 4, 8 … messages between. */
const minBatchMessages = 16;
/** A longer turn makes several batches, so that NATS begins before the turn is over. */
const maxBatchMessages = 512;
/** Confirmations come at least every so many messages. */
const flowMessages = 128;
/** A stream takes 1,000 batches at a time, from all replicas together. */
const maxOpenBatches = 64;
/** nats-server forgets a batch that is silent for 10 s; an end that did not arrive by then does not come. */
const forgetAfterMs = 30_000;
/** The longest pause between two attempts of a lane is 5 s: while one is refused again and again, nothing is batched. */
const plainAfterRefusalMs = 10_000;

/** JetStream's code for "batch publish is disabled". */
const disabledCode = '10205 ';
const starts = Buffer.from('.0.$FI');
const appends = Buffer.from('.1.$FI');
const commits = Buffer.from('.2.$FI');

/**
 * Sends the messages of one turn of the event loop as one fast-ingest batch (NATS 2.14, ADR-50), which the stream
 * confirms a few times instead of once for each message: that spares the gateway and NATS about a quarter of their work.
 *
 * A batch is ended by its last message, so that nothing waits for a confirmation longer than it would alone. It is in gap
 * mode `fail`: a confirmation of N says that the messages 1 to N are stored, and where one is lost or refused the stream
 * stores none behind it, whoever sent it. So a refusal costs the others of the batch a second attempt; after one, messages
 * go singly for a while.
 */
export interface FastIngest {
  /** Messages wait for the end of the turn: one without confirmation has to be given here too, or it overtakes them. */
  readonly holding: boolean;
  /** The batch that a message given now can become a part of: a number that never comes again. */
  readonly next: number;
  /** Takes a message; it is sent at the end of the turn. @param number its token, or without confirmation its mark. */
  add(message: UplinkMessage, number: number): void;
  /** Takes the answer to a message of a batch. */
  settle(answer: Msg): void;
  /** The stream has refused a message that was sent singly. */
  noteRefusal(): void;
  /** The connection is gone: what is held and what is under way is forgotten, and has to be given again. */
  reset(): void;
}

/** How messages leave; each call throws when the connection has ended. */
export interface BatchOutlet {
  /** Sends a message that is confirmed by itself. */
  sendSingly(message: UplinkMessage, token: number): void;
  /** Sends a message without confirmation. */
  sendPlain(message: UplinkMessage, mark: number): void;
  /** Sends a message of a batch. @param reply is used again for the next one. */
  sendBatched(message: UplinkMessage, reply: ReplyTo): void;
  /** Nothing more is sent in this turn. */
  flush(): void;
}

interface Batch {
  /** Those that may still be stored, in their order. */
  readonly tokens: number[];
  /** How many of them have been settled. */
  settled: number;
  readonly sentAtMs: number;
}

/**
 * @param options.inbox a subject below which this replica alone listens.
 * @param options.onUnavailable the stream takes no batches any more: until the next connection messages go singly.
 */
export function openFastIngest(options: {
  inbox: string;
  confirmed: Pick<InFlight, 'settleStored' | 'settleRefused'>;
  outlet: BatchOutlet;
  onUnavailable(reason: string): void;
}): FastIngest {
  const { inbox, confirmed, outlet } = options;
  /** The server knows a batch by the last part of this prefix, among those of all replicas. */
  const name = randomBytes(8).toString('hex');
  const open = new Map<number, Batch>();
  let messages: UplinkMessage[] = [];
  let numbers: number[] = [];
  /** Those of them that can be in a batch. */
  let batchable = 0;
  let scheduled = false;
  let lastBatch = 0;
  let plainUntilMs = 0;

  function endTurn(): void {
    scheduled = false;
    flush();
  }

  function flush(): void {
    const turn = messages;
    const turnNumbers = numbers;
    const batched = batchable >= minBatchMessages && mayOpen() ? startBatch(batchable) : undefined;
    clear();
    let index = 0;
    try {
      for (const message of turn) {
        const number = turnNumbers[index] ?? 0;
        index += 1;
        if (!message.confirm) outlet.sendPlain(message, number);
        else if (batched === undefined || !message.batchable) outlet.sendSingly(message, number);
        else batched(message, number);
      }
      outlet.flush();
    } catch {
      // The connection has just ended. The link will say so, and then everything unconfirmed is sent again.
    }
  }

  function clear(): void {
    messages = [];
    numbers = [];
    batchable = 0;
  }

  function mayOpen(): boolean {
    const nowMs = performance.now();
    for (const [number, { sentAtMs }] of open) {
      if (nowMs - sentAtMs < forgetAfterMs) break;
      open.delete(number);
      // Where batches are not answered, messages that go singly may be.
      noteRefusal();
    }
    return nowMs >= plainUntilMs && open.size < maxOpenBatches;
  }

  /** Opens a batch of so many messages and answers what sends the next one of it. */
  function startBatch(size: number): (message: UplinkMessage, token: number) => void {
    lastBatch += 1;
    const tokens: number[] = [];
    open.set(lastBatch, { tokens, settled: 0, sentAtMs: performance.now() });
    const prefix = Buffer.from(`${inbox}.${name}-${lastBatch}.${flowMessages}.fail.`);
    const reply = { prefix, token: 0, suffix: starts };
    return (message, token) => {
      tokens.push(token);
      reply.token += 1;
      if (reply.token > 1) reply.suffix = reply.token === size ? commits : appends;
      outlet.sendBatched(message, reply);
    };
  }

  function settleStored(batch: Batch, count: number): void {
    const end = Math.min(count, batch.tokens.length);
    while (batch.settled < end) {
      const token = batch.tokens[batch.settled] ?? 0;
      batch.settled += 1;
      confirmed.settleStored(token);
    }
  }

  /** The message of this sequence was refused; those behind it are not stored either, and are sent again. */
  function settleRefused(batch: Batch, sequence: number, refusal: Refusal): void {
    const [refused, ...behind] = batch.tokens.splice(Math.max(sequence - 1, batch.settled));
    if (refused === undefined) return;
    // Those behind first: what ends the connection of a client may make it send its will, which comes after them.
    for (const token of behind) confirmed.settleRefused(token, { ...refusal, permanent: false });
    confirmed.settleRefused(refused, refusal);
  }

  function settle({ batch: number, sequence }: BatchPlace, answer: BatchAnswer): void {
    const batch = open.get(number);
    if (batch === undefined) return;
    switch (answer.kind) {
      case 'progress':
        settleStored(batch, answer.sequence);
        break;
      case 'ended':
        open.delete(number);
        settleStored(batch, answer.count);
        if (batch.settled === batch.tokens.length) break;
        noteRefusal();
        settleRefused(batch, answer.count + 1, cutShort);
        break;
      case 'refused':
        noteRefusal();
        if (answer.refusal.cause.startsWith(disabledCode)) giveUp(answer.refusal.detail);
        settleRefused(batch, answer.sequence ?? sequence, answer.refusal);
        if (batch.settled === batch.tokens.length) open.delete(number);
        break;
      case 'single':
        giveUp('the stream confirms each message of a batch');
        confirmed.settleStored(batch.tokens[sequence - 1] ?? 0);
        break;
      case 'other':
        break;
    }
  }

  function noteRefusal(): void {
    plainUntilMs = Math.max(plainUntilMs, performance.now() + plainAfterRefusalMs);
  }

  function giveUp(reason: string): void {
    if (plainUntilMs === Number.POSITIVE_INFINITY) return;
    plainUntilMs = Number.POSITIVE_INFINITY;
    options.onUnavailable(reason);
  }

  return {
    get holding() {
      return messages.length > 0;
    },
    get next() {
      return lastBatch + 1;
    },
    add(message, number) {
      messages.push(message);
      numbers.push(number);
      if (message.confirm && message.batchable) batchable += 1;
      if (messages.length >= maxBatchMessages) {
        flush();
      } else if (!scheduled) {
        scheduled = true;
        setImmediate(endTurn);
      }
    },
    settle(message) {
      const place = readBatchPlace(message.subject);
      if (place !== undefined) settle(place, readBatchAnswer(message));
    },
    noteRefusal,
    reset() {
      clear();
      open.clear();
      plainUntilMs = 0;
    },
  };
}

const cutShort: Refusal = {
  cause: 'batch_cut_short',
  detail:
    'the stream has ended a batch before its last message: one was lost on the way, or the leader changed',
  permanent: false,
};
