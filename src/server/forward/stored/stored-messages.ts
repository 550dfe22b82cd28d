import type { MessageProperties } from '../../message-properties.js';

/** A message that a stream keeps for sessions. */
export interface StoredMessage {
  readonly sequence: number;
  readonly topic: string;
  readonly payload: Buffer;
  readonly properties?: MessageProperties | undefined;
  /** By the clock of NATS. */
  readonly storedAtMs: number;
  /** `Date.now()` from which on it is not delivered: its expiry counts from when it was stored, by the clock of NATS. */
  readonly expiresAtMs?: number | undefined;
}

/** A message as NATS gives it. */
export interface RawMessage {
  readonly sequence: number;
  readonly subject: string;
  readonly storedAtMs: number;
  /** The block as it was sent; empty: there is none. */
  readonly headers: string;
  readonly payload: Uint8Array;
}

/** Who takes messages as they are stored. */
export interface StoredListener<M> {
  /** In order, none twice; not those that were stored before `onCaughtUp`. */
  onMessage(message: M): void;
  /** What is stored is known again after the start, after NATS was away, and when the stream is another one. */
  onCaughtUp(): void;
  /** NATS has lost what was behind this sequence, and gives its sequences again. */
  onShorter(last: number): void;
}

/** What a session has not had yet. */
export interface StoredBatch<M> {
  readonly messages: readonly M[];
  /** All that are the session's up to here are among them, or gone from the stream. */
  readonly upTo: number;
}

/** What a stream keeps for sessions, on every replica the same. `K` says which messages a session looks for. */
export interface StoredMessages<K, M extends StoredMessage> {
  /** Another one when the stream was made anew: sequences of before mean nothing. */
  readonly incarnation: string;
  /** Sequence of the latest message that is known here, whoever it is for. */
  readonly end: number;
  /** `end` is about that of the stream. */
  readonly isCaughtUp: boolean;
  /**
   * The last sequence that the stream has given, as its leader says: what is known here may be behind. Undefined: it does not say.
   * Never rejects.
   */
  lastSequence(): Promise<number | undefined>;
  /** Messages that are known here. */
  readonly known: number;
  readonly counters: StoredCounters;
  follow(key: K, listener: StoredListener<M>): () => void;
  /** There are messages after this sequence. */
  hasAfter(key: K, sequence: number): boolean;
  /** How many, up to `most`; of older ones than are known here one is counted. */
  countAfter(key: K, sequence: number, most: number): number;
  /** The next messages. @param isWanted asked before NATS is. It waits while NATS is away. */
  readAfter(key: K, sequence: number, most: number, isWanted: () => boolean): Promise<StoredBatch<M>>;
  /** Messages again, by their sequences; undefined: that one is gone. */
  read(sequences: readonly number[], isWanted: () => boolean): Promise<(M | undefined)[]>;
}

/** Since the start. */
export interface StoredCounters {
  /** Messages read from the stream by their sequences. */
  read: number;
  /** Those that were gone. */
  gone: number;
  /** How often older ones were looked up than are known here. */
  lookedUp: number;
  /** Seconds that the last catch-up took. */
  catchUpSec: number;
}

/** Which messages of the stream a session looks for are, by their sequences, which rise. */
export interface StreamIndex<K> {
  /** How many it knows. */
  readonly size: number;
  /** Messages up to this sequence may be missing, since there were more than it holds. */
  readonly floor: number;
  /** Sequences of the oldest and the latest one it knows; undefined: it knows none. */
  readonly oldest: number | undefined;
  readonly latest: number | undefined;
  /** The next messages after this sequence, in order. Those of others may be among them, where it cannot tell. */
  after(key: K, sequence: number, most: number): number[];
  /** How many there are after this sequence, counted up to `most`. */
  countAfter(key: K, sequence: number, most: number): number;
  /** The stream holds nothing before this sequence any more. */
  trim(first: number): void;
}
