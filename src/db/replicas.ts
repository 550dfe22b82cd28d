import type { Database } from './connection/open.js';

/** The name under which the one connection of each replica that follows changes is seen in `pg_stat_activity`. */
export const replicaApplicationName = 'svc-mqtt replica';

/**
 * How many replicas run on this database: those whose connection for changes is open. The embedded database serves
 * one server, with its workers. Undefined behind a connection pooler, where the connections that the database sees are the pooler's.
 */
export async function countReplicas(db: Database, workers = 1): Promise<number | undefined> {
  if (db.pooled) return undefined;
  if (db.kind === 'embedded') return workers;
  const { rows } = await db.pool.query<{ count: number }>(
    'select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = $1',
    [replicaApplicationName],
  );
  return Math.max(1, rows[0]?.count ?? 1);
}
