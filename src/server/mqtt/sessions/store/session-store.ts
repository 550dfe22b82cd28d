import type { SessionRecord } from './session-record.js';

/** A session as the store has it. */
export interface StoredRecord {
  /** Changes with every write. */
  readonly revision: number;
  /** It, or why it cannot be read, as a sentence. */
  readonly record: SessionRecord | string;
  /** Also of one that cannot be read, if it says so; else 0. */
  readonly epoch: number;
  /** Names the write. */
  readonly writeId: string;
}

/** What another replica did with a session. */
export interface SessionNews {
  readonly key: string;
  readonly revision: number;
  readonly epoch: number;
  /** It was removed, and did not merely expire. */
  readonly removed: boolean;
}

export interface SessionStoreListener {
  /** Another replica has written or removed a session. */
  onNews(news: SessionNews): void;
  /** All of the store is known, at the start and whenever it was lost from sight. */
  onCaughtUp(): void;
  /** The store is another one from now on, which outlives this process: it has nothing of what this replica has. */
  onDurable?(): void;
}

/**
 * Where the sessions are that outlive their connection, by key (`session-key.ts`). Every write is fenced by the revision that it
 * replaces, so that of two replicas one loses. Whatever asks the store may reject with a StoreError.
 */
export interface SessionStore {
  /** Outlives the process: a client that is away need not be kept in memory for it. It may come to be so, see `onDurable`. */
  readonly durable: boolean;
  /** The name of this replica in the records. */
  readonly owner: string;
  /** In words: where sessions are, for people. */
  readonly detail: string;
  /** Every key is known. */
  readonly caughtUp: boolean;
  /** It answers. */
  readonly reachable: boolean;
  readonly size: number;
  /** A session of this key is known; asks nobody. One that another replica wrote just now may be missing. */
  has(key: string): boolean;
  /**
   * A stored session, whether its client is connected or away, could want a message that a device publishes to this topic; asks
   * nobody. True as well while not all sessions are known.
   */
  wants(topic: string): boolean;
  /** Every key that is known. */
  keys(): Iterable<string>;
  /** Keys of sessions whose connection is on a replica other than this one, with its name. */
  owned(): ReadonlyMap<string, string>;
  /** The keys of a device's sessions, the one written longest ago first. */
  keysOf(deviceId: string): Promise<string[]>;
  /** @returns undefined when there is none. */
  load(key: string): Promise<StoredRecord | undefined>;
  /**
   * Writes a session. One without an owner expires with its expiry; one with an owner does not.
   *
   * @param expected revision that it replaces; 0: there is none. What has expired meanwhile, or was lost with the whole store, is
   *   as if it were still there; what was removed is not.
   * @param writeId as `nextWriteId` gave it. A write that was done though its answer was lost is done when it is repeated with it.
   * @returns the revision; undefined: there is another one.
   */
  write(key: string, record: SessionRecord, expected: number, writeId: string): Promise<number | undefined>;
  /** @param expected undefined: whichever it is. @returns whether it is gone; false: there is another one than expected. */
  remove(key: string, expected: number | undefined): Promise<boolean>;
  /** A name for a write that no other of the fleet has. */
  nextWriteId(): string;
  /** Set before the first write. */
  listener: SessionStoreListener | undefined;
  close(): void;
}

/** The store did not do what it was asked for. */
export class StoreError extends Error {
  /** It is away or silent; else it refuses. */
  readonly away: boolean;

  constructor(message: string, away: boolean) {
    super(message);
    this.away = away;
  }
}
