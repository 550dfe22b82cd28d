import { type Actor, writeAudit } from '../../../db/audit.js';
import type { Database } from '../../../db/connection/open.js';
import { query } from '../../../db/connection/query.js';
import {
  type DeviceChanges,
  type Rotation,
  rotateSecret,
  setDevice,
} from '../../../db/devices/device-changes.js';
import { type ExportedDevice, exportDevices, importDevices } from '../../../db/devices/device-import.js';
import type { DeviceRow } from '../../../db/devices/device-insert.js';
import type { Ledger } from '../../../db/devices/device-ledger.js';
import { enableDevices, removeDevices, revokeDevices } from '../../../db/devices/device-revocation.js';
import {
  type AddRequest,
  addDevices,
  type Device,
  type DeviceFilter,
  type DeviceSort,
  findDevice,
  listDevices,
  listSortedDevices,
  type NewDevice,
} from '../../../db/devices/devices.js';
import { SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';

/** Where a page begins: behind the device with this id, which has this key of the order. */
export interface SortedPlace {
  readonly id: string;
  readonly sortKey: string;
}

/** The ledger of a device, as all replicas together know it; undefined: nothing is known of it. */
export type ReadLedger = (deviceId: string) => Promise<Ledger | undefined>;

export type DeviceQueries = ReturnType<typeof bindDeviceQueries>;

/** The device queries that the API makes, with the errors of their namesakes in `src/db`. */
export function bindDeviceQueries(db: Database, ledger: ReadLedger) {
  return {
    async add(actor: Actor, request: Omit<AddRequest, 'count'>): Promise<NewDevice> {
      const [device] = await addDevices(db, actor, request);
      if (device === undefined) throw new SvcMqttError('INTERNAL', 'Adding one device made none');
      return device;
    },
    async list({
      sort,
      descending,
      after,
      ...request
    }: DeviceFilter & {
      sort: DeviceSort;
      descending: boolean;
      after: SortedPlace | undefined;
      limit: number;
    }): Promise<(Device & { readonly sortKey?: string })[]> {
      // Only in order of id is the next page found without looking through all devices.
      if (sort === 'id' && !descending) return listDevices(db, { ...request, after: after?.id });
      return listSortedDevices(db, { ...request, sort, descending, after });
    },
    /** @param madeBy only if the key with this id added it. */
    find: (id: string, madeBy?: string) => findDevice(db, id, madeBy),
    ledger,
    async revoke(
      actor: Actor,
      id: string,
      reason?: string,
    ): Promise<'revoked' | 'already revoked' | 'unknown'> {
      const { changed, unknown } = await revokeDevices(db, actor, [id], reason);
      if (unknown.length > 0) return 'unknown';
      return changed.length > 0 ? 'revoked' : 'already revoked';
    },
    async enable(actor: Actor, id: string): Promise<Device | undefined> {
      await enableDevices(db, actor, [id]);
      return await findDevice(db, id);
    },
    /** @returns whether there was one. */
    async remove(actor: Actor, id: string): Promise<boolean> {
      const { changed } = await removeDevices(db, actor, [id]);
      return changed.length > 0;
    },
    set: (actor: Actor, id: string, changes: DeviceChanges) => setDevice(db, actor, id, changes),
    rotate: (actor: Actor, id: string, request: Rotation) => rotateSecret(db, actor, id, request),
    /**
     * Stores devices in one transaction, without those whose ids are taken.
     *
     * @param check called with the ids that are taken before the others are there; when it throws, none is stored.
     * @returns when each of those stored was made, by id.
     */
    async import(
      actor: Actor,
      rows: readonly DeviceRow[],
      check: (taken: ReadonlySet<string>) => void,
    ): Promise<ReadonlyMap<string, Date>> {
      let stored: ReadonlyMap<string, Date> = new Map();
      const batch = rows.map((row) => ({ ...row, madeBy: actor.keyId }));
      await importDevices(db, actor, [batch], (_, made) => {
        check(new Set(rows.map(({ id }) => id).filter((id) => !made.has(id))));
        stored = made;
      });
      return stored;
    },
    /** A page of devices with their hashes, and one more where there are more; the page is noted in the audit log first. */
    async export(
      actor: Actor,
      {
        after,
        limit,
        ...filter
      }: Pick<DeviceFilter, 'type' | 'metadata'> & { after: string | undefined; limit: number },
    ): Promise<ExportedDevice[]> {
      const rows = await exportDevices(db, { ...filter, state: 'all', after, limit: limit + 1 });
      const page = rows.slice(0, limit);
      const details = {
        count: page.length,
        first: page[0]?.id ?? null,
        last: page.at(-1)?.id ?? null,
        ...filter,
      };
      await query(db, () => writeAudit(db.orm, actor, [{ action: 'device.export', target: '*', details }]));
      return rows;
    },
  };
}

export interface DeviceOptions {
  readonly devices: DeviceQueries;
  readonly log: Log;
}
