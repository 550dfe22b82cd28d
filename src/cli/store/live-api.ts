import type { ConnectionDetailsJson, ConnectionPageJson, SortField } from '../../api/connection.js';
import type { SessionJson, SessionPageJson } from '../../api/session.js';
import type { StatsJson } from '../../api/stats.js';
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
  stats(): Promise<StatsJson>;
  details(id: string): Promise<ConnectionDetailsJson>;
  kick(id: string): Promise<void>;
  revoke(device: string): Promise<void>;
}

/** What commands ask beside it. */
export interface RemoteApi extends LiveApi {
  /** The pages of at most so many sessions. */
  sessions(request: {
    readonly device: string | undefined;
    readonly limit: number;
  }): AsyncIterable<readonly SessionJson[]>;
  session(id: string): Promise<SessionJson>;
  endSession(id: string): Promise<void>;
  /** When a device was created, as ISO 8601 has it; undefined: the API knows no such device. */
  deviceCreatedAt(id: string): Promise<string | undefined>;
}

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
    details: (id) => get(`/connections/${encodeURIComponent(id)}`),
    async kick(id) {
      await callApi(send, 'DELETE', `/connections/${encodeURIComponent(id)}`);
    },
    async revoke(device) {
      await callApi(send, 'DELETE', `/devices/${encodeURIComponent(device)}`);
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
    session: (id) => get(`/sessions/${encodeURIComponent(id)}`),
    async endSession(id) {
      await callApi(send, 'DELETE', `/sessions/${encodeURIComponent(id)}`);
    },
    async deviceCreatedAt(id) {
      try {
        return (await get<{ created_at?: string }>(`/devices/${encodeURIComponent(id)}`)).created_at;
      } catch (error) {
        if (error instanceof SvcMqttError && error.code === 'DEVICE_NOT_FOUND') return undefined;
        throw error;
      }
    },
  };
}
