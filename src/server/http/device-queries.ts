import type { Actor } from '../../db/audit.js';
import type { DeviceChanges, RotatedDevice, Rotation } from '../../db/device-changes.js';
import type { AddRequest, Device, DeviceFilter, DeviceSort, NewDevice } from '../../db/devices.js';
import type { Log } from '../../log.js';

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
  revoke(actor: Actor, id: string): Promise<'revoked' | 'already revoked' | 'unknown'>;
  enable(actor: Actor, id: string): Promise<Device | undefined>;
  /** @returns whether there was one. */
  remove(actor: Actor, id: string): Promise<boolean>;
  set(actor: Actor, id: string, changes: DeviceChanges): Promise<Device | undefined>;
  rotate(actor: Actor, id: string, request: Rotation): Promise<RotatedDevice | undefined>;
}

export interface DeviceOptions {
  readonly devices: DeviceQueries;
  readonly log: Log;
}
