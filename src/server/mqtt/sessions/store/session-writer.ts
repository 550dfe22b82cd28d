import { messageOf } from '../../../../errors.js';
import type { LimitedLog } from '../../../../log.js';
import type { BrokerCounters } from '../../live/counters.js';
import { StoreError } from './session-store.js';

/** Something of which the store does not have the latest yet. */
export interface Writable {
  readonly key: string;
  /** Writes what is to be written now; rejects when the store is away or refuses. */
  write(): Promise<void>;
  /** There is something to write. */
  readonly isDirty: boolean;
  /** Resolves when there is not. */
  settled(): Promise<void>;
}

export type SessionWriter = ReturnType<typeof openSessionWriter>;

const maxUnderWay = 256;
/** What may wait is written when it has waited for one to two times so long: a client that acknowledges several is written once. */
const lazyMs = 500;
const firstPauseMs = 100;
const lastPauseMs = 2_000;

/** Writes sessions, so many at a time, each until it is stored. */
export function openSessionWriter(options: { counters: BrokerCounters; log: LimitedLog }) {
  const { counters, log } = options;
  /** Those of which not all is stored, by key; a session that begins anew takes the place of the one before. */
  const pending = new Map<string, Writable>();
  /** Those of them that are not being written, the one that waits longest first. */
  const waiting = new Set<Writable>();
  /** Those that may wait, and those that have. */
  let lazy = new Set<Writable>();
  let late = new Set<Writable>();
  let underWay = 0;
  let pauseMs = 0;
  let paused: NodeJS.Timeout | undefined;
  let told: string | undefined;
  /** The one that the store refused last, why, and how long it waits by itself. */
  let refused: { readonly session: Writable; readonly reason: string; readonly waitMs: number } | undefined;
  let hasTakenSince = false;
  let closed = false;

  function pump(): void {
    for (const session of waiting) {
      if (underWay >= maxUnderWay || paused !== undefined || closed) return;
      waiting.delete(session);
      underWay += 1;
      void run(session);
    }
  }

  async function run(session: Writable): Promise<void> {
    let aloneMs: number | undefined;
    try {
      await session.write();
      if (told !== undefined) log.info('sessions_stored', {}, 'Sessions are stored again');
      told = undefined;
      pauseMs = 0;
      hasTakenSince = true;
      if (refused?.session === session) refused = undefined;
    } catch (error) {
      counters.sessionWritesFailed += 1;
      if (error instanceof StoreError && !error.away) aloneMs = refuse(session, error.message);
      if (aloneMs === undefined) pause(messageOf(error));
    }
    underWay -= 1;
    if (aloneMs === undefined) goOn(session);
    else {
      setTimeout(() => goOn(session), aloneMs).unref();
      pump();
    }
  }

  function goOn(session: Writable): void {
    if (session.isDirty) waiting.add(session);
    else if (pending.get(session.key) === session) pending.delete(session.key);
    pump();
  }

  /**
   * One record that the store does not take, too large a one perhaps, holds up no other.
   *
   * @returns how long it waits by itself; undefined: the store has refused two one after the other, and takes none.
   */
  function refuse(session: Writable, reason: string): number | undefined {
    const before = refused;
    const isAlone = before === undefined || before.session === session || hasTakenSince;
    const waitMs = before?.session === session ? Math.min(2 * before.waitMs, lastPauseMs) : firstPauseMs;
    refused = { session, reason, waitMs };
    hasTakenSince = false;
    if (!isAlone) return undefined;
    if (before?.session !== session || before.reason !== reason)
      log.warn(
        'session_not_stored',
        { session: session.key, reason },
        'A session is not stored; it is tried again',
      );
    return waitMs;
  }

  /** The store is away or refuses: what waits waits a while. */
  function pause(reason: string): void {
    if (told !== reason)
      log.warn(
        'sessions_not_stored',
        { reason },
        'Sessions are not stored; what changed of them is tried again',
      );
    told = reason;
    if (paused !== undefined || closed) return;
    pauseMs = Math.min(Math.max(firstPauseMs, pauseMs * 2), lastPauseMs);
    paused = setTimeout(
      () => {
        paused = undefined;
        pump();
      },
      pauseMs * (0.5 + Math.random() / 2),
    );
    paused.unref();
  }

  function writeLate(): void {
    for (const session of late) writer.enqueue(session);
    late = lazy;
    lazy = new Set();
  }
  const timer = setInterval(writeLate, lazyMs);
  timer.unref();

  const writer = {
    /** Sessions of which not all is stored. */
    get pending() {
      return pending.size;
    },
    /** Has it written as soon as may be. */
    enqueue(session: Writable): void {
      lazy.delete(session);
      late.delete(session);
      if (!session.isDirty || pending.get(session.key) === session) return;
      pending.set(session.key, session);
      waiting.add(session);
      pump();
    },
    /** Has it written within a second, together with what else changes meanwhile. */
    enqueueLazily(session: Writable): void {
      if (pending.get(session.key) === session || late.has(session)) return;
      lazy.add(session);
    },
    /** The session of this key that is not all stored. */
    find: (key: string): Writable | undefined => pending.get(key),
    /** Writes what may wait now. */
    flush(): void {
      writeLate();
      writeLate();
    },
    close(): void {
      closed = true;
      clearInterval(timer);
      clearTimeout(paused);
    },
  };
  return writer;
}
