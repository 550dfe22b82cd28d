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
    db.pool.query<{ readOnly: boolean }>(
      `select current_setting('transaction_read_only')::boolean as "readOnly"`,
    ),
  );
  return rows[0]?.readOnly === true;
}

/** @throws SvcMqttError DATABASE_*. */
export async function inspectDatabase(db: Database): Promise<DatabaseInspection> {
  const { rows } = await query(db, () =>
    db.pool.query<DatabaseInspection>(
      `select split_part(current_setting('server_version'), ' ', 1) as version, clock_timestamp() as now,
        current_setting('transaction_read_only')::boolean as "readOnly",
        current_setting('max_connections')::int as "maxConnections",
        current_setting('statement_timeout') as "statementTimeout"`,
    ),
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database answered no row');
  return row;
}
