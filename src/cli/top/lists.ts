import type { DeviceJson } from '../../api/device.js';
import type { EventJson } from '../../api/event.js';
import type { SessionJson } from '../../api/session.js';
import type { FleetJson } from '../../api/stats.js';
import { SvcMqttError } from '../../errors.js';
import type { LiveApi } from '../store/live-api.js';
import { toCellText } from '../terminal/cells.js';
import {
  formatAge,
  formatClock,
  formatCountShort,
  formatMs,
  formatShort,
  sparkline,
} from '../terminal/format.js';
import type { ColumnShape } from './columns.js';
import type { ListRequest, ListRow, LoadedList, View } from './state.js';

/** Of the last minute, in cells. */
const sparkWidth = 30;

type ListView = Exclude<View, 'connections'>;

function column(
  field: string,
  title: string,
  [priority, minWidth, maxWidth = minWidth]: readonly [number, number, number?],
  align: 'left' | 'right' = 'right',
): ColumnShape {
  return { field, title, align, priority, minWidth, maxWidth };
}

/** The columns of each list, from left to right. */
export const listColumns: Readonly<Record<ListView, readonly ColumnShape[]>> = {
  devices: [
    column('device', 'DEVICE', [1, 10, 40], 'left'),
    column('type', 'TYPE', [4, 6, 24], 'left'),
    column('state', 'STATE', [2, 7], 'left'),
    column('seen', 'LAST SEEN', [3, 9]),
    column('pending', 'PENDING', [5, 8]),
    column('expires', 'EXPIRES IN', [7, 10]),
    column('added', 'ADDED', [8, 8]),
    column('metadata', 'METADATA', [6, 10, 60], 'left'),
  ],
  sessions: [
    column('device', 'DEVICE', [1, 10, 40], 'left'),
    column('client', 'CLIENT ID', [2, 11, 64], 'left'),
    column('state', 'STATE', [3, 10], 'left'),
    column('away', 'AWAY', [4, 6]),
    column('pending', 'PENDING', [5, 8]),
    column('unacked', 'UNACKED', [7, 8]),
    column('subscriptions', 'SUBS', [8, 5]),
    column('expires', 'EXPIRES IN', [6, 10]),
  ],
  replicas: [
    column('replica', 'REPLICA', [1, 8], 'left'),
    column('host', 'MACHINE', [7, 8, 32], 'left'),
    column('version', 'VERSION', [9, 8], 'left'),
    column('state', 'STATE', [2, 10, 60], 'left'),
    column('up', 'UP', [6, 6]),
    column('connections', 'CLIENTS', [3, 8]),
    column('in', 'MSG/S IN', [4, 8]),
    column('minute', 'LAST MINUTE', [8, sparkWidth], 'left'),
    column('out', 'MSG/S OUT', [10, 9]),
    column('p99', 'P99', [5, 8]),
    column('failures', 'FAILURES', [6, 8]),
  ],
  events: [
    column('time', 'TIME', [1, 8], 'left'),
    column('kind', 'EVENT', [2, 12], 'left'),
    column('device', 'DEVICE', [3, 10, 40], 'left'),
    column('reason', 'REASON', [4, 12, 48], 'left'),
    column('client', 'CLIENT ID', [5, 11, 64], 'left'),
    column('replica', 'REPLICA', [6, 8], 'left'),
    column('address', 'ADDRESS', [7, 15, 28], 'left'),
  ],
};

/** What the latest answer of the fleet was, and the events of a while. */
export interface FleetNow {
  readonly fleet: FleetJson;
  /** The latest first. */
  readonly events: readonly EventJson[];
}

/** Rows of a list from its beginning, as far as they are asked for. */
export async function loadList(
  request: ListRequest,
  api: Pick<LiveApi, 'listDevices' | 'listSessions'>,
  now: FleetNow,
): Promise<LoadedList> {
  const { view, filter } = request;
  const nowMs = Date.parse(now.fleet.at);
  if (view === 'devices') return await loadDevices(request, api, nowMs);
  if (view === 'sessions') return await loadSessions(request, api, nowMs);
  const rows = view === 'replicas' ? now.fleet.replicas.map(toReplicaRow) : now.events.map(toEventRow);
  const words = filter.toLowerCase().split(/\s+/);
  return { rows: rows.filter(({ cells }) => hasWords(cells.join(' '), words)), more: false };
}

function hasWords(text: string, words: readonly string[]): boolean {
  const searched = text.toLowerCase();
  return words.every((word) => searched.includes(word));
}

/** Devices whose sessions are asked for at once. */
const maxAsked = 100;

async function loadDevices(
  { filter, top, shown, limit }: ListRequest,
  api: Pick<LiveApi, 'listDevices' | 'listSessions'>,
  nowMs: number,
): Promise<LoadedList> {
  const { devices, next_cursor: next } = await api.listDevices({ idPrefix: filter, limit });
  const seen = devices.slice(top, top + Math.min(shown, maxAsked)).map(({ id }) => id);
  const pending = seen.length === 0 ? new Map() : await countPending(seen, api);
  return { rows: devices.map((device) => toDeviceRow(device, pending, nowMs)), more: next !== null };
}

/** Commands that wait for each of the devices; none of it while sessions cannot be read. */
async function countPending(
  devices: readonly string[],
  api: Pick<LiveApi, 'listSessions'>,
): Promise<ReadonlyMap<string, number | null>> {
  const pending = new Map<string, number | null>(devices.map((device) => [device, 0]));
  try {
    const { sessions } = await api.listSessions({ devices, limit: 1_000 });
    // Sessions of a device wait for the same commands, each from where it was.
    for (const { device, pending: count } of sessions)
      pending.set(device, count === null ? null : Math.max(pending.get(device) ?? 0, count));
    return pending;
  } catch (error) {
    if (isAboutStorage(error)) return new Map();
    throw error;
  }
}

async function loadSessions(
  { filter, limit }: ListRequest,
  api: Pick<LiveApi, 'listSessions'>,
  nowMs: number,
): Promise<LoadedList> {
  try {
    const { sessions, next_cursor: next } = await api.listSessions({ idPrefix: filter, limit });
    return { rows: sessions.map((session) => toSessionRow(session, nowMs)), more: next !== null };
  } catch (error) {
    if (isAboutStorage(error)) return { rows: [], more: false, problem: error.message };
    throw error;
  }
}

/** NATS, which has the sessions, is away, and the API is not. */
export function isAboutStorage(error: unknown): error is SvcMqttError {
  return error instanceof SvcMqttError && error.code.startsWith('NATS_');
}

const left = (at: string | null, nowMs: number): string =>
  at === null ? '–' : Date.parse(at) <= nowMs ? 'now' : formatAge(Date.parse(at) - nowMs);

/** How a device stands. */
export function stateOf({ revoked_at: revoked, expires_at: expires }: DeviceJson, nowMs: number): string {
  if (revoked !== null) return 'revoked';
  return expires !== null && Date.parse(expires) <= nowMs ? 'expired' : 'active';
}

function toDeviceRow(
  device: DeviceJson,
  pending: ReadonlyMap<string, number | null>,
  nowMs: number,
): ListRow {
  const { id, last_seen_at: seen, metadata } = device;
  const waiting = pending.get(id);
  const state = stateOf(device, nowMs);
  const notes = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
  return {
    key: id,
    device: id,
    cells: [
      toCellText(id),
      toCellText(device.type),
      state,
      seen === null ? 'never' : formatAge(nowMs - Date.parse(seen)),
      waiting === undefined ? '…' : waiting === null ? '–' : showPending(waiting),
      left(device.expires_at, nowMs),
      formatAge(nowMs - Date.parse(device.created_at)),
      toCellText(notes.join(' ')),
    ],
    ...(state === 'active' ? {} : { color: state === 'revoked' ? 'red' : 'yellow' }),
  };
}

/** The API counts no further than to a thousand. */
export const showPending = (count: number): string => (count >= 1_000 ? '1000+' : String(count));

function toSessionRow(session: SessionJson, nowMs: number): ListRow {
  const { id, device, client, away_since: away, pending } = session;
  return {
    key: id,
    device,
    session: { id, device, client },
    cells: [
      toCellText(device),
      toCellText(client),
      session.problem !== null ? 'unreadable' : session.connected ? 'connected' : 'away',
      away === null ? '–' : formatAge(nowMs - Date.parse(away)),
      pending === null ? '–' : showPending(pending),
      formatCountShort(session.unacknowledged),
      formatCountShort(session.subscriptions.length),
      left(session.expires_at, nowMs),
    ],
    ...(session.problem === null ? {} : { color: 'red' }),
  };
}

function toReplicaRow({ replica, host, version, detail, stats }: FleetJson['replicas'][number]): ListRow {
  const names = [replica, host, version].map(toCellText);
  if (stats === null)
    return { key: replica, replica, color: 'red', cells: [...names, `away: ${toCellText(detail ?? '')}`] };
  const missing = [stats.nats.ok ? [] : 'NATS', stats.database.ok ? [] : 'database'].flat();
  const failures = Object.values(stats.failures).reduce((sum, count) => sum + count, 0);
  return {
    key: replica,
    replica,
    cells: [
      ...names,
      missing.length === 0 ? 'answers' : `without ${missing.join(', ')}`,
      formatAge(stats.uptime_seconds * 1_000),
      formatCountShort(stats.connections.connected),
      formatShort(stats.rates.messages_in),
      sparkline(stats.history.messages_in, sparkWidth),
      formatShort(stats.rates.messages_out),
      formatMs(stats.ack_latency_ms.p99),
      formatCountShort(failures),
    ],
    ...(missing.length === 0 ? {} : { color: 'yellow' }),
  };
}

const eventColors: Readonly<Record<string, 'yellow' | 'red'>> = {
  refused: 'yellow',
  dropped: 'red',
  revoked: 'red',
};

/** What names an event: numbers are those of its replica. */
export const eventKey = ({ replica = '', number }: EventJson): string => `${replica}.${number}`;

function toEventRow(event: EventJson): ListRow {
  const { kind, device, client = '', address = '', reason = '', replica = '', count } = event;
  const color = eventColors[kind];
  return {
    key: eventKey(event),
    device,
    cells: [
      formatClock(event.at),
      kind,
      toCellText(device ?? ''),
      `${toCellText(reason)}${count === undefined || count === 0 ? '' : ` × ${formatCountShort(count)}`}`,
      toCellText(client),
      toCellText(replica),
      toCellText(address),
    ],
    ...(color === undefined ? {} : { color }),
  };
}
