import type { DeviceJson } from '../../api/device.js';
import type { EventJson } from '../../api/event.js';
import type { SessionJson } from '../../api/session.js';
import type { FleetJson, StatsJson } from '../../api/stats.js';
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
import { type ColumnOf, type ColumnShape, column } from './columns.js';
import type { ListRequest, ListRow, LoadedList, View } from './state.js';

/** Of the last minute, in cells. */
const sparkWidth = 30;

type ListView = Exclude<View, 'connections'>;
type Replica = FleetJson['replicas'][number];
type RowColor = ListRow['color'];

/** Of what a replica says of itself; empty while it does not answer. */
const statsColumn = (
  field: string,
  title: string,
  sizes: Parameters<typeof column>[2],
  text: (stats: StatsJson) => string,
  align?: 'left',
): ColumnOf<Replica> =>
  column(field, title, sizes, ({ stats }) => (stats === null ? '' : text(stats)), align);

interface ShownDevice extends DeviceJson {
  /** Commands that wait for it; null: it cannot be told; undefined: not yet. */
  readonly pending: number | null | undefined;
}

const deviceColumns: readonly ColumnOf<ShownDevice>[] = [
  column('device', 'DEVICE', [1, 10, 40], ({ id }) => toCellText(id), 'left'),
  column('type', 'TYPE', [4, 6, 24], ({ type }) => toCellText(type), 'left'),
  column('state', 'STATE', [2, 7], stateOf, 'left'),
  column('seen', 'LAST SEEN', [3, 9], ({ last_seen_at: at }, nowMs) =>
    at === null ? 'never' : age(at, nowMs),
  ),
  column('pending', 'PENDING', [5, 8], ({ pending }) => (pending === undefined ? '…' : showPending(pending))),
  column('expires', 'EXPIRES IN', [7, 10], ({ expires_at: at }, nowMs) => left(at, nowMs)),
  column('added', 'ADDED', [8, 8], ({ created_at: at }, nowMs) => age(at, nowMs)),
  column(
    'metadata',
    'METADATA',
    [6, 10, 60],
    ({ metadata }) => toCellText(showMetadata(metadata, ' ')),
    'left',
  ),
];

const sessionColumns: readonly ColumnOf<SessionJson>[] = [
  column('device', 'DEVICE', [1, 10, 40], ({ device }) => toCellText(device), 'left'),
  column('client', 'CLIENT ID', [2, 11, 64], ({ client }) => toCellText(client), 'left'),
  column('state', 'STATE', [3, 10], sessionState, 'left'),
  column('away', 'AWAY', [4, 6], ({ away_since: at }, nowMs) => (at === null ? '–' : age(at, nowMs))),
  column('pending', 'PENDING', [5, 8], ({ pending }) => showPending(pending)),
  column('unacked', 'UNACKED', [7, 8], ({ unacknowledged }) => formatCountShort(unacknowledged)),
  column('subscriptions', 'SUBS', [8, 5], ({ subscriptions }) => formatCountShort(subscriptions.length)),
  column('expires', 'EXPIRES IN', [6, 10], ({ expires_at: at }, nowMs) => left(at, nowMs)),
];

const replicaColumns: readonly ColumnOf<Replica>[] = [
  column('replica', 'REPLICA', [1, 8], ({ replica }) => toCellText(replica), 'left'),
  column('host', 'MACHINE', [7, 8, 32], ({ host }) => toCellText(host), 'left'),
  column('version', 'VERSION', [9, 8], ({ version }) => toCellText(version), 'left'),
  column('state', 'STATE', [2, 10, 60], replicaState, 'left'),
  statsColumn('up', 'UP', [6, 6], (stats) => formatAge(stats.uptime_seconds * 1_000)),
  statsColumn('connections', 'CLIENTS', [3, 8], (stats) => formatCountShort(stats.connections.connected)),
  statsColumn('in', 'MSG/S IN', [4, 8], (stats) => formatShort(stats.rates.messages_in)),
  statsColumn(
    'minute',
    'LAST MINUTE',
    [8, sparkWidth],
    (stats) => sparkline(stats.history.messages_in, sparkWidth),
    'left',
  ),
  statsColumn('out', 'MSG/S OUT', [10, 9], (stats) => formatShort(stats.rates.messages_out)),
  statsColumn('p99', 'P99', [5, 8], (stats) => formatMs(stats.ack_latency_ms.p99)),
  statsColumn('failures', 'FAILURES', [6, 8], ({ failures }) =>
    formatCountShort(Object.values(failures).reduce((sum, count) => sum + count, 0)),
  ),
];

const eventColumns: readonly ColumnOf<EventJson>[] = [
  column('time', 'TIME', [1, 8], ({ at }) => formatClock(at), 'left'),
  column('kind', 'EVENT', [2, 12], ({ kind }) => kind, 'left'),
  column('device', 'DEVICE', [3, 10, 40], ({ device = '' }) => toCellText(device), 'left'),
  column('reason', 'REASON', [4, 12, 48], reasonOf, 'left'),
  column('client', 'CLIENT ID', [5, 11, 64], ({ client = '' }) => toCellText(client), 'left'),
  column('replica', 'REPLICA', [6, 8], ({ replica = '' }) => toCellText(replica), 'left'),
  column('address', 'ADDRESS', [7, 15, 28], ({ address = '' }) => toCellText(address), 'left'),
];

/** The columns of each list, from left to right. */
export const listColumns: Readonly<Record<ListView, readonly ColumnShape[]>> = {
  devices: deviceColumns,
  sessions: sessionColumns,
  replicas: replicaColumns,
  events: eventColumns,
};

const cellsOf = <Row>(columns: readonly ColumnOf<Row>[], row: Row, nowMs: number): string[] =>
  columns.map(({ text }) => text(row, nowMs));

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
  const rows =
    view === 'replicas'
      ? now.fleet.replicas.map((replica) => toReplicaRow(replica, nowMs))
      : now.events.map((event) => toEventRow(event, nowMs));
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
  const pending = seen.length === 0 ? new Map<string, null>() : await countPending(seen, api);
  const rows = devices.map((device) => toDeviceRow({ ...device, pending: pending.get(device.id) }, nowMs));
  return { rows, more: next !== null };
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

function age(at: string, nowMs: number): string {
  return formatAge(nowMs - Date.parse(at));
}

function left(at: string | null, nowMs: number): string {
  if (at === null) return '–';
  return Date.parse(at) <= nowMs ? 'now' : formatAge(Date.parse(at) - nowMs);
}

/** How a device stands. */
export function stateOf({ revoked_at: revoked, expires_at: expires }: DeviceJson, nowMs: number): string {
  if (revoked !== null) return 'revoked';
  return expires !== null && Date.parse(expires) <= nowMs ? 'expired' : 'active';
}

/** Of one that does not stand as it should. */
export const stateColors: Readonly<Record<string, RowColor>> = { revoked: 'red', expired: 'yellow' };

export function showMetadata(metadata: DeviceJson['metadata'], gap: string): string {
  return Object.entries(metadata)
    .map(([key, value]) => `${key}=${value}`)
    .join(gap);
}

/** The API counts no further than to a thousand; null: it cannot tell. */
export function showPending(count: number | null): string {
  if (count === null) return '–';
  return count >= 1_000 ? '1000+' : String(count);
}

export function sessionState({ problem, connected }: SessionJson): string {
  if (problem !== null) return 'unreadable';
  return connected ? 'connected' : 'away';
}

function replicaState({ stats, detail }: Replica): string {
  if (stats === null) return `away: ${toCellText(detail ?? '')}`;
  const missing = [stats.nats.ok ? [] : 'NATS', stats.database.ok ? [] : 'database'].flat();
  return missing.length === 0 ? 'answers' : `without ${missing.join(', ')}`;
}

/** Why it happened, and how often. */
export function reasonOf({ reason = '', count = 0 }: EventJson): string {
  return `${toCellText(reason)}${count === 0 ? '' : ` × ${formatCountShort(count)}`}`;
}

export const eventColors: Readonly<Record<string, RowColor>> = {
  refused: 'yellow',
  dropped: 'red',
  revoked: 'red',
};

/** What names an event: numbers are those of its replica. */
export const eventKey = ({ replica = '', number }: EventJson): string => `${replica}.${number}`;

function toDeviceRow(device: ShownDevice, nowMs: number): ListRow {
  const { id } = device;
  const cells = cellsOf(deviceColumns, device, nowMs);
  return { key: id, device: id, cells, color: stateColors[stateOf(device, nowMs)] };
}

function toSessionRow(session: SessionJson, nowMs: number): ListRow {
  const { id, device, client, problem } = session;
  const cells = cellsOf(sessionColumns, session, nowMs);
  return {
    key: id,
    device,
    session: { id, device, client },
    cells,
    color: problem === null ? undefined : 'red',
  };
}

function toReplicaRow(of: Replica, nowMs: number): ListRow {
  const { replica, stats } = of;
  const isWhole = stats?.nats.ok === true && stats.database.ok;
  const color = stats === null ? 'red' : isWhole ? undefined : 'yellow';
  return { key: replica, replica, cells: cellsOf(replicaColumns, of, nowMs), color };
}

function toEventRow(event: EventJson, nowMs: number): ListRow {
  const { kind, device } = event;
  return {
    key: eventKey(event),
    device,
    cells: cellsOf(eventColumns, event, nowMs),
    color: eventColors[kind],
  };
}
