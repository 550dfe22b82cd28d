import { messageOf } from '../../../../errors.js';
import type { LimitedLog } from '../../../../log.js';
import type { BrokerCounters } from '../../live/counters.js';

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
    try {
      await session.write();
      if (told !== undefined) log.info('sessions_stored', {}, 'Sessions are stored again');
      told = undefined;
      pauseMs = 0;
    } catch (error) {
      counters.sessionWritesFailed += 1;
      pause(messageOf(error));
    }
    underWay -= 1;
    if (session.isDirty) waiting.add(session);
    else if (pending.get(session.key) === session) pending.delete(session.key);
    pump();
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
