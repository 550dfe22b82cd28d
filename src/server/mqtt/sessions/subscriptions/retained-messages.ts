import type { RetainedStore, SaveOutcome } from '../../../forward/state/retained-store.js';
import { isTopic, matches } from '../../protocol/topics.js';
import { bytesOf, isExpired, type Message } from '../delivery/message.js';

/** What became of a message that is to be retained. */
type Retention =
  | 'kept'
  /** It is kept here, and the others are told: `onKept` is called when that is certain. */
  | 'waits'
  /** A bound is reached: it is not kept. */
  | 'refused';

export type RetainedMessages = ReturnType<typeof createRetainedMessages>;

/** A message, or that there is none, as the stream has it. */
interface Version {
  readonly message: Message | undefined;
  readonly sequence: number;
}

const nothing: Version = { message: undefined, sequence: 0 };

/** What the stream is to be asked to store, and who is told then. */
interface Wanted {
  readonly message: Message;
  readonly waiting: readonly (() => void)[];
}

/** What the stream is asked to store. */
interface Write extends Wanted {
  /** The latest that came from the stream: what holds when it is stored before that, or not at all. */
  seen: Version;
  /** What is written behind it; of several the last. */
  next: Wanted | undefined;
}

interface Entry {
  readonly topic: string;
  /** Without payload: it is removed, and the stream has still to say so. */
  message: Message;
  /** Where the stream has it; 0: nowhere. */
  sequence: number;
  /** The round of reading in which the stream had it. */
  round: number;
  write: Write | undefined;
}

/** All of them are looked at once in this time at most, so that many that expire one after the other cost little. */
const lookEveryMs = 1_000;
/** The stream is not read again for what had no room more often than this. */
const readAgainMs = 30_000;
/** There is room again when so much of each bound is free. */
const roomShare = 0.1;

/**
 * Keeps the retained messages as this replica knows them, one for each topic, bounded. With a store each is written there, those of one topic one after the other and of several only
 * the last, and what the stream has comes back from it: of two that replicas write at the same time all keep the one that
 * the stream stored last. Until then a replica answers with what it was given itself.
 *
 * @param store undefined: they live and end with this replica.
 */
export function createRetainedMessages(options: {
  limits: { readonly maxMessages: number; readonly maxBytes: number };
  store?: RetainedStore | undefined;
  /** One was not kept, since a bound is reached or NATS refused it. */
  onRefused(topic: string, reason: string): void;
}) {
  const { limits, store } = options;
  const entries = new Map<string, Entry>();
  let bytes = 0;
  let waiting = 0;
  /** Counts how often the stream was read from the beginning on, and how far it has been read now. */
  let round = 0;
  let position = 0;
  /** What the stream has and had no room here. */
  let missed = 0;
  let readAgainAtMs = 0;
  /**
   * What NATS has lost again although it had it stored. It is written in place of the one before, when it is known which that is: what
   * was stored since stays.
   */
  const restoring = new Map<Entry, Write>();

  /** None of them expires earlier. */
  let earliestExpiryMs = Number.POSITIVE_INFINITY;
  let lookedAtMs = 0;

  function hold(entry: Entry, message: Message): void {
    bytes += bytesOf(message) - bytesOf(entry.message);
    entry.message = message;
    noteExpiry(message);
  }

  function add(message: Message, sequence: number): Entry {
    const { topic } = message;
    const entry = { topic, message, sequence, round, write: undefined };
    entries.set(topic, entry);
    bytes += bytesOf(message);
    noteExpiry(message);
    return entry;
  }

  function drop({ topic, message }: Entry): void {
    entries.delete(topic);
    bytes -= bytesOf(message);
  }

  function fits(message: Message, known: Entry | undefined): boolean {
    const freed = known === undefined ? 0 : bytesOf(known.message);
    const count = entries.size + (known === undefined ? 1 : 0);
    return count <= limits.maxMessages && bytes - freed + bytesOf(message) <= limits.maxBytes;
  }

  function forgetExpired(): void {
    const nowMs = Date.now();
    if (nowMs < earliestExpiryMs || Math.abs(nowMs - lookedAtMs) < lookEveryMs) return;
    lookedAtMs = nowMs;
    earliestExpiryMs = Number.POSITIVE_INFINITY;
    for (const entry of entries.values()) {
      // The stream lets go of it by itself.
      if (isExpired(entry.message) && entry.write === undefined) drop(entry);
      else noteExpiry(entry.message);
    }
  }

  function noteExpiry({ expiresAtMs = Number.POSITIVE_INFINITY }: Message): void {
    earliestExpiryMs = Math.min(earliestExpiryMs, expiresAtMs);
  }

  /** What had no room is in the stream, and there is room now. */
  function readMissed(): void {
    if (missed === 0 || performance.now() < readAgainAtMs) return;
    const share = 1 - roomShare;
    if (entries.size > limits.maxMessages * share || bytes > limits.maxBytes * share) return;
    readAgainAtMs = performance.now() + readAgainMs;
    store?.readAgain();
  }

  function write(entry: Entry, message: Message, onKept: (() => void) | undefined): void {
    const callbacks = onKept === undefined ? [] : [onKept];
    const seen = versionOf(entry);
    hold(entry, message);
    if (entry.write === undefined) save(entry, prepare(entry, { message, waiting: callbacks }, seen));
    else entry.write.next = { message, waiting: [...(entry.write.next?.waiting ?? []), ...callbacks] };
  }

  /** Without a store, or while it cannot be used. */
  function keepHere(message: Message, known: Entry | undefined): void {
    if (known === undefined) {
      if (message.payload.length > 0) add(message, 0);
    } else if (message.payload.length === 0 && known.write === undefined) {
      drop(known);
    } else {
      hold(known, message);
      known.sequence = 0;
    }
  }

  function prepare(entry: Entry, { message, waiting: callbacks }: Wanted, seen: Version): Write {
    entry.write = { message, waiting: callbacks, seen, next: undefined };
    waiting += 1;
    return entry.write;
  }

  /** @param expected the sequence that the stream has of the topic; 0: it has none; undefined: whichever it is. */
  function save(entry: Entry, prepared: Write, expected?: number): void {
    store?.save(prepared.message, expected, (outcome) => settle(entry, prepared, outcome));
  }

  function settle(entry: Entry, done: Write, outcome: SaveOutcome): void {
    entry.write = undefined;
    waiting -= 1;
    let latest = done.seen;
    if (outcome.kind === 'stored') entry.round = round;
    if (outcome.kind === 'stored' && outcome.sequence > latest.sequence)
      latest = { message: done.message, sequence: outcome.sequence };
    const { next } = done;
    if (next !== undefined) save(entry, prepare(entry, next, latest));
    else accept(entry, latest, outcome);
    if (outcome.kind === 'refused' && store?.problem === undefined)
      options.onRefused(entry.topic, outcome.reason);
    for (const onKept of done.waiting) onKept();
  }

  function accept(entry: Entry, latest: Version, outcome: SaveOutcome): void {
    // Without a store that can be used it is kept as without any.
    if (outcome.kind === 'refused' && store?.problem !== undefined) {
      entry.sequence = 0;
      entry.round = round;
      if (entry.message.payload.length === 0) drop(entry);
      return;
    }
    const { message, sequence } = latest;
    entry.sequence = sequence;
    const isThere = message !== undefined && message.payload.length > 0;
    // What the stream had before a removal may still come, and must not be taken for what it has.
    if (message === undefined || (!isThere && sequence <= position)) drop(entry);
    else hold(entry, message);
  }

  function take(message: Message, sequence: number): void {
    position = sequence;
    // Services may write to the stream, too.
    if (!isTopic(message.topic)) return;
    forgetExpired();
    const known = entries.get(message.topic);
    if (known !== undefined) known.round = round;
    if (known?.write !== undefined) {
      if (sequence > known.write.seen.sequence) known.write.seen = { message, sequence };
      return;
    }
    if (message.payload.length === 0) {
      if (known !== undefined && sequence >= known.sequence) drop(known);
      return;
    }
    if (known !== undefined && sequence <= known.sequence) return;
    if (isExpired(message) || !fits(message, known)) {
      if (known !== undefined) drop(known);
      if (isExpired(message)) return;
      missed += 1;
      if (missed === 1) options.onRefused(message.topic, 'the bound is reached');
      return;
    }
    if (known === undefined) {
      add(message, sequence);
      return;
    }
    hold(known, message);
    known.sequence = sequence;
  }

  if (store !== undefined) {
    store.reader = {
      begin(anew, lastSequence) {
        round += 1;
        position = 0;
        missed = 0;
        for (const entry of entries.values()) {
          if (entry.write !== undefined) {
            if (anew || restoring.has(entry) || entry.write.seen.sequence > lastSequence)
              entry.write.seen = nothing;
          } else if (anew) {
            entry.sequence = 0;
          } else if (entry.sequence > lastSequence) {
            restoring.set(entry, prepare(entry, { message: entry.message, waiting: [] }, nothing));
          }
        }
      },
      take: (message, sequence) => take({ ...message, retain: true }, sequence),
      caughtUp() {
        for (const entry of [...entries.values()]) {
          if (entry.round === round) continue;
          // What the stream never had is written to it; what it had and has no more was removed elsewhere.
          if (entry.write !== undefined) entry.write.seen = nothing;
          else if (entry.sequence > 0) drop(entry);
          else save(entry, prepare(entry, { message: entry.message, waiting: [] }, nothing), 0);
        }
        for (const [entry, prepared] of restoring) save(entry, prepared, prepared.seen.sequence);
        restoring.clear();
      },
    };
  }

  return {
    /** How many there are, their bytes, and how many the stream has still to confirm. */
    get state() {
      return { messages: entries.size, bytes, waiting };
    },

    /** Keeps a message in place of the one before; without payload, only removes that [MQTT-3.3.1-10]. */
    store(message: Message, onKept?: () => void): Retention {
      forgetExpired();
      const { topic, payload } = message;
      const known = entries.get(topic);
      const isRemoval = payload.length === 0;
      const isRefused = !isRemoval && !fits(message, known);
      // The one before does not stay in place of one that is refused.
      const kept = isRefused ? { ...message, payload: Buffer.alloc(0), properties: undefined } : message;
      if (isRefused) options.onRefused(topic, 'the bound is reached');
      if (store === undefined || store.problem !== undefined) {
        keepHere(kept, known);
        return isRefused ? 'refused' : 'kept';
      }
      readMissed();
      const mayBeStored = known !== undefined || missed > 0 || !store.caughtUp;
      if (isRefused && !mayBeStored) return 'refused';
      // What is removed and not known here may be on its way from another replica; such removals are bounded, too.
      if (known === undefined && entries.size >= 2 * limits.maxMessages) return 'refused';
      write(known ?? add({ ...kept, payload: Buffer.alloc(0) }, 0), kept, isRefused ? undefined : onKept);
      return isRefused ? 'refused' : 'waits';
    },

    /** When what other replicas have retained by now is here, too; undefined: it is, as far as can be known. Bounded, never rejects. */
    upToDate: () => store?.upToDate(),

    /** The messages that any of the filters matches, each with the filters that do; none that has expired. */
    find(filters: readonly string[]): { message: Message; filters: string[] }[] {
      forgetExpired();
      const wild = filters.filter((filter) => /[+#]/.test(filter));
      const found = new Map<Message, string[]>();
      for (const filter of filters) {
        const exact = entries.get(filter);
        if (exact !== undefined && isShown(exact.message)) found.set(exact.message, [filter]);
      }
      if (wild.length > 0) {
        for (const { message } of entries.values()) {
          if (!isShown(message)) continue;
          const matching = wild.filter((filter) => matches(filter, message.topic));
          if (matching.length > 0) found.set(message, [...(found.get(message) ?? []), ...matching]);
        }
      }
      return [...found].map(([message, by]) => ({ message, filters: by }));
    },
  };
}

function isShown(message: Message): boolean {
  return message.payload.length > 0 && !isExpired(message);
}

function versionOf({ message, sequence }: Entry): Version {
  return { message: sequence === 0 ? undefined : message, sequence };
}
