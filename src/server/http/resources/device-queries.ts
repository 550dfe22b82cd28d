import { type Actor, writeAudit } from '../../../db/audit.js';
import type { Database } from '../../../db/connection/open.js';
import { query } from '../../../db/connection/query.js';
import {
  type DeviceChanges,
  type RotatedDevice,
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

/** The device queries that the API makes, with the errors of their namesakes in `src/db`. */
export interface DeviceQueries {
  add(actor: Actor, request: Omit<AddRequest, 'count'>): Promise<NewDevice>;
  list(
    request: DeviceFilter & {
      sort: DeviceSort;
      descending: boolean;
      after: SortedPlace | undefined;
      limit: number;
    },
  ): Promise<(Device & { readonly sortKey?: string })[]>;
  /** @param madeBy only if the key with this id added it. */
  find(id: string, madeBy?: string): Promise<Device | undefined>;
  /** @returns undefined when nothing is known of it. */
  ledger(id: string): Promise<Ledger | undefined>;
  revoke(actor: Actor, id: string, reason?: string): Promise<'revoked' | 'already revoked' | 'unknown'>;
  enable(actor: Actor, id: string): Promise<Device | undefined>;
  /** @returns whether there was one. */
  remove(actor: Actor, id: string): Promise<boolean>;
  set(actor: Actor, id: string, changes: DeviceChanges): Promise<Device | undefined>;
  rotate(actor: Actor, id: string, request: Rotation): Promise<RotatedDevice | undefined>;
  /**
   * Stores devices in one transaction, without those whose ids are taken.
   *
   * @param check called with the ids that are taken before the others are there; when it throws, none is stored.
   * @returns when each of those stored was made, by id.
   */
  import(
    actor: Actor,
    rows: readonly DeviceRow[],
    check: (taken: ReadonlySet<string>) => void,
  ): Promise<ReadonlyMap<string, Date>>;
  /** A page of devices with their hashes, and one more where there are more; the page is noted in the audit log first. */
  export(
    actor: Actor,
    request: Pick<DeviceFilter, 'type' | 'metadata'> & { after: string | undefined; limit: number },
  ): Promise<ExportedDevice[]>;
}

/** The ledger of a device, as all replicas together know it. */
export type ReadLedger = (deviceId: string) => Promise<Ledger | undefined>;

export function bindDeviceQueries(db: Database, ledger: ReadLedger): DeviceQueries {
  return {
    async add(actor, request) {
      const [device] = await addDevices(db, actor, request);
      if (device === undefined) throw new SvcMqttError('INTERNAL', 'Adding one device made none');
      return device;
    },
    list({ sort, descending, after, ...request }) {
      // Only in order of id is the next page found without looking through all devices.
      if (sort === 'id' && !descending) return listDevices(db, { ...request, after: after?.id });
      return listSortedDevices(db, { ...request, sort, descending, after });
    },
    find: (id, madeBy) => findDevice(db, id, madeBy),
    ledger,
    async revoke(actor, id, reason) {
      const { changed, unknown } = await revokeDevices(db, actor, [id], reason);
      if (unknown.length > 0) return 'unknown';
      return changed.length > 0 ? 'revoked' : 'already revoked';
    },
    async enable(actor, id) {
      await enableDevices(db, actor, [id]);
      return await findDevice(db, id);
    },
    async remove(actor, id) {
      const { changed } = await removeDevices(db, actor, [id]);
      return changed.length > 0;
    },
    set: (actor, id, changes) => setDevice(db, actor, id, changes),
    rotate: (actor, id, request) => rotateSecret(db, actor, id, request),
    async import(actor, rows, check) {
      let stored: ReadonlyMap<string, Date> = new Map();
      const batch = rows.map((row) => ({ ...row, madeBy: actor.keyId }));
      await importDevices(db, actor, [batch], (_, made) => {
        check(new Set(rows.map(({ id }) => id).filter((id) => !made.has(id))));
        stored = made;
      });
      return stored;
    },
    async export(actor, { after, limit, ...filter }) {
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
