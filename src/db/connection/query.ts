import { isConnectionLost, toDatabaseError } from './database-errors.js';
import type { Database } from './open.js';

/**
 * Runs a query, or a transaction, and says of a failure what is wrong with the database.
 *
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED, DATABASE_READ_ONLY, DATABASE_SCHEMA; any other error as the driver made it.
 */
export async function query<T>(db: Database, run: () => PromiseLike<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw toDatabaseError(error, db.where);
  }
}

/**
 * Runs a query that changes nothing, and once more when its connection turns out to have ended while it lay idle: that
 * must not keep a device out.
 *
 * @throws as `query`.
 */
export async function readQuery<T>(db: Database, run: () => PromiseLike<T>): Promise<T> {
  return await query(db, async () => {
    try {
      return await run();
    } catch (error) {
      if (!isConnectionLost(error)) throw error;
      // The others may have ended with it.
      db.dropIdleConnections();
      return await run();
    }
  });
}

/** Ids of one query. */
export const idsPerQuery = 5_000;

export function* batchesOf<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
