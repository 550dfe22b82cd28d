import type { Database } from './open.js';
import { query } from './query.js';

/** What a database says of itself. */
export interface DatabaseInspection {
  /** As `15.6`. */
  readonly version: string;
  /** Its clock. */
  readonly now: Date;
  /** A standby, or a session that may not write. */
  readonly readOnly: boolean;
  readonly maxConnections: number;
  /** As `30s`; `0`: the server ends no query. */
  readonly statementTimeout: string;
}

/**
 * Whether the database takes no changes now, from a session like any other.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function isReadOnly(db: Database): Promise<boolean> {
  const { rows } = await query(db, () =>
    db.pool.query<{ read_only: string }>(`select current_setting('transaction_read_only') as read_only`),
  );
  return rows[0]?.read_only === 'on';
}

/** @throws SvcMqttError DATABASE_*. */
export async function inspectDatabase(db: Database): Promise<DatabaseInspection> {
  const { rows } = await query(db, () =>
    db.pool.query<{
      version: string;
      now: Date;
      read_only: string;
      max_connections: string;
      statement_timeout: string;
    }>(
      `select current_setting('server_version') as version, clock_timestamp() as now,
        current_setting('transaction_read_only') as read_only,
        current_setting('max_connections') as max_connections,
        current_setting('statement_timeout') as statement_timeout`,
    ),
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database answered no row');
  return {
    version: row.version.split(' ')[0] ?? row.version,
    now: row.now,
    readOnly: row.read_only === 'on',
    maxConnections: Number(row.max_connections),
    statementTimeout: row.statement_timeout,
  };
}
