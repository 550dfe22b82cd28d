import type pg from 'pg';
import type { Database } from './open.js';
import { query } from './query.js';

/** How far the changes of devices have been read. */
export interface Position {
  /** Which transactions had ended: `pg_snapshot` as text. */
  readonly snapshot: string;
  /** The transaction before which all had ended: `xid8` as text. */
  readonly xmin: string;
  /** When, by the database's clock: `timestamptz` as text. */
  readonly at: string;
}

/** What has been committed since a position. */
export interface Changes {
  readonly position: Position;
  /** The devices that were changed or deleted; undefined: any may have been. */
  readonly ids: readonly string[] | undefined;
  /** Differs from that of another time when the policies have changed. */
  readonly policies: string;
}

/** Most changed devices that are told one by one. */
const maxIds = 10_000;
/** A position can be gone on from for half as long as changes are kept. */
const keptSec = 60;
export const keptMs = keptSec * 1_000;
const idsPerPrune = 5_000;

/**
 * Reads which devices were changed by transactions that ended since `since`, however long they ran: a transaction's
 * changes become visible when it commits, so neither their time nor the order of their transactions' numbers tells which are
 * new, only the snapshots do. Where the database's transactions do not go on from `since`, as on a server that took over, any
 * device may have changed.
 *
 * @param ask runs the query.
 * @param since undefined: only the position of now is wanted.
 */
export async function readChanges(
  ask: <R extends pg.QueryResultRow>(text: string, values: unknown[]) => Promise<pg.QueryResult<R>>,
  since: Position | undefined,
): Promise<Changes> {
  const { rows } = await ask<Position & { ids: string[]; policies: string; broken: boolean | null }>(
    `select array(
       select distinct device_id from device_changes
       where xid >= pg_snapshot_xmin($1) and xid < pg_snapshot_xmax(pg_current_snapshot())
         and not pg_visible_in_snapshot(xid, $1)
       limit ${maxIds + 1}
     ) as ids,
     (select count(*) || ' ' || coalesce(sum(extract(epoch from updated_at)), 0) from policies) as policies,
     pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::pg_snapshot)
       or now() > $2::timestamptz + interval '${keptSec / 2} seconds' as broken,
     -- A standby does not say which transactions are under way: what may have been read is read once more.
     case when pg_is_in_recovery() then format('%1$s:%1$s:', pg_snapshot_xmin(pg_current_snapshot()))
       else pg_current_snapshot()::text end as snapshot, pg_snapshot_xmin(pg_current_snapshot())::text as xmin, now()::text as at`,
    [since?.snapshot, since?.at],
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database answered no row');
  const { ids, policies, broken, ...position } = row;
  const any = broken === true || ids.length > maxIds || ids.includes('');
  return { position, ids: any ? undefined : ids, policies };
}

/**
 * Deletes changes that every replica has read, some of them at a time; several replicas may do so at once.
 *
 * @param before the position of a time since when changes have been kept for long enough.
 * @returns whether there may be more.
 */
export async function pruneChanges(db: Database, before: Position): Promise<boolean> {
  const { rowCount } = await query(db, () =>
    db.pool.query(
      `delete from device_changes where ctid = any(array(
         select ctid from device_changes where xid < $1 limit ${idsPerPrune} for update skip locked
       ))`,
      [before.xmin],
    ),
  );
  return rowCount === idsPerPrune;
}
