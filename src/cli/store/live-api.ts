import type { CommandJson, CommandProgressJson, CommandRequestJson } from '../../api/command.js';
import type { ConnectionDetailsJson, ConnectionPageJson, SortField } from '../../api/connection.js';
import type { DeviceDetailsJson, DevicePageJson } from '../../api/device.js';
import type { SessionJson, SessionPageJson } from '../../api/session.js';
import type { FleetJson, StatsJson } from '../../api/stats.js';
import { SvcMqttError } from '../../errors.js';
import { callApi, callForJson, type Send } from './api-send.js';

/** Which connections are asked for. */
export interface PageRequest {
  readonly filter: string;
  readonly sort: SortField;
  readonly descending: boolean;
  readonly offset: number;
  readonly limit: number;
  /** Only connections of this device. */
  readonly device?: string | undefined;
  /** Only connections of this replica. */
  readonly replica?: string | undefined;
}

/** What is asked of a running replica, of connections for the whole fleet. Each throws SvcMqttError. */
export interface LiveApi {
  page(request: PageRequest): Promise<ConnectionPageJson>;
  fleet(): Promise<FleetJson>;
  details(id: string): Promise<ConnectionDetailsJson>;
  kick(id: string): Promise<void>;
  revoke(device: string): Promise<void>;
  /** The first devices, revoked ones too, whose id begins so. */
  listDevices(request: { readonly idPrefix: string; readonly limit: number }): Promise<DevicePageJson>;
  /** Undefined: the API knows no such device. */
  device(id: string): Promise<DeviceDetailsJson | undefined>;
  /** The first sessions of the devices, or of those whose id begins so. */
  listSessions(request: {
    readonly devices?: readonly string[];
    readonly idPrefix?: string;
    readonly limit: number;
  }): Promise<SessionPageJson>;
  endSession(id: string): Promise<void>;
}

/** What commands ask beside it. */
export interface RemoteApi extends LiveApi {
  /** Of the replica that answers. */
  stats(): Promise<StatsJson>;
  /** The pages of at most so many sessions. */
  sessions(request: {
    readonly device: string | undefined;
    readonly limit: number;
  }): AsyncIterable<readonly SessionJson[]>;
  session(id: string): Promise<SessionJson>;
  /** Ids of the active devices that are of the type and have the metadata, in pages. */
  devices(filter: {
    readonly type: string | undefined;
    readonly metadata: Readonly<Record<string, string>> | undefined;
  }): AsyncIterable<readonly string[]>;
  sendCommand(device: string, request: CommandRequestJson): Promise<CommandJson>;
  /** How far a command is that was sent. */
  command(device: string, sequence: number): Promise<CommandProgressJson>;
}

/** Devices that are asked for at a time. */
const devicePage = 1_000;
/** Sessions that are asked for at a time. */
const sessionPage = 500;

export function openLiveApi(send: Send): RemoteApi {
  const get = <T>(path: string) => callForJson<T>(send, 'GET', path);

  return {
    page({ filter, sort, descending, offset, limit, device, replica }) {
      const query = new URLSearchParams({
        sort,
        order: descending ? 'desc' : 'asc',
        offset: String(offset),
        limit: String(limit),
      });
      if (filter !== '') query.set('q', filter);
      if (device !== undefined) query.set('device', device);
      if (replica !== undefined) query.set('replica', replica);
      return get(`/connections?${query}`);
    },
    stats: () => get('/stats'),
    fleet: () => get('/fleet'),
    details: (id) => get(`/connections/${encodeURIComponent(id)}`),
    async kick(id) {
      await callApi(send, 'DELETE', `/connections/${encodeURIComponent(id)}`);
    },
    async revoke(device) {
      await callApi(send, 'DELETE', `/devices/${encodeURIComponent(device)}`);
    },
    listDevices({ idPrefix, limit }) {
      const query = new URLSearchParams({ state: 'all', limit: String(limit) });
      if (idPrefix !== '') query.set('id_prefix', idPrefix);
      return get(`/devices?${query}`);
    },
    listSessions({ devices = [], idPrefix = '', limit }) {
      const query = new URLSearchParams({ limit: String(limit) });
      for (const device of devices) query.append('device', device);
      if (idPrefix !== '') query.set('device_prefix', idPrefix);
      return get(`/sessions?${query}`);
    },
    async *sessions({ device, limit }) {
      let left = limit;
      let cursor: string | null = null;
      do {
        const query = new URLSearchParams({ limit: String(Math.min(left, sessionPage)) });
        if (device !== undefined) query.set('device', device);
        if (cursor !== null) query.set('cursor', cursor);
        const page: SessionPageJson = await get(`/sessions?${query}`);
        yield page.sessions;
        left -= page.sessions.length;
        cursor = page.next_cursor;
      } while (cursor !== null && left > 0);
    },
    sendCommand: (device, request) =>
      callForJson<CommandJson>(
        send,
        'POST',
        `/devices/${encodeURIComponent(device)}/commands`,
        JSON.stringify(request),
      ),
    command: (device, sequence) => get(`/devices/${encodeURIComponent(device)}/commands/${sequence}`),
    async *devices({ type, metadata }) {
      let cursor: string | null = null;
      do {
        const query = new URLSearchParams({ limit: String(devicePage) });
        if (type !== undefined) query.set('type', type);
        for (const [key, value] of Object.entries(metadata ?? {}))
          query.append('metadata', `${key}=${value}`);
        if (cursor !== null) query.set('cursor', cursor);
        const page: DevicePageJson = await get(`/devices?${query}`);
        yield page.devices.map(({ id }) => id);
        cursor = page.next_cursor;
      } while (cursor !== null);
    },
    session: (id) => get(`/sessions/${encodeURIComponent(id)}`),
    async endSession(id) {
      await callApi(send, 'DELETE', `/sessions/${encodeURIComponent(id)}`);
    },
    async device(id) {
      try {
        return await get(`/devices/${encodeURIComponent(id)}`);
      } catch (error) {
        if (error instanceof SvcMqttError && error.code === 'DEVICE_NOT_FOUND') return undefined;
        throw error;
      }
    },
  };
}
