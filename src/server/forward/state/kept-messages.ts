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

/** The first sequence of the stream is asked for at most so often. */
const trimEveryMs = 1_000;
const probeAgainMs = 1_000;

/** For the one who follows the stream: `begin`, `take` and `caughtUp` are told of it. */
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
}) {
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
  let end = 0;
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
      kept.isCaughtUp = false;
      archive.disconnected();
    },
  });

  const kept = {
    incarnation: '',
    get end(): number {
      return Math.max(end, wholeFrom ?? 0);
    },
    isCaughtUp: false,
    get isKnown(): boolean {
      return kept.incarnation !== '';
    },
    /** A session here takes what comes. */
    get isFollowed(): boolean {
      return listeners.size > 0;
    },
    /** What was stored before the start is taken in without its payload. */
    isIndexing: true,
    get known(): number {
      return archive.index.size;
    },
    counters: archive.counters,
    whenKnown(listener: () => void): () => void {
      waiters.add(listener);
      return () => waiters.delete(listener);
    },
    follow(_filters: MessageFilters, listener: StoredListener<KeptMessage>): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    lastSequence: archive.lastSequence,
    hasAfter: archive.hasAfter,
    countAfter: archive.countAfter,
    readAfter: archive.readAfter,
    read: archive.read,
    /** Reading begins; answers from which sequence. */
    begin(found: FoundStream): number {
      kept.isCaughtUp = false;
      beganAtMs = performance.now();
      if (kept.incarnation === '') {
        wholeFrom = found.lastSequence;
      } else if (found.incarnation !== kept.incarnation) {
        archive.forget();
        end = 0;
        kept.isIndexing = false;
        wholeFrom = undefined;
      } else if (found.lastSequence < end) {
        archive.index.cut(found.lastSequence);
        end = found.lastSequence;
        for (const listener of [...listeners]) listener.onShorter(end);
      }
      last = found.lastSequence;
      kept.incarnation = found.incarnation;
      source = { ...found, requests };
      archive.index.trim(found.firstSequence);
      archive.connected(source);
      for (const waiter of waiters) waiter();
      waiters.clear();
      return kept.isIndexing ? end + 1 : Math.min(end, wholeFrom ?? end) + 1;
    },
    /** @param give gives it to who is connected; not called for what was stored before the start. */
    take({ sequence, subject }: FollowedMessage, give: () => void): void {
      archive.index.add(subject.slice(prefix.length), sequence);
      if (!kept.isIndexing) give();
      // Only now: a session that ends meanwhile has not had it.
      end = Math.max(end, sequence);
    },
    /** @returns whether it is to be read again, whole from now on. */
    caughtUp(): boolean {
      // The latest may have been removed by now.
      end = Math.max(end, last);
      if (kept.isIndexing) {
        kept.isIndexing = false;
        return true;
      }
      wholeFrom = undefined;
      archive.counters.catchUpSec = (performance.now() - beganAtMs) / 1_000;
      kept.isCaughtUp = true;
      if (source !== undefined) void probe(source);
      for (const listener of [...listeners]) listener.onCaughtUp();
      return false;
    },
    close: archive.disconnected,
  };
  return kept;
}
