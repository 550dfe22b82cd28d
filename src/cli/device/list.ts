import type { DeviceJson } from '../../api/device.js';
import type { Config } from '../../config.js';
import type { Metadata } from '../../db/devices/device-fields.js';
import type { DeviceSort, DeviceState } from '../../db/devices/devices.js';
import type { Call } from '../command/command.js';
import { listStored } from '../store/list.js';
import { type CommandIo, write } from '../terminal/io.js';
import type { ListColumn } from '../terminal/listing.js';
import { forPeople, tableTime, timeWidth } from '../terminal/table.js';
import { escapeControls } from '../terminal/text.js';
import { readOnlineDevices } from './online-devices.js';
import { formatMetadata } from './show.js';

interface ListOptions {
  readonly type?: string;
  readonly all?: boolean;
  readonly revoked?: boolean;
  readonly expired?: boolean;
  /** Entries that the devices have among their metadata. */
  readonly metadata?: Metadata;
  readonly sort: DeviceSort;
  readonly reverse?: boolean;
}

/** The latest come first. */
const newestFirst: ReadonlySet<DeviceSort> = new Set(['created', 'last_seen']);

/**
 * Lists devices page by page, so that memory does not grow with their number. People also see which of them are connected,
 * where the HTTP API can be asked.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listDevices(call: Call<ListOptions>): Promise<void> {
  const { config, options, io } = call;
  const { type, metadata, sort, reverse = false } = options;
  const state: DeviceState =
    (['all', 'revoked', 'expired'] as const).find((name) => options[name] === true) ?? 'active';
  const request = { type, metadata, state, sort, descending: newestFirst.has(sort) !== reverse };
  const ofType = type === undefined ? '' : ` of type "${escapeControls(type)}"`;
  await listStored<DeviceJson>(call, {
    read: ({ devices }, limit) => devices.list({ ...request, limit }),
    async columns([first]) {
      const asks = forPeople(io) && (state === 'active' || state === 'all');
      return toColumns(state, io, asks ? await readOnline(config, first, io) : undefined);
    },
    none: `There are no ${state === 'all' ? '' : `${state} `}devices${ofType}.`,
  });
}

/** Which devices are connected; undefined where nobody can say, which stderr explains. */
async function readOnline(config: Config, known: DeviceJson | undefined, io: CommandIo) {
  const online = await readOnlineDevices(config, known, io);
  if ('unknown' in online) {
    await write(io.stderr, `Which devices are connected is not known: ${escapeControls(online.unknown)}.\n`);
    return undefined;
  }
  if (online.note !== undefined) await write(io.stderr, `${escapeControls(online.note)}.\n`);
  return online.ids;
}

function toColumns(
  state: DeviceState,
  io: CommandIo,
  online: ReadonlySet<string> | undefined,
): ListColumn<DeviceJson>[] {
  const time = tableTime(io);
  const timeOr = (at: string | null, none: string) => (at === null ? none : time(at));
  const keep = timeWidth;
  const columns: ListColumn<DeviceJson>[] = [
    { title: 'ID', keep: 36, text: ({ id }) => id },
    { title: 'TYPE', text: ({ type }) => type },
    { title: 'STATE', keep: 7, text: stateOf },
    { title: 'LAST SEEN', keep, text: ({ last_seen_at: at }) => timeOr(at, 'never') },
    { title: 'CREATED', keep, text: ({ created_at: at }) => time(at) },
    { title: 'EXPIRES', keep, text: ({ expires_at: at }) => timeOr(at, '-') },
    { title: 'METADATA', text: formatMetadata },
  ];
  if (online !== undefined)
    columns.splice(3, 0, { title: 'ONLINE', text: ({ id }) => (online.has(id) ? 'yes' : '-') });
  if (!forPeople(io) || state === 'all' || state === 'revoked')
    columns.splice(-1, 0, { title: 'REVOKED', keep, text: ({ revoked_at: at }) => timeOr(at, '-') });
  return columns;
}

function stateOf({ revoked_at: revoked, expires_at: expires }: DeviceJson): string {
  if (revoked !== null) return 'revoked';
  return expires !== null && Date.parse(expires) <= Date.now() ? 'expired' : 'active';
}
