import { setTimeout as delay } from 'node:timers/promises';
import type { NatsLink } from '../connection/nats-link.js';
import { openNatsRequests } from '../connection/nats-requests.js';
import { openArchive } from '../stored/archive.js';
import type { RawMessage, StoredListener, StoredMessage, StoredMessages } from '../stored/stored-messages.js';
import { readStored, type StreamSource } from '../stored/stored-reader.js';
import type { FollowedMessage } from '../stream/stream-follower.js';
import { JetStreamError } from './jetstream-api.js';
import { couldMatch, createMessageIndex, type MessageFilters } from './message-index.js';
import type { StateMessage } from './state-message.js';
import type { FoundStream } from './state-stream.js';

/** A message between devices, as its stream has it. */
export interface KeptMessage extends StoredMessage, StateMessage {
  /** As its publisher said. */
  readonly retain: boolean;
}

/** What the stream of messages between devices keeps for sessions. */
export interface KeptMessages extends StoredMessages<MessageFilters, KeptMessage> {
  /** The stream was found: `incarnation` is known. */
  readonly isKnown: boolean;
  /** Calls once when that is so. @returns what takes it back. */
  whenKnown(listener: () => void): () => void;
}

/** What the one who follows the stream tells of it. */
export interface KeptFollower extends KeptMessages {
  /** A session here takes what comes. */
  readonly isFollowed: boolean;
  /** What was stored before the start is taken in without its payload. */
  readonly isIndexing: boolean;
  /** Reading begins; answers from which sequence. */
  begin(stream: FoundStream): number;
  /** @param give gives it to who is connected; not called for what was stored before the start. */
  take(message: FollowedMessage, give: () => void): void;
  /** @returns whether it is to be read again, whole from now on. */
  caughtUp(): boolean;
  close(): void;
}

/** The first sequence of the stream is asked for at most so often. */
const trimEveryMs = 1_000;
const probeAgainMs = 1_000;

export function openKeptMessages(options: {
  readonly link: NatsLink;
  readonly inboxPrefix: string;
  /** Messages of which is known where they are. */
  readonly maxIndexed: number;
  /** What the subjects of the stream begin with. */
  readonly prefix: string;
  toMessage(found: RawMessage): KeptMessage | undefined;
  /** The user may not read single messages. */
  onDenied(reason: string): void;
}): KeptFollower {
  const { link, prefix } = options;
  const requests = openNatsRequests(link, options.inboxPrefix);
  const listeners = new Set<StoredListener<KeptMessage>>();
  const waiters = new Set<() => void>();
  const archive = openArchive({
    inboxPrefix: options.inboxPrefix,
    createIndex: () => createMessageIndex(options.maxIndexed),
    subjectsOf: (filters: MessageFilters) => ({
      filter: `${prefix}>`,
      isOwn: (subject) => couldMatch(filters, subject.slice(prefix.length)),
    }),
    toMessage: options.toMessage,
    onGone: trim,
  });
  let source: StreamSource | undefined;
  let incarnation = '';
  let end = 0;
  let isCaughtUp = false;
  let isIndexing = true;
  let beganAtMs = 0;
  let trimmedAtMs = 0;
  /** Clients that are connected when the stream is found first get what is stored from then on, behind this sequence. */
  let wholeFrom: number | undefined;
  /** Where the stream ended when reading began. */
  let last = 0;

  /** The oldest go first: where one is gone, those before it are. */
  function trim(): void {
    const from = source;
    if (from === undefined || performance.now() < trimmedAtMs + trimEveryMs) return;
    trimmedAtMs = performance.now();
    from.manager.streams.info(from.stream.name).then(
      ({ state }) => {
        if (source === from) archive.index.trim(state.first_seq);
      },
      () => {},
    );
  }

  /** Reads a message to see whether the user may; again until NATS says, which it does not always in time. */
  async function probe(from: StreamSource): Promise<void> {
    while (source === from) {
      try {
        await readStored(from, Math.max(1, end));
        return;
      } catch (error) {
        if (error instanceof JetStreamError && error.isDenied) {
          options.onDenied(error.message);
          return;
        }
      }
      await delay(probeAgainMs, undefined, { ref: false });
    }
  }

  link.listen({
    connected() {},
    disconnected() {
      source = undefined;
      isCaughtUp = false;
      archive.disconnected();
    },
  });

  return {
    get incarnation() {
      return incarnation;
    },
    get end() {
      return Math.max(end, wholeFrom ?? 0);
    },
    get isCaughtUp() {
      return isCaughtUp;
    },
    get isKnown() {
      return incarnation !== '';
    },
    get isFollowed() {
      return listeners.size > 0;
    },
    get isIndexing() {
      return isIndexing;
    },
    get known() {
      return archive.index.size;
    },
    counters: archive.counters,
    whenKnown(listener) {
      waiters.add(listener);
      return () => waiters.delete(listener);
    },
    follow(_filters, listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    lastSequence: archive.lastSequence,
    hasAfter: (filters, sequence) => archive.hasAfter(filters, sequence),
    countAfter: (filters, sequence, most) => archive.countAfter(filters, sequence, most),
    readAfter: (filters, sequence, most, isWanted) => archive.readAfter(filters, sequence, most, isWanted),
    read: (sequences, isWanted) => archive.read(sequences, isWanted),
    begin(found) {
      isCaughtUp = false;
      beganAtMs = performance.now();
      if (incarnation === '') {
        wholeFrom = found.lastSequence;
      } else if (found.incarnation !== incarnation) {
        archive.forget();
        end = 0;
        isIndexing = false;
        wholeFrom = undefined;
      } else if (found.lastSequence < end) {
        archive.index.cut(found.lastSequence);
        end = found.lastSequence;
        for (const listener of [...listeners]) listener.onShorter(end);
      }
      last = found.lastSequence;
      incarnation = found.incarnation;
      source = { ...found, requests };
      archive.index.trim(found.firstSequence);
      archive.connected(source);
      for (const waiter of waiters) waiter();
      waiters.clear();
      return isIndexing ? end + 1 : Math.min(end, wholeFrom ?? end) + 1;
    },
    take({ sequence, subject }, give) {
      archive.index.add(subject.slice(prefix.length), sequence);
      if (!isIndexing) give();
      // Only now: a session that ends meanwhile has not had it.
      end = Math.max(end, sequence);
    },
    caughtUp() {
      // The latest may have been removed by now.
      end = Math.max(end, last);
      if (isIndexing) {
        isIndexing = false;
        return true;
      }
      wholeFrom = undefined;
      archive.counters.catchUpSec = (performance.now() - beganAtMs) / 1_000;
      isCaughtUp = true;
      if (source !== undefined) void probe(source);
      for (const listener of [...listeners]) listener.onCaughtUp();
      return false;
    },
    close: () => archive.disconnected(),
  };
}
