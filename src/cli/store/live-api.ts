import type { CommandJson, CommandProgressJson, CommandRequestJson } from '../../api/command.js';
import type { ConnectionDetailsJson, ConnectionPageJson, SortField } from '../../api/connection.js';
import type { DeviceDetailsJson, DevicePageJson } from '../../api/device.js';
import type { SessionJson, SessionPageJson } from '../../api/session.js';
import type { FleetJson, StatsJson } from '../../api/stats.js';
import type { Metadata } from '../../db/devices/device-fields.js';
import { openCalls } from './api-call.js';
import type { Send } from './api-send.js';

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

/** What commands ask beside it, too. */
export type RemoteApi = ReturnType<typeof openLiveApi>;

export function openLiveApi(send: Send) {
  const api = openCalls(send);
  const of = (collection: string, id: string, below = '') =>
    `/${collection}/${encodeURIComponent(id)}${below}`;
  return {
    page: ({ filter, descending, ...request }) =>
      api.get('/connections', { ...request, order: descending ? 'desc' : 'asc', q: filter || undefined }),
    fleet: () => api.get('/fleet'),
    details: (id) => api.get(of('connections', id)),
    kick: (id) => api.send('DELETE', of('connections', id)),
    revoke: (device) => api.send('DELETE', of('devices', device)),
    listDevices: ({ idPrefix, limit }) =>
      api.get('/devices', { state: 'all', limit, id_prefix: idPrefix || undefined }),
    device: (id) => api.getUnless('DEVICE_NOT_FOUND', of('devices', id)),
    listSessions: ({ devices, idPrefix, limit }) =>
      api.get('/sessions', { limit, device: devices, device_prefix: idPrefix || undefined }),
    endSession: (id) => api.send('DELETE', of('sessions', id)),
    /** Of the replica that answers. */
    stats: () => api.get<StatsJson>('/stats'),
    /** The pages of at most so many sessions. */
    sessions: ({ device, limit }: { readonly device: string | undefined; readonly limit: number }) =>
      api.pages('GET', '/sessions', { device }, ({ sessions }: SessionPageJson) => sessions, limit),
    session: (id: string) => api.get<SessionJson>(of('sessions', id)),
    /** Ids of the active devices that are of the type and have the metadata, in pages. */
    devices: ({ type, metadata = {} }: { type: string | undefined; metadata: Metadata | undefined }) => {
      const entries = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
      const idsOf = ({ devices }: DevicePageJson) => devices.map(({ id }) => id);
      return api.pages('GET', '/devices', { type, metadata: entries }, idsOf);
    },
    sendCommand: (device: string, request: CommandRequestJson) =>
      api.send<CommandJson>('POST', of('devices', device, '/commands'), request),
    /** How far a command is that was sent. */
    command: (device: string, sequence: number) =>
      api.get<CommandProgressJson>(of('devices', device, `/commands/${sequence}`)),
  } satisfies LiveApi & Record<string, unknown>;
}
