import { vi } from 'vitest';
import type { ConnectionDetailsJson, ConnectionJson, ConnectionPageJson } from '../../src/api/connection.js';
import type { DeviceDetailsJson, DeviceJson } from '../../src/api/device.js';
import type { SessionJson } from '../../src/api/session.js';
import type { FleetJson, StatsJson } from '../../src/api/stats.js';
import { sumStats } from '../../src/api/sum-stats.js';
import type { LiveApi, PageRequest } from '../../src/cli/store/live-api.js';
import { openEventHistory } from '../../src/cli/top/event-history.js';
import { loadList } from '../../src/cli/top/lists.js';
import { reduce } from '../../src/cli/top/reduce.js';
import {
  type Action,
  initialState,
  listRequestOf,
  requestOf,
  type TopState,
} from '../../src/cli/top/state.js';

export const at = '2026-01-31T12:00:00.000Z';
const before = (seconds: number) => new Date(Date.parse(at) - seconds * 1_000).toISOString();

export function row(index: number, fields: Partial<ConnectionJson> = {}): ConnectionJson {
  return {
    id: `r1-${index}`,
    replica: 'r1',
    device: `device${String(index).padStart(4, '0')}`,
    type: 'sensor',
    client: `client-${index}`,
    address: `192.0.2.7:${40_000 + index}`,
    transport: 'tcp',
    protocol: '3.1.1',
    received: { qos0: 20, qos1: 80, qos2: 0 },
    rate: 1.5,
    bytes_in: 1_000,
    bytes_out: 100,
    in_flight: 0,
    subscriptions: 1,
    connected_at: before(3_725),
    last_message_at: before(2),
    ...fields,
  };
}

export const details: ConnectionDetailsJson = {
  ...row(3),
  at,
  keepalive_seconds: 60,
  persistent_session: true,
  session_expiry_seconds: null,
  receive_maximum: 65_535,
  topic_alias_maximum: 0,
  will: { topic: 'raw/device0003/gone', qos: 1, retain: false },
  held: true,
  waits: {
    cause: 'no_stream',
    detail: 'no stream takes the subject',
    subject: 'plant.device0003',
    since: before(11),
  },
  unsent_bytes: 12,
  outgoing: { waiting: 4, waiting_bytes: 2_048, unacknowledged: 3, dropped: 2 },
  subscribed_to: Array.from({ length: 30 }, (_, index) => ({ filter: `cmd/device0003/${index}`, qos: 1 })),
  last_topics: ['raw/device0003/b', 'raw/device0003/a'],
  last_error: { at: before(65), detail: 'subscription refused: cmd/other/#' },
};

export const stats: StatsJson = {
  at,
  version: '1.2.3',
  replica: 'r1',
  replicas: 2,
  started_at: before(90_061),
  uptime_seconds: 90_061,
  connections: { open: 12_346, connected: 12_345, limit: 100_000 },
  rates: { messages_in: 1_234.5, messages_out: 12, bytes_in: 250_000, bytes_out: 999 },
  totals: { messages_in: 5, messages_out: 6, bytes_in: 7, bytes_out: 8, stored: 9_876_543, sent: 1 },
  waiting: { messages: 17, bytes: 4_096, causes: [] },
  ack_latency_ms: { p50: 0.42, p99: 12.3 },
  acknowledgement: { promised: 'stored', holds: true, level: 'stored', why: 'on 1 server' },
  nats: { ok: true, detail: 'connected to nats://127.0.0.1:4222' },
  database: { ok: true, detail: 'answers' },
  failures: { connects_refused: 12, messages_dropped: 0 },
  history: { messages_in: [1, 2, 3, 4], messages_out: [0, 0], bytes_in: [5, 6], bytes_out: [] },
  recent_events: [
    {
      number: 1,
      at,
      kind: 'connected',
      device: 'device0001',
      client: 'client-1',
      address: '192.0.2.7:40001',
    },
    { number: 2, at, kind: 'refused', device: 'nobody', address: '192.0.2.9:1', reason: 'bad-credentials' },
    { number: 3, at, kind: 'dropped', reason: 'qos0', count: 12_000 },
  ],
};

const replica = { replica: 'r1', host: 'gateway-1', version: '1.2.3', ok: true, detail: null };

export const fleet: FleetJson = {
  at,
  replicas: [{ ...replica, stats }],
  total: sumStats([stats]),
};

export function device(index: number, fields: Partial<DeviceJson> = {}): DeviceJson {
  return {
    id: `device${String(index).padStart(4, '0')}`,
    type: 'sensor',
    created_at: before(90_061),
    updated_at: before(90_061),
    revoked_at: null,
    last_seen_at: before(125),
    expires_at: null,
    metadata: { site: 'lyon' },
    last_secret_used: 'current',
    previous_secret_until: null,
    previous_secret_until_used: false,
    ...fields,
  };
}

export const deviceDetails: DeviceDetailsJson = {
  ...device(3),
  ledger: {
    received: 12_345,
    stored: 12_300,
    refused: 4,
    last_refused_at: before(65),
    last_refused_reason: 'topic',
    delivered: 17,
    last_stream: 'RAW',
    last_sequence: 99,
    first_seen_at: before(90_061),
    last_address: '192.0.2.7:40003',
  },
};

export function session(index: number, fields: Partial<SessionJson> = {}): SessionJson {
  const { id } = device(index);
  return {
    id: `${id}.client-${index}`,
    device: id,
    client: `client-${index}`,
    connected: false,
    away_since: before(3_725),
    expires_at: new Date(Date.parse(at) + 7_200_000).toISOString(),
    expiry_seconds: 10_800,
    subscriptions: [{ filter: `cmd/${id}/#`, qos: 1 }],
    unacknowledged: 0,
    pending: 3,
    oldest_pending_at: null,
    problem: null,
    ...fields,
  };
}

/** An API that answers what a fleet of so many devices would. */
export function fakeApi(count: number) {
  return {
    page: async (request: PageRequest) => pageOf(request, count),
    fleet: async () => fleet,
    details: async () => details,
    kick: vi.fn(async (_id: string) => {}),
    revoke: vi.fn(async (_device: string) => {}),
    listDevices: async ({ idPrefix, limit }) => {
      const all = Array.from({ length: count }, (_, index) => device(index));
      const found = all.filter(({ id }) => id.startsWith(idPrefix));
      return { devices: found.slice(0, limit), next_cursor: found.length > limit ? 'more' : null };
    },
    device: async (id) => (id === 'nobody' ? undefined : { ...deviceDetails, id }),
    listSessions: async ({ devices = [], idPrefix = '', limit }) => {
      const all = Array.from({ length: count }, (_, index) => session(index));
      const found = all.filter(
        ({ device }) => device.startsWith(idPrefix) && (devices.length === 0 || devices.includes(device)),
      );
      return { sessions: found.slice(0, limit), next_cursor: found.length > limit ? 'more' : null };
    },
    endSession: vi.fn(async (_id: string) => {}),
  } satisfies LiveApi;
}

/** What the session does for another view than that of connections: answers what the state asks for. */
export async function answerList(
  state: TopState,
  count: number,
  api: LiveApi = fakeApi(count),
): Promise<TopState> {
  const request = listRequestOf(state);
  if (request === undefined) throw new Error('connections are shown');
  const history = openEventHistory();
  history.add(fleet);
  const list = await loadList(request, api, { fleet, events: history.list() });
  return act(state, { type: 'list', request, list });
}

/** The part of a list of `count` connections that a request asks for. */
export function pageOf(request: PageRequest, count: number, first = 0): ConnectionPageJson {
  const length = Math.max(0, Math.min(request.limit, count - request.offset));
  const connections = Array.from({ length }, (_, index) => row(first + request.offset + index));
  return { at, total: count, matching: count, connections, replicas: [replica] };
}

export function act(state: TopState, ...actions: readonly Action[]): TopState {
  return actions.reduce((next, action) => reduce(next, action)[0], state);
}

/** What the session does: answers what the state asks for. */
export function answer(state: TopState, count: number, first = 0): TopState {
  const request = requestOf(state);
  return act(state, { type: 'page', request, page: pageOf(request, count, first) }, { type: 'stats', stats });
}

export function open(columns: number, rows: number, count = 100): TopState {
  return answer(initialState({ columns, rows }), count);
}
