import { sql } from 'drizzle-orm';
import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { addDevices, type NewDevice } from './devices.js';

/** The type of the device that stands for others while the way of a message is tried. */
const syntheticType = 'svc-mqtt-doctor';

/** Should nobody remove it, it is of no use to anyone after this time. */
const lifeMs = 10 * 60_000;

/** Adds the device. */
export async function addSyntheticDevice(db: Database, actor: Actor): Promise<NewDevice> {
  const [device] = await addDevices(db, actor, {
    type: syntheticType,
    expiresAt: new Date(Date.now() + lifeMs),
  });
  if (device === undefined) throw new Error('adding one device made none');
  return device;
}

/** Removes it, and those of its type that have expired: who added them did not live to remove them. */
export async function removeSyntheticDevice(db: Database, actor: Actor, id: string): Promise<void> {
  await inTransaction(db, async (orm) => {
    const { rows } = await orm.execute<{ id: string }>(sql`
      delete from ${devices}
      where type = ${syntheticType} and (id = ${id} or expires_at < now())
      returning id`);
    const entries = rows.map((row) => ({ action: 'device.remove', target: row.id }));
    await writeAudit(orm, actor, entries);
  });
}
