import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { type DeviceRow, insertDevices } from './device-insert.js';
import { type Device, type DeviceFilter, maxDevicesPerPage, shownColumns, whereDevices } from './devices.js';

/**
 * Stores devices that come from elsewhere in one transaction, a batch after the other, none larger than `rowsPerInsert`.
 *
 * @param onStored called behind each batch, before anything is committed, with the ids of its rows that were stored: the id
 *   of each other one is taken. When it fails, or reading the batches, nothing is stored.
 * @throws SvcMqttError DATABASE_UNREACHABLE; whatever the batches and `onStored` throw.
 */
export async function importDevices<Row extends DeviceRow>(
  db: Database,
  actor: Actor,
  batches: AsyncIterable<readonly Row[]> | Iterable<readonly Row[]>,
  onStored: (batch: readonly Row[], stored: ReadonlyMap<string, Date>) => Promise<void> | void,
): Promise<void> {
  await inTransaction(db, async (orm) => {
    for await (const batch of batches) {
      const stored = await insertDevices(orm, batch);
      const entries = batch
        .filter(({ id }) => stored.has(id))
        .map(({ id, type }) => ({ action: 'device.import', target: id, details: { type } }));
      await writeAudit(orm, actor, entries);
      await onStored(batch, stored);
    }
  });
}

/** A device with what is stored of its secrets, from which it can be restored. */
export interface ExportedDevice extends Device {
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly previousSecretHash: Buffer | null;
  readonly previousSecretSalt: Buffer | null;
}

/** Lists devices with what is stored of their secrets, in order of id, `limit` at a time. */
export async function exportDevices(
  db: Database,
  request: DeviceFilter & { readonly after?: string | undefined; readonly limit: number },
): Promise<ExportedDevice[]> {
  const { secretHash, secretSalt, previousSecretHash, previousSecretSalt } = devices;
  return await query(db, () =>
    db.orm
      .select({ ...shownColumns, secretHash, secretSalt, previousSecretHash, previousSecretSalt })
      .from(devices)
      .where(whereDevices(request))
      .orderBy(devices.id)
      .limit(Math.max(1, Math.min(request.limit, maxDevicesPerPage))),
  );
}
