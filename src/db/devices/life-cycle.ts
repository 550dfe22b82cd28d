import type pg from 'pg';
import { codeOf } from '../connection/database-errors.js';
import type { Database } from '../connection/open.js';
import { inTransaction } from '../connection/transaction.js';

/** What became of a device, as services are told. */
type LifeCycleKind = 'provisioned' | 'claimed' | 'changed' | 'rotated' | 'revoked' | 'enabled' | 'removed';

/** One change of a device, from the audit log. */
export interface LifeCycleChange {
  /** Of its record in the audit log. */
  readonly id: number;
  readonly at: Date;
  readonly kind: LifeCycleKind;
  readonly device: string;
  /** Who made it, such as `api-key:shop`. */
  readonly actor: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** What the actions of the audit log are called. */
const kindOfAction: Readonly<Record<string, LifeCycleKind>> = {
  'device.add': 'provisioned',
  'device.import': 'provisioned',
  'device.set': 'changed',
  'device.rotate': 'rotated',
  'device.revoke': 'revoked',
  'device.enable': 'enabled',
  'device.remove': 'removed',
};
const actions = Object.keys(kindOfAction);
const rowsPerBatch = 500;
/** Small enough to stay far below the limit on the time of a query. */
const rowsPerUpdate = 5_000;
/** Longest that the same records are looked through again, when none of them is of a device. */
const keepCursorMs = 60_000;
/** When the cursor was last written by this process, as of `performance.now()`. */
const writtenAtMs = new WeakMap<Database, number>();

interface AuditRow {
  readonly id: string;
  readonly at: Date;
  readonly actor_kind: string;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly details: Record<string, unknown>;
}

/**
 * Hands over the changes of devices that were committed since the last call of any replica, in the order of the audit log,
 * and forgets them when `tell` has taken all: each is handed over at least once. What `tell` throws goes on; a SvcMqttError
 * leaves the connection as it was. The first call of all only notes where to begin, as
 * does one in a database that does not go on from there. While another replica is at it nothing is done.
 *
 * @returns how many there were.
 */
export async function passOnChanges(
  db: Database,
  tell: (changes: readonly LifeCycleChange[]) => Promise<void>,
): Promise<number> {
  try {
    // All batches see the same changes, which are those that the cursor then stands behind.
    return await inTransaction(db, (_orm, client) => passOn(db, client, tell), 'repeatable read');
  } catch (error) {
    // Another replica has just passed them on.
    if (codeOf(error) === serializationFailure) return 0;
    throw error;
  }
}

const serializationFailure = '40001';

async function passOn(
  db: Database,
  client: pg.ClientBase,
  tell: (changes: readonly LifeCycleChange[]) => Promise<void>,
): Promise<number> {
  const { rows: cursors } = await client.query<{ snapshot: string; broken: boolean }>(
    `select snapshot, pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(snapshot::pg_snapshot) as broken
     from event_cursor for update skip locked`,
  );
  const [cursor] = cursors;
  if (cursor === undefined) {
    const { rowCount } = await client.query(
      'insert into event_cursor (snapshot) select pg_current_snapshot()::text on conflict do nothing',
    );
    // There is one otherwise, and another replica is at it.
    if (rowCount === 1) await forgetForeign(client);
    return 0;
  }
  if (cursor.broken) await forgetForeign(client);
  let passed = 0;
  let lastId = '0';
  while (!cursor.broken) {
    const { rows } = await client.query<AuditRow>(
      `select id, at, actor_kind, actor, action, target, details from audit_log
       where xid >= pg_snapshot_xmin($1) and xid < pg_snapshot_xmax(pg_current_snapshot())
         and not pg_visible_in_snapshot(xid, $1) and action = any($2) and id > $3
       order by id limit ${rowsPerBatch}`,
      [cursor.snapshot, actions, lastId],
    );
    if (rows.length > 0) await tell(rows.map(toChange));
    passed += rows.length;
    lastId = rows.at(-1)?.id ?? lastId;
    if (rows.length < rowsPerBatch) break;
  }
  const nowMs = performance.now();
  if (
    passed > 0 ||
    cursor.broken ||
    nowMs - (writtenAtMs.get(db) ?? Number.NEGATIVE_INFINITY) > keepCursorMs
  ) {
    await client.query('update event_cursor set snapshot = pg_current_snapshot()::text');
    writtenAtMs.set(db, nowMs);
  }
  return passed;
}

/**
 * Takes the transaction from records whose transaction is still to come: they were restored from a server whose numbers were
 * higher. When the numbers of this one get there they would count as new.
 */
async function forgetForeign(client: pg.ClientBase): Promise<void> {
  for (let lastId: string | null = '0'; lastId !== null; ) {
    const { rows }: pg.QueryResult<{ last: string | null }> = await client.query(
      `with foreign_records as (
         select id from audit_log where xid >= pg_snapshot_xmax(pg_current_snapshot()) and id > $1
         order by id limit ${rowsPerUpdate}
       ), forgotten as (
         update audit_log set xid = null from foreign_records where audit_log.id = foreign_records.id
         returning audit_log.id
       )
       select max(id) as last from forgotten`,
      [lastId],
    );
    lastId = rows[0]?.last ?? null;
  }
}

function toChange(row: AuditRow): LifeCycleChange {
  const { id, at, actor_kind, actor, action, target, details } = row;
  const isClaimed = action === 'device.add' && actor_kind === 'claim';
  return {
    id: Number(id),
    at,
    kind: isClaimed ? 'claimed' : (kindOfAction[action] as LifeCycleKind),
    device: target,
    actor: actor_kind === actor ? actor : `${actor_kind}:${actor}`,
    details,
  };
}
