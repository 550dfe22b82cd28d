import type pg from 'pg';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { type Changes, keptMs, type Position, pruneChanges, readChanges } from './change-log.js';
import { codeOf, readOnlyCode, toDatabaseError } from './database-errors.js';
import type { Database } from './open.js';
import { replicaApplicationName } from './replicas.js';
import { setForSession } from './session.js';

/** What the feed tells. */
export interface ChangeFeedListener {
  /** The database answers, for the first time or again: anything may have changed meanwhile. */
  onLive(): void;
  /** The database no longer answers. */
  onAway(): void;
  /** These devices were changed or deleted, or may have been. */
  onChanged(ids: readonly string[]): void;
  /** So much has changed that it is not told one by one. */
  onAnyChanged(): void;
  /** The policies were changed, or may have been; also called with every `onLive`. */
  onPoliciesChanged(): void;
  /** Called at every sweep, which proves that the database answers. */
  onSweep(): void;
}

export interface ChangeFeed {
  readonly live: boolean;
  close(): Promise<void>;
}

const channel = 'devices_changed';
const policiesChannel = 'policies_changed';
const sweepEveryMs = 500;
const retryFirstMs = 50;
const retryMostMs = 1_000;

/**
 * Follows the changes of devices on a connection of its own: notifications tell a change, of whatever kind, when
 * it commits; and a sweep twice a second asks what was committed since the one before, which finds what a notification
 * missed, as behind a connection pooler that does not pass them on, and proves that the database answers. A
 * connection that ends, or is silent for DATABASE_TIMEOUT_MS, is replaced; when that fails the database is away.
 * The next one goes on from where the last one was, before anything else is done with it.
 *
 * PGlite's notifications do not cross connections; its process passes them on.
 *
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED or DATABASE_SCHEMA when the first attempt fails.
 */
export async function startChangeFeed(
  db: Database,
  log: Log,
  listener: ChangeFeedListener,
): Promise<ChangeFeed> {
  let live = false;
  let closed = false;
  let client: pg.Client | undefined;
  /** Ends the wait between two sweeps. */
  let wake = () => {};
  /** What the last sweep saw. */
  let seen: Changes | undefined;
  /** A position that every replica has gone on from when changes before it are pruned. */
  let mark: { position: Position; atMs: number } | undefined;
  let pruning = false;
  let pruneProblem: string | undefined;

  const tell = (name: string, payload: string) => {
    if (closed) return;
    if (name === policiesChannel) listener.onPoliciesChanged();
    else if (name === channel && payload === '') listener.onAnyChanged();
    else if (name === channel) listener.onChanged([payload]);
  };
  /** A query that is given up when it is not answered in time; the driver's types do not know the option. */
  const askOn =
    (connection: pg.Client) =>
    async <R extends pg.QueryResultRow>(text: string, values: unknown[]) => {
      const query: pg.QueryConfig & { query_timeout: number } = { text, values, query_timeout: db.timeoutMs };
      return await connection.query<R>(query);
    };
  const sweep = async (connected: pg.Client) => {
    const before = seen;
    seen = await readChanges(askOn(connected), before?.position);
    if (closed) return;
    const { position, ids, policies } = seen;
    if (ids === undefined) listener.onAnyChanged();
    else if (ids.length > 0) listener.onChanged(ids);
    if (before !== undefined && before.policies !== policies) listener.onPoliciesChanged();
    mark ??= { position, atMs: performance.now() };
    if (performance.now() - mark.atMs > keptMs && !pruning) void prune(mark.position);
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
          'Old rows of the table device_changes could not be deleted',
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
      tell(message.channel, message.payload ?? '');
    });
    await sweep(connected);
    // Otherwise each query that is given up while a table is locked would leave a connection behind in the server.
    if (
      db.embedded === undefined &&
      (await setForSession(connected, 'statement_timeout', String(db.timeoutMs)))
    ) {
      await askOn(connected)(`listen ${channel}; listen ${policiesChannel}`, []).catch((error: unknown) => {
        // A standby knows no LISTEN; the sweep tells what it receives.
        if (codeOf(error) !== readOnlyCode) throw error;
      });
    }
    if (closed) return;
    live = true;
    onReady();
    listener.onLive();
    listener.onPoliciesChanged();
    while (!closed) {
      listener.onSweep();
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
          listener.onAway();
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
    onNotification(name, payload) {
      tell(name, payload);
    },
    onUp() {
      if (!live || closed) return;
      listener.onAnyChanged();
      listener.onPoliciesChanged();
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
    get live() {
      return live;
    },
    async close() {
      closed = true;
      live = false;
      unwatch?.();
      wake();
      letGo();
      await running;
    },
  };
}
