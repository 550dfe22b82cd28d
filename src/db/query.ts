import { toDatabaseError } from './database-errors.js';
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

/** Ids of one query. */
export const idsPerQuery = 5_000;

export function* batchesOf<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
