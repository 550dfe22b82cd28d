import type { DeviceJson, DevicePageJson, NewDeviceJson, RotatedDeviceJson } from '../../api/device.js';
import type { StoredDevicePageJson } from '../../api/stored-device.js';
import type { Outcomes } from '../../db/device-changes.js';
import type { Metadata } from '../../db/device-fields.js';
import type { Device, DeviceFilter, DeviceSort, NewDevice, SortedDevice } from '../../db/devices.js';
import { SvcMqttError } from '../../errors.js';
import { type ApiCall, orUndefined } from './api-call.js';
import { openApiImport } from './api-import.js';
import { type DeviceStore, type ExportedRow, PartlyAdded } from './store.js';

/** Requests of one command under way at once. */
const atOnce = 8;
const unknownDevice = 'DEVICE_NOT_FOUND';

/** The devices of an API. */
export function openApiDevices(api: ApiCall): DeviceStore {
  const pathOf = (id: string, verb = '') => `/devices/${encodeURIComponent(id)}${verb}`;
  const find = async (id: string) => {
    const found = await api.getUnless<DeviceJson>(unknownDevice, pathOf(id));
    return found && toDevice(found);
  };
  /** Changes devices that are not yet as they are wanted. */
  const changeEach = (
    ids: readonly string[],
    isDone: (device: Device) => boolean,
    change: (id: string) => Promise<unknown>,
  ) =>
    sortOut(ids, async (id) => {
      const device = await find(id);
      if (device === undefined) return 'unknown';
      if (isDone(device)) return 'unchanged';
      return (
        (await orUndefined(
          unknownDevice,
          change(id).then(() => 'changed' as const),
        )) ?? 'unknown'
      );
    });
  const list = (
    request: DeviceFilter & {
      sort: DeviceSort;
      descending: boolean;
      after: Device | undefined;
      limit: number;
    },
  ) => {
    const { type, state, metadata = {}, sort, descending, after, limit } = request;
    return api.page<SortedDevice>(
      'GET',
      '/devices',
      {
        ...{ type, state, sort, order: descending ? 'desc' : 'asc' },
        metadata: toEntries(metadata),
      },
      // A row is known by its identity alone.
      after as SortedDevice | undefined,
      limit,
      ({ devices }: { devices: DeviceJson[] }) => devices.map(toDevice),
    );
  };
  return {
    async add({ count = 1, type, id, expiresAt, metadata }, made) {
      const request = { type, id, expires_at: expiresAt?.toISOString(), metadata };
      const added: NewDevice[] = [];
      while (added.length < count) {
        const one = async () => toNewDevice(await api.send<NewDeviceJson>('POST', '/devices', request));
        const asked = Array.from({ length: Math.min(atOnce, count - added.length) }, one);
        const settled = await Promise.allSettled(asked);
        // What was added is added, whatever became of the others: its secret must not be lost.
        const batch = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
        await made(batch);
        added.push(...batch);
        const failure = settled.find((each) => each.status === 'rejected');
        if (failure === undefined) continue;
        const { reason } = failure;
        const isPartial = added.length > 0 && reason instanceof SvcMqttError;
        throw isPartial ? new PartlyAdded(reason, added.length, count) : reason;
      }
      return added;
    },
    list,
    import: openApiImport(api),
    export({ hashed, type, metadata = {}, after, limit }) {
      type Page = DevicePageJson | StoredDevicePageJson;
      const rowsOf = ({ devices }: Page): readonly ExportedRow[] => devices;
      if (hashed) return api.page('POST', '/devices/export', { type, metadata }, after, limit, rowsOf);
      const query = { type, state: 'all', metadata: toEntries(metadata) };
      return api.page('GET', '/devices', query, after, limit, rowsOf);
    },
    find,
    async set(id, { expiresAt, metadata }) {
      const expiry = expiresAt instanceof Date ? expiresAt.toISOString() : expiresAt;
      const changed = api.send<DeviceJson>('PATCH', pathOf(id), { expires_at: expiry, metadata });
      const device = await orUndefined(unknownDevice, changed);
      return device && toDevice(device);
    },
    async rotate(id, { graceMs, untilUsed }) {
      const body = {
        grace_seconds: graceMs === undefined ? undefined : graceMs / 1_000,
        until_used: untilUsed,
      };
      const rotated = api.send<RotatedDeviceJson>('POST', pathOf(id, '/rotate'), body);
      const device = await orUndefined(unknownDevice, rotated);
      if (device === undefined) return undefined;
      const until = device.previous_secret_until;
      return {
        id: device.id,
        type: device.type,
        mqttUser: device.mqtt_user,
        mqttPassword: device.mqtt_password,
        previousSecretUntil: until === null ? null : new Date(until),
        previousSecretUntilUsed: device.previous_secret_until_used,
      };
    },
    revoke: (ids) =>
      changeEach(
        ids,
        ({ revokedAt }) => revokedAt !== null,
        (id) => api.send('DELETE', pathOf(id)),
      ),
    enable: (ids) =>
      changeEach(
        ids,
        ({ revokedAt }) => revokedAt === null,
        (id) => api.send('POST', pathOf(id, '/enable')),
      ),
    remove: (ids) =>
      sortOut(ids, async (id) => {
        const removed = api.send('POST', pathOf(id, '/remove')).then(() => 'changed' as const);
        return (await orUndefined(unknownDevice, removed)) ?? 'unknown';
      }),
  };
}

/** The metadata that a list is filtered by, as its parameters say it. */
function toEntries(metadata: Metadata): string[] {
  return Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
}

/** Does something to each device, some at once, and sorts their ids by what came of it. */
async function sortOut(
  ids: readonly string[],
  change: (id: string) => Promise<keyof Outcomes>,
): Promise<Outcomes> {
  const outcomes: Outcomes = { changed: [], unchanged: [], unknown: [] };
  const wanted = [...new Set(ids)];
  for (let at = 0; at < wanted.length; at += atOnce) {
    const batch = wanted.slice(at, at + atOnce);
    const kinds = await Promise.all(batch.map(change));
    for (const [index, kind] of kinds.entries()) outcomes[kind].push(batch[index] ?? '');
  }
  return outcomes;
}

function toDevice(device: DeviceJson): SortedDevice {
  const time = (text: string | null) => (text === null ? null : new Date(text));
  return {
    id: device.id,
    type: device.type,
    createdAt: new Date(device.created_at),
    updatedAt: new Date(device.updated_at),
    revokedAt: time(device.revoked_at),
    lastSeenAt: time(device.last_seen_at),
    expiresAt: time(device.expires_at),
    metadata: device.metadata,
    lastSecretUsed: device.last_secret_used,
    previousSecretUntil: time(device.previous_secret_until),
    previousSecretUntilUsed: device.previous_secret_until_used,
    // The API's cursor says where the next page begins.
    sortKey: '',
  };
}

function toNewDevice(device: NewDeviceJson): NewDevice {
  return {
    id: device.id,
    type: device.type,
    mqttUser: device.mqtt_user,
    mqttPassword: device.mqtt_password,
    createdAt: new Date(device.created_at),
    expiresAt: device.expires_at === undefined ? undefined : new Date(device.expires_at),
    metadata: device.metadata,
  };
}
