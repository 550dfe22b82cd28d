import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { type DeviceRow, insertDevices } from './device-insert.js';
import { type Device, type DeviceFilter, maxDevicesPerPage, shownColumns, whereDevices } from './devices.js';

/**
 * Stores devices that come from elsewhere, a batch after the other, none larger than `rowsPerInsert`.
 *
 * @param options.allOrNone one transaction for all of them: when reading the batches or `onStored` fails, nothing is
 *   stored. Otherwise each batch is stored for itself.
 * @param options.onStored called before a batch is committed, with the ids of its rows that were stored: the id of
 *   each other one is taken.
 * @throws SvcMqttError DATABASE_UNREACHABLE; whatever the batches and `onStored` throw.
 */
export async function importDevices<Row extends DeviceRow>(
  db: Database,
  actor: Actor,
  batches: AsyncIterable<readonly Row[]>,
  options: {
    allOrNone: boolean;
    onStored(batch: readonly Row[], stored: ReadonlyMap<string, Date>): Promise<void>;
  },
): Promise<void> {
  type Orm = Parameters<typeof insertDevices>[0];
  const store = async (orm: Orm, batch: readonly Row[]) => {
    const stored = await insertDevices(orm, batch);
    const entries = batch
      .filter(({ id }) => stored.has(id))
      .map(({ id, type }) => ({ action: 'device.import', target: id, details: { type } }));
    await writeAudit(orm, actor, entries);
    await options.onStored(batch, stored);
  };
  if (options.allOrNone) {
    await query(db, () =>
      inTransaction(db, async (orm) => {
        for await (const batch of batches) await store(orm, batch);
      }),
    );
    return;
  }
  for await (const batch of batches) await query(db, () => inTransaction(db, (orm) => store(orm, batch)));
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
