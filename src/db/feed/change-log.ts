import type pg from 'pg';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { type FollowedTable, followedTables } from './followed-tables.js';

/** How far the changes have been read. */
export interface Position {
  /** Which transactions had ended: `pg_snapshot` as text. */
  readonly snapshot: string;
  /** The transaction before which all had ended: `xid8` as text. */
  readonly xmin: string;
  /** When, by the database's clock, in seconds since 1970. */
  readonly at: number;
}

/** What has been committed since a position. */
export interface Changes {
  readonly position: Position;
  /** The tables that were changed, each with the ids of the rows, or undefined: any may have been. */
  readonly changed: ReadonlyMap<FollowedTable, readonly string[] | undefined>;
}

/** Most changed devices that are told one by one. */
const maxIds = 10_000;
/** A position can be gone on from for half as long as changes are kept. */
const keptSec = 60;
export const keptMs = keptSec * 1_000;
const rowsPerPrune = 5_000;

/** A row of a log that was written by a transaction that ended since the position. */
const isNew = `xid >= pg_snapshot_xmin($1) and xid < pg_snapshot_xmax(pg_current_snapshot())
  and not pg_visible_in_snapshot(xid, $1)`;

/**
 * Reads what was changed by transactions that ended since `since`, however long they ran: a transaction's
 * changes become visible when it commits, so neither their time nor the order of their transactions' numbers tells which are
 * new, only the snapshots do. Where the database's transactions do not go on from `since`, as on a server that took over,
 * anything may have changed.
 *
 * @param ask runs the query.
 * @param since undefined: only the position of now is wanted.
 */
export async function readChanges(
  ask: <R extends pg.QueryResultRow>(text: string, values: unknown[]) => Promise<pg.QueryResult<R>>,
  since: Position | undefined,
): Promise<Changes> {
  const { rows } = await ask<Position & { ids: string[]; tables: string[]; broken: boolean | null }>(
    `select array(select distinct device_id from device_changes where ${isNew} limit ${maxIds + 1}) as ids,
     array(select distinct table_name from table_changes where ${isNew}) as tables,
     pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::pg_snapshot)
       or extract(epoch from now()) > $2::float8 + ${keptSec / 2} as broken,
     -- A standby does not say which transactions are under way: what may have been read is read once more.
     case when pg_is_in_recovery() then format('%1$s:%1$s:', pg_snapshot_xmin(pg_current_snapshot()))
       else pg_current_snapshot()::text end as snapshot, pg_snapshot_xmin(pg_current_snapshot())::text as xmin,
     extract(epoch from now())::float8 as at`,
    [since?.snapshot, since?.at],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database answered no row');
  const { ids, tables, broken, ...position } = row;
  const changed = new Map<FollowedTable, readonly string[] | undefined>();
  for (const table of followedTables)
    if (broken === true || tables.includes(table)) changed.set(table, undefined);
  if (ids.length > 0 && broken !== true) {
    changed.set('devices', ids.length > maxIds || ids.includes('') ? undefined : ids);
  }
  return { position, changed };
}

/**
 * Deletes changes that every replica has read, some of them at a time; several replicas may do so at once.
 *
 * @param before the position of a time since when changes have been kept for long enough.
 * @returns whether there may be more.
 */
export async function pruneChanges(db: Database, before: Position): Promise<boolean> {
  let more = false;
  for (const log of ['device_changes', 'table_changes']) {
    const { rowCount } = await query(db, () =>
      db.pool.query(
        `delete from ${log} where ctid = any(array(
           select ctid from ${log} where xid < $1 limit ${rowsPerPrune} for update skip locked
         ))`,
        [before.xmin],
      ),
    );
    more ||= rowCount === rowsPerPrune;
  }
  return more;
}
