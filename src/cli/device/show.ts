import type { DeviceDetailsJson, DeviceJson } from '../../api/device.js';
import { SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { readStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime, type FormatTime } from '../terminal/table.js';
import { describeMissing, formatBlock, toJsonLine } from '../terminal/text.js';
import { readConnectionsOf } from './online-devices.js';

type Connections = Awaited<ReturnType<typeof readConnectionsOf>>;

/**
 * Shows one device, revoked or not, and whether it is connected, where the HTTP API can be asked.
 *
 * @throws SvcMqttError DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function showDevice({ config, options, args: [id = ''], io }: Call): Promise<void> {
  const device = await readStore(config, io, ({ devices }) => devices.find(id));
  if (device === undefined) throw deviceNotFound([id]);
  const connections = await readConnectionsOf(config, device, io);
  // A running replica knows more than it has written.
  const ledger = ('device' in connections ? connections.device?.ledger : null) ?? device.ledger;
  await writeDevice({ ...device, ledger }, options.json === true, io, connections);
}

/** Writes all that may be shown of a device; as JSON, `online` is null where nobody can say. */
export async function writeDevice(
  device: DeviceJson & { readonly ledger?: DeviceDetailsJson['ledger'] },
  json: boolean,
  io: CommandIo,
  connections?: Connections,
): Promise<void> {
  if (json) {
    const online = connections === undefined ? {} : { online: isOnline(connections) };
    await write(io.stdout, toJsonLine({ ...device, ...online }));
    return;
  }
  const time = blockTime(io);
  await write(
    io.stdout,
    formatBlock([
      ['id', device.id],
      ['type', device.type],
      ['created', time(device.created_at)],
      ['updated', time(device.updated_at)],
      ['revoked', device.revoked_at === null ? 'no' : time(device.revoked_at)],
      ['expires', describeExpiry(device, time)],
      ...(connections === undefined ? [] : describeConnections(connections, time)),
      ['last seen', device.last_seen_at === null ? 'never' : time(device.last_seen_at)],
      ['last login by', device.last_secret_used === null ? '-' : `the ${device.last_secret_used} secret`],
      ['previous secret', describePrevious(device, time)],
      ['metadata', formatMetadata(device)],
      ...describeLedger(device.ledger ?? null, time),
    ]),
  );
}

function describeLedger(ledger: DeviceDetailsJson['ledger'], time: FormatTime): [string, string][] {
  if (ledger === null) return [];
  const { received, stored, refused, delivered, last_refused_at: at, last_refused_reason: reason } = ledger;
  const why = at === null ? '' : `, last ${time(at)}: ${reason}`;
  const place =
    ledger.last_stream === null ? '' : `, last as ${ledger.last_sequence} of ${ledger.last_stream}`;
  return [
    ['received', format(received)],
    ['stored', `${format(stored)}${place}`],
    ['refused', `${format(refused)}${why}`],
    ['delivered', format(delivered)],
    ['first seen', time(ledger.first_seen_at)],
    ['last address', ledger.last_address ?? '-'],
  ];
}

function format(count: number): string {
  return count.toLocaleString('en');
}

function describeExpiry({ expires_at: at }: DeviceJson, time: FormatTime): string {
  if (at === null) return 'never';
  return `${time(at)}${Date.parse(at) <= Date.now() ? ' (expired)' : ''}`;
}

/** Of several replicas one is asked: it can say yes, and no only for itself. */
function isOnline(connections: Connections): boolean | null {
  if ('unknown' in connections) return null;
  return connections.connections.length > 0 ? true : connections.note === undefined ? false : null;
}

function describeConnections(connections: Connections, time: FormatTime): [string, string][] {
  if ('unknown' in connections) return [['connected', `not known: ${connections.unknown}`]];
  const { note, connections: rows } = connections;
  const beside = note === undefined ? '' : ` (${note})`;
  if (rows.length === 0) return [['connected', `no${beside}`]];
  return rows.map(({ id, client, address, transport, connected_at: at }, index) => [
    index === 0 ? 'connected' : '',
    `since ${time(at)}, client ${client} from ${address} by ${transport}, connection ${id}`,
  ]);
}

function describePrevious(
  { previous_secret_until: at, previous_secret_until_used: untilUsed }: DeviceJson,
  time: FormatTime,
): string {
  if (at === null) return 'none';
  const until = `valid until ${time(at)}`;
  return untilUsed ? `${until}, or until the current one is used` : until;
}

/** `key=value` for each entry, `-` for none. */
export function formatMetadata({ metadata }: Pick<DeviceJson, 'metadata'>): string {
  const entries = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
  return entries.length === 0 ? '-' : entries.join(', ');
}

/** The error that names the ids no device has. */
export function deviceNotFound(ids: readonly string[]): SvcMqttError {
  return new SvcMqttError('DEVICE_NOT_FOUND', describeMissing('device', ids), {
    suggestion: '`svc-mqtt device list --all` shows every id',
  });
}
