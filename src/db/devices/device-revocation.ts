import { sql } from 'drizzle-orm';
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import { SvcMqttError } from '../../errors.js';
import { type Actor, writeAudit } from '../audit.js';
import { referringTableOf, toDatabaseError } from '../connection/database-errors.js';
import type { Database } from '../connection/open.js';
import { batchesOf, idsPerQuery } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { checkReason, isStorable, requireValid } from './device-fields.js';

/** Ids by what came of them, each in the order given. */
export interface Outcomes {
  readonly changed: string[];
  readonly unchanged: string[];
  readonly unknown: string[];
}

/**
 * Revokes devices. Revoking a revoked device changes nothing and is not an error.
 *
 * @param reason kept in the audit log.
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function revokeDevices(
  db: Database,
  actor: Actor,
  ids: readonly string[],
  reason?: string,
): Promise<Outcomes> {
  if (reason !== undefined) requireValid('reason', checkReason(reason));
  return await changeRevocation(db, actor, ids, {
    action: 'device.revoke',
    details: reason === undefined ? {} : { reason },
    when: sql`revoked_at is null`,
    revokedAt: sql`clock_timestamp()`,
  });
}

/** Ends the revocation of devices. Enabling a device that is not revoked changes nothing and is not an error. */
export async function enableDevices(db: Database, actor: Actor, ids: readonly string[]): Promise<Outcomes> {
  return await changeRevocation(db, actor, ids, {
    action: 'device.enable',
    when: sql`revoked_at is not null`,
    revokedAt: sql`null`,
  });
}

async function changeRevocation(
  db: Database,
  actor: Actor,
  ids: readonly string[],
  change: {
    action: string;
    details?: Record<string, unknown>;
    when: ReturnType<typeof sql>;
    revokedAt: ReturnType<typeof sql>;
  },
): Promise<Outcomes> {
  const { action, details = {}, when, revokedAt } = change;
  return await inBatches(ids, (batch) =>
    inTransaction(db, async (orm) => {
      // Locking in order of id keeps two changes of overlapping lists from waiting for each other.
      const { rows: held } = await orm.execute<{ id: string; changes: boolean }>(sql`
        with held as (
          select id, ${when} as changes from ${devices}
          where id = any(${sql.param(batch)}::text[]) order by id for update
        ), changed as (
          update ${devices} set revoked_at = ${revokedAt} from held
          where ${devices}.id = held.id and held.changes
        )
        select id, changes from held`);
      const entries = held.flatMap(({ id, changes }) => (changes ? { action, target: id, details } : []));
      await writeAudit(orm, actor, entries);
      return held;
    }),
  );
}

/** @param change answers the devices of a batch that are there. */
async function inBatches(
  ids: readonly string[],
  change: (batch: readonly string[]) => Promise<readonly { id: string; changes: boolean }[]>,
): Promise<Outcomes> {
  const wanted = [...new Set(ids)];
  const outcomes = new Map<string, boolean>();
  for (const batch of batchesOf(wanted.filter(isStorable), idsPerQuery))
    for (const { id, changes } of await change(batch)) outcomes.set(id, changes);
  return {
    changed: wanted.filter((id) => outcomes.get(id) === true),
    unchanged: wanted.filter((id) => outcomes.get(id) === false),
    unknown: wanted.filter((id) => !outcomes.has(id)),
  };
}

/**
 * Deletes devices, with their secrets and metadata. An id is free then, for a device that has nothing of this one.
 *
 * @throws SvcMqttError DEVICE_IN_USE, naming those to which rows of other tables refer; none of their batch is deleted.
 */
export async function removeDevices(db: Database, actor: Actor, ids: readonly string[]): Promise<Outcomes> {
  return await inBatches(ids, async (batch) => {
    try {
      return await inTransaction(db, async (orm) => {
        const rows = await deleteDevices(orm, batch);
        const entries = rows.map(({ id, type }) => ({
          action: 'device.remove',
          target: id,
          details: { type },
        }));
        await writeAudit(orm, actor, entries);
        return rows.map(({ id }) => ({ id, changes: true }));
      });
    } catch (error) {
      const table = referringTableOf(error);
      if (table === undefined) throw error;
      // The database names one of the tables, and no device.
      const tables = batch.length === 1 ? new Map([[batch[0] ?? '', table]]) : await findReferred(db, batch);
      // The row is gone meanwhile: it may be tried again.
      if (tables.size === 0) throw error;
      throw inUse(tables, batch.length, error);
    }
  });
}

async function deleteDevices(
  orm: NodePgDatabase,
  ids: readonly string[],
): Promise<{ id: string; type: string }[]> {
  const { rows } = await orm.execute<{ id: string; type: string }>(sql`
    with held as (
      select id from ${devices} where id = any(${sql.param(ids)}::text[]) order by id for update
    )
    delete from ${devices} using held where ${devices}.id = held.id
    returning ${devices}.id, ${devices}.type`);
  return rows;
}

/** To which devices rows refer, with their table: tries to delete each, and undoes it. */
async function findReferred(db: Database, ids: readonly string[]): Promise<Map<string, string>> {
  const tables = new Map<string, string>();
  const client = await db.pool.connect();
  try {
    for (const id of ids) {
      await client.query('begin');
      try {
        await deleteDevices(drizzle(client), [id]);
        // Some foreign keys are checked at the end of the transaction only.
        await client.query('set constraints all immediate');
      } catch (error) {
        const table = referringTableOf(error);
        if (table === undefined) throw error;
        tables.set(id, table);
      }
      await client.query('rollback');
    }
    client.release();
  } catch (error) {
    client.release(true);
    throw toDatabaseError(error, db.where);
  }
  return tables;
}

const shownInUse = 20;

function inUse(tables: ReadonlyMap<string, string>, wanted: number, cause: unknown): SvcMqttError {
  const [[id, table] = ['', '']] = tables;
  const shown = [...tables].slice(0, shownInUse).map(([id, table]) => `${id} (table ${table})`);
  const more = tables.size > shownInUse ? `, and ${tables.size - shownInUse} more` : '';
  return wanted === 1
    ? new SvcMqttError(
        'DEVICE_IN_USE',
        `The device ${id} cannot be removed: a row of the table ${table} refers to it`,
        { suggestion: 'Revoke it instead, or delete that row first', cause },
      )
    : new SvcMqttError(
        'DEVICE_IN_USE',
        `Devices cannot be removed, because rows of other tables refer to them: ${shown.join(', ')}${more}`,
        {
          suggestion: `Revoke these instead, or delete those rows first; none of the ${wanted} devices named with them was removed`,
          cause,
        },
      );
}
