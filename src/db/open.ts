import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import type pg from 'pg';
import type { Config } from '../config.js';
import type { Log } from '../log.js';

/** An open database: PostgreSQL, or the embedded PGlite behind its unix socket; the same client in both cases. */
export interface Database {
  readonly kind: 'postgres' | 'embedded';
  /** Where it is, without credentials, for messages: `postgres://host:port/name` or the data directory. */
  readonly where: string;
  readonly pool: pg.Pool;
  readonly orm: NodePgDatabase;
  /** Ends the connections and, when this process started it, the embedded database. Idempotent. */
  close(): Promise<void>;
}

export type DatabaseConfig = Pick<
  Config,
  'databaseUrl' | 'dataDir' | 'databasePoolSize' | 'databaseTimeoutMs'
>;

/**
 * Opens the configured database and proves with one query that it answers.
 *
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED, DATABASE_EMBEDDED.
 */
export async function openDatabase(_config: DatabaseConfig, _log: Log): Promise<Database> {
  throw new Error('not built');
}
