import type pg from 'pg';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { within } from '../../time-limit.js';
import { codeOf, readOnlyCode, toDatabaseError } from '../connection/database-errors.js';
import type { Database } from '../connection/open.js';
import { setForSession } from '../connection/session.js';
import { replicaApplicationName } from '../replicas.js';
import { keptMs, type Position, pruneChanges, readChanges } from './change-log.js';
import { channelOf, type FollowedTable, followedTables, listenStatement } from './followed-tables.js';

/** Who is told of the changes of one table. */
export interface ChangeFollower {
  /** The database answers again, or on another connection: any row may have changed meanwhile. */
  onLive?(): void;
  /** The database no longer answers. */
  onAway?(): void;
  /** These rows were changed or deleted, or may have been; undefined: any may have been. */
  onChanged?(ids: readonly string[] | undefined): void;
  /** Called at every sweep, which proves that the database answers. */
  onSweep?(): void;
}

/** What replicas follow in the database, as it changes. */
export type ChangeFeed = Awaited<ReturnType<typeof startChangeFeed>>;

const sweepEveryMs = 500;
const retryFirstMs = 50;
const retryMostMs = 1_000;
/** The class of SQLSTATEs that say: a value cannot be read. */
const dataException = '22';

/**
 * Follows the changes of the tables that replicas keep in memory, on a connection of its own: notifications tell a change when
 * it commits; and a sweep twice a second asks what was committed since the one before, which finds what a notification
 * missed, as behind a connection pooler that does not pass them on, and proves that the database answers. A
 * connection that ends, or is silent for DATABASE_TIMEOUT_MS, is replaced; when that fails the database is away.
 * The next one goes on from where the last one was, before anything else is done with it.
 *
 * PGlite's notifications do not cross connections; its process passes them on.
 *
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED or DATABASE_SCHEMA when the first attempt fails.
 */
export async function startChangeFeed(db: Database, log: Log) {
  const followers = new Set<ChangeFollower & { readonly table: FollowedTable }>();
  let live = false;
  let awaySinceMs = Number.POSITIVE_INFINITY;
  let closed = false;
  let client: pg.Client | undefined;
  /** Ends the wait between two sweeps. */
  let wake = () => {};
  /** How far the last sweep saw. */
  let seen: Position | undefined;
  /** A position that every replica has gone on from when changes before it are pruned. */
  let mark: { position: Position; atMs: number } | undefined;
  let pruning = false;
  let pruneProblem: string | undefined;

  const tell = (table: FollowedTable, ids: readonly string[] | undefined) => {
    if (closed) return;
    for (const follower of followers) if (follower.table === table) follower.onChanged?.(ids);
  };
  const onNotification = (channel: string, id: string) => {
    const table = followedTables.find((each) => channelOf(each) === channel);
    if (table !== undefined) tell(table, id === '' ? undefined : [id]);
  };
  const sweep = async (connection: pg.Client) => {
    const ask = <R extends pg.QueryResultRow>(text: string, values: unknown[]) =>
      within(db.timeoutMs, connection.query<R>(text, values));
    const { position, changed } = await readChanges(ask, seen).catch(async (error: unknown) => {
      if (seen === undefined || codeOf(error)?.startsWith(dataException) !== true) throw error;
      // It would not be understood the next time either. Anything may have changed since.
      const { position } = await readChanges(ask, undefined);
      return { position, changed: new Map(followedTables.map((table) => [table, undefined])) };
    });
    seen = position;
    for (const [table, ids] of changed) tell(table, ids);
    mark ??= { position, atMs: performance.now() };
    if (performance.now() - mark.atMs > keptMs && !pruning && !closed) void prune(mark.position);
  };
  const prune = async (before: Position) => {
    pruning = true;
    try {
      const more = await pruneChanges(db, before);
      if (!more) mark = undefined;
      pruneProblem = undefined;
    } catch (error) {
      mark = undefined;
      const reason = messageOf(error);
      if (reason !== pruneProblem && !closed && codeOf(error) !== readOnlyCode) {
        log.warn(
          { event: 'device_changes_not_pruned', reason },
          'Old rows of the tables device_changes and table_changes could not be deleted',
        );
      }
      pruneProblem = reason;
    } finally {
      pruning = false;
    }
  };
  const pause = async (ms: number) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (closed) wake();
    });
  };
  const letGo = () => {
    const old = client;
    client = undefined;
    old?.removeAllListeners('notification');
    // Not awaited: a connection that is cut off may take long to end.
    old?.end().catch(() => {});
  };

  /** Follows on one connection until it breaks, which throws, or the feed is closed. */
  const follow = async (onReady: () => void) => {
    const connected = await db.connect({ applicationName: replicaApplicationName });
    client = connected;
    let lost = false;
    connected.on('end', () => {
      lost = true;
      wake();
    });
    connected.on('notification', (message) => {
      onNotification(message.channel, message.payload ?? '');
    });
    await sweep(connected);
    // Otherwise each query that is given up while a table is locked would leave a connection behind in the server.
    const limitTime = () => setForSession(connected, 'statement_timeout', String(db.timeoutMs));
    if (db.embedded === undefined && (await within(db.timeoutMs, limitTime()))) {
      await within(db.timeoutMs, connected.query(listenStatement)).catch((error: unknown) => {
        // A standby knows no LISTEN; the sweep tells what it receives.
        if (codeOf(error) !== readOnlyCode) throw error;
      });
    }
    if (closed) return;
    live = true;
    awaySinceMs = Number.POSITIVE_INFINITY;
    onReady();
    for (const follower of followers) follower.onLive?.();
    while (!closed) {
      for (const follower of followers) follower.onSweep?.();
      await pause(sweepEveryMs);
      if (closed) return;
      if (lost) throw new Error('Connection terminated');
      await sweep(connected);
    }
  };

  const keepGoing = async (first: { resolve(): void; reject(error: unknown): void }) => {
    let started = false;
    let retryMs = retryFirstMs;
    let failures = 0;
    let lastReason: string | undefined;
    while (!closed) {
      try {
        await follow(() => {
          if (failures > 1)
            log.info({ event: 'database_back', where: db.where }, 'the database answers again');
          started = true;
          failures = 0;
          lastReason = undefined;
          retryMs = retryFirstMs;
          first.resolve();
        });
      } catch (error) {
        if (!started) {
          closed = true;
          letGo();
          first.reject(toDatabaseError(error, db.where));
          return;
        }
        failures += 1;
        // Other idle connections may have gone the same way.
        if (failures === 1) db.dropIdleConnections();
        const reason = messageOf(toDatabaseError(error, db.where));
        // One connection may end, or be slow on a busy machine; only when the next one fails too the database is away.
        if (!closed && failures > 1 && reason !== lastReason) {
          lastReason = reason;
          log.warn(
            { event: 'database_away', where: db.where, reason },
            'the database cannot be used; known devices can still connect',
          );
        }
        if (live && !closed && failures > 1) {
          live = false;
          awaySinceMs = performance.now();
          for (const follower of followers) follower.onAway?.();
        }
      }
      letGo();
      if (closed) return;
      // The end of a connection says nothing about the database: that the next one fails does.
      if (failures === 1) continue;
      await pause(retryMs);
      retryMs = Math.min(retryMs * 2, retryMostMs);
    }
  };

  const unwatch = db.embedded?.watch({
    onNotification,
    onUp() {
      if (live) for (const table of followedTables) tell(table, undefined);
    },
    onDown() {
      wake();
    },
  });
  let running: Promise<void> | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      running = keepGoing({ resolve, reject });
    });
  } catch (error) {
    unwatch?.();
    throw error;
  }
  return {
    /** The database answers. */
    get live(): boolean {
      return live;
    },
    /** When the database went away, ms as of `performance.now()`; Infinity while it is not. */
    get awaySinceMs(): number {
      return awaySinceMs;
    },
    /** DATABASE_TIMEOUT_MS. */
    timeoutMs: db.timeoutMs,
    /**
     * Tells of the changes of a table from now on.
     *
     * @returns a function that ends it.
     */
    follow(table: FollowedTable, follower: ChangeFollower): () => void {
      const entry = { ...follower, table };
      followers.add(entry);
      return () => followers.delete(entry);
    },
    async close(): Promise<void> {
      closed = true;
      live = false;
      unwatch?.();
      wake();
      letGo();
      await running;
    },
  };
}
