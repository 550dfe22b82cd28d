import type { DeviceDetailsJson, DeviceJson, NewDeviceJson, RotatedDeviceJson } from '../../api/device.js';
import type { StoredDeviceJson } from '../../api/stored-device.js';
import { batchesOf } from '../../db/connection/query.js';
import type { Metadata } from '../../db/devices/device-fields.js';
import type { Outcomes } from '../../db/devices/device-revocation.js';
import { prefaced, requireGoing } from '../terminal/io.js';
import { formatShare } from '../terminal/text.js';
import { type ApiCall, orUndefined, orUnsure } from './api-call.js';
import { openApiImport } from './api-import.js';
import type { DeviceStore } from './store.js';

/** Requests of one command under way at once. */
const atOnce = 8;
const unknownDevice = 'DEVICE_NOT_FOUND';

/** The devices of an API. A signal begins no further request; those under way end. */
export function openApiDevices(api: ApiCall, signal: AbortSignal): DeviceStore {
  const pathOf = (id: string, verb = '') => `/devices/${encodeURIComponent(id)}${verb}`;
  const find = (id: string) => api.getUnless<DeviceDetailsJson>(unknownDevice, pathOf(id));
  /** Does something to each device, some at once, and sorts their ids by what came of it. */
  async function* sortOut(
    ids: readonly string[],
    change: (id: string) => Promise<keyof Outcomes>,
  ): AsyncGenerator<Outcomes> {
    for (const batch of batchesOf([...new Set(ids)], atOnce)) {
      requireGoing(signal);
      const outcomes: Outcomes = { changed: [], unchanged: [], unknown: [] };
      const settled = await Promise.allSettled(batch.map(change));
      for (const [at, each] of settled.entries())
        if (each.status === 'fulfilled') outcomes[each.value].push(batch[at] ?? '');
      yield outcomes;
      const failure = settled.find((each) => each.status === 'rejected');
      if (failure !== undefined) throw failure.reason;
    }
  }
  const outcomeOf = async (change: Promise<unknown>): Promise<keyof Outcomes> => {
    const changed = change.then(() => 'changed' as const);
    return (await orUndefined(unknownDevice, changed)) ?? 'unknown';
  };
  /** Changes devices that are not yet as they are wanted. */
  const changeEach = (
    ids: readonly string[],
    isDone: (device: DeviceJson) => boolean,
    change: (id: string) => Promise<unknown>,
  ) =>
    sortOut(ids, async (id) => {
      const device = await find(id);
      if (device === undefined) return 'unknown';
      return isDone(device) ? 'unchanged' : await outcomeOf(change(id));
    });
  return {
    async add({ count = 1, type, id, expiresAt, metadata }, made) {
      const request = { type, id, expires_at: expiresAt?.toISOString(), metadata };
      const added: NewDeviceJson[] = [];
      const lost: string[] = [];
      try {
        while (added.length < count) {
          requireGoing(signal);
          // What was added is added, whatever becomes of the others: its secret must not be lost.
          const one = async () => {
            const device = await orUnsure(
              'a device was added',
              api.send<NewDeviceJson>('POST', '/devices', request),
            );
            added.push(device);
            await made([device]).catch((error: unknown) => {
              lost.push(device.id);
              throw error;
            });
          };
          const asked = Array.from({ length: Math.min(atOnce, count - added.length) }, one);
          const settled = await Promise.allSettled(asked);
          const failure = settled.find((each) => each.status === 'rejected');
          if (failure !== undefined) throw failure.reason;
        }
        return added;
      } catch (error) {
        if (added.length === 0) throw error;
        const without =
          lost.length === 0
            ? ''
            : `, ${lost.join(', ')} without a secret that anybody has (\`svc-mqtt device rotate\` gives one)`;
        throw prefaced(error, `${formatShare(added.length, count, 'device')} were added${without}, and then`);
      }
    },
    list({ type, state, metadata, sort, descending, limit }) {
      const order = { sort, order: descending ? 'desc' : 'asc' };
      const query = { type, state, ...order, metadata: toEntries(metadata) };
      return api.pages('GET', '/devices', query, rowsOf<DeviceJson>, limit);
    },
    import: openApiImport(api, signal),
    export: ({ hashed, type, metadata }) =>
      hashed
        ? api.pages('POST', '/devices/export', { type, metadata }, rowsOf<StoredDeviceJson>)
        : api.pages(
            'GET',
            '/devices',
            { type, state: 'all', metadata: toEntries(metadata) },
            rowsOf<DeviceJson>,
          ),
    find,
    async set(id, { expiresAt, metadata }) {
      const expiry = expiresAt instanceof Date ? expiresAt.toISOString() : expiresAt;
      const changed = api.send<DeviceJson>('PATCH', pathOf(id), { expires_at: expiry, metadata });
      return await orUndefined(unknownDevice, changed);
    },
    async rotate(id, { graceMs, untilUsed }) {
      const body = {
        grace_seconds: graceMs === undefined ? undefined : graceMs / 1_000,
        until_used: untilUsed,
      };
      const rotated = api.send<RotatedDeviceJson>('POST', pathOf(id, '/rotate'), body);
      return await orUndefined(unknownDevice, orUnsure('the device has a new secret', rotated));
    },
    revoke(ids, reason) {
      const query = reason === undefined ? '' : `?${new URLSearchParams({ reason })}`;
      const isRevoked = ({ revoked_at: at }: DeviceJson) => at !== null;
      return changeEach(ids, isRevoked, (id) => api.send('DELETE', `${pathOf(id)}${query}`));
    },
    enable(ids) {
      const isEnabled = ({ revoked_at: at }: DeviceJson) => at === null;
      return changeEach(ids, isEnabled, (id) => api.send('POST', pathOf(id, '/enable')));
    },
    remove: (ids) => sortOut(ids, (id) => outcomeOf(api.send('POST', pathOf(id, '/remove')))),
  };
}

function rowsOf<Row>({ devices }: { devices: Row[]; next_cursor: string | null }): Row[] {
  return devices;
}

/** The metadata that a list is filtered by, as its parameters say it. */
function toEntries(metadata: Metadata = {}): string[] {
  return Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
}
