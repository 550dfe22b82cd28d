import type {
  ConnectionDetailsJson,
  ConnectionJson,
  ConnectionPageJson,
  ReplicaJson,
  SortField,
} from '../../api/connection.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { openApi } from '../store/api-address.js';
import { type EndManyOptions, endMany } from '../store/end-many.js';
import { toCellText } from '../terminal/cells.js';
import { formatBytes, formatInteger } from '../terminal/format.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime, forPeople, gap, openTable, terminalWidth, uncut } from '../terminal/table.js';
import { formatBlock, formatCount, listRows, toJsonLine } from '../terminal/text.js';
import {
  type Column,
  columnsOf,
  countReceived,
  growToConnections,
  placeColumns,
  sortsDescending,
} from '../top/columns.js';
import { describeSession, describeTerms, describeWaiting } from '../top/details.js';
import { awaitRates } from '../top/snapshot.js';

interface ListOptions {
  readonly filter?: string;
  /** Only those of this replica. */
  readonly replica?: string;
  readonly sort: SortField;
  readonly reverse?: boolean;
}

const defaultLimit = 50;
const pageSize = 500;

/**
 * Lists the live connections of all replicas. They come and go while pages are read: one that moved from a page to the next is
 * listed once.
 *
 * @throws SvcMqttError USAGE, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function listConnections({ config, options, io }: Call<ListOptions>): Promise<void> {
  const { filter = '', replica, sort, reverse = false, limit = defaultLimit, json = false } = options;
  const { api } = openApi(config, io);
  const request = { filter, replica, sort, descending: sortsDescending(sort, reverse), offset: 0, limit: 1 };
  // To sort by rates that are not known yet would be to sort by nothing.
  if (sort === 'rate') await awaitRates(api, request, io.signal);
  const seen = new Set<string>();
  let table: ReturnType<typeof openConnectionTable> | undefined;
  let matching = 0;
  const silent = new Map<string, ReplicaJson>();
  for (let offset = 0; offset < limit && !io.signal.aborted && !io.outputClosed.aborted; offset += pageSize) {
    const page = await api.page({ ...request, offset, limit: Math.min(pageSize, limit - offset) });
    const rows = page.connections.filter(({ id }) => !seen.has(id));
    for (const { id } of rows) seen.add(id);
    matching = page.matching;
    for (const each of page.replicas) if (!each.ok) silent.set(each.replica, each);
    if (replica !== undefined && page.replicas.length === 0) throw replicaNotFound(replica);
    if (json) await write(io.stdout, rows.map((row) => toJsonLine(row)).join(''));
    else if (rows.length > 0) {
      table ??= openConnectionTable(io, page);
      await table(rows, Date.parse(page.at));
    }
    if (offset + page.connections.length >= matching) break;
  }
  for (const { replica: id, host, detail } of silent.values())
    await write(
      io.stderr,
      `Without replica ${toCellText(id)} on ${toCellText(host)}: ${toCellText(detail ?? 'it does not answer')}.\n`,
    );
  if (matching === 0) {
    const none = filter === '' ? 'No device is connected.' : `No connection matches “${toCellText(filter)}”.`;
    await write(io.stderr, `${none}\n`);
  } else if (matching > limit) {
    const all = formatCount(matching, 'connection');
    await write(io.stderr, `${all} match; --limit shows more of them.\n`);
  }
}

/** The columns of `top` that the terminal has room for; elsewhere all of them. */
function openConnectionTable(io: CommandIo, page: ConnectionPageJson) {
  const { connections: first } = page;
  const shown = columnsOf(page);
  const people = forPeople(io);
  const idWidth = first.reduce((most, { id }) => Math.max(most, id.length), 0);
  const placed = people
    ? placeColumns(terminalWidth(io) - idWidth - gap, growToConnections({}, first), shown)
    : shown.map((column) => ({ ...column, width: uncut }));
  const table = openTable(io, [
    { title: 'ID', keep: uncut },
    ...placed.map(({ title, width: keep, align }) => ({ title, keep, align })),
  ]);
  return (rows: readonly ConnectionJson[], nowMs: number) =>
    table(
      rows.map((row) => [
        row.id,
        ...placed.map((column) => (people ? column.text(row, nowMs) : toPlainText(column, row, nowMs))),
      ]),
    );
}

/** Times and numbers as they came. */
function toPlainText({ field, text }: Column, row: ConnectionJson, nowMs: number): string {
  const { qos0, qos1, qos2 } = row.received;
  if (field === 'qos') return `${qos0}/${qos1}/${qos2}`;
  if (field === 'messages') return String(countReceived(row.received));
  if (field === 'bytes') return String(row.bytes_in + row.bytes_out);
  if (field === 'connected') return row.connected_at;
  if (field === 'last_message') return row.last_message_at ?? '-';
  if (field === 'rate') return row.rate === null ? '-' : String(row.rate);
  return field === 'in_flight' || field === 'subscriptions' ? String(row[field]) : text(row, nowMs);
}

function replicaNotFound(replica: string) {
  return usageError(
    `There is no replica ${toCellText(replica)}`,
    '`svc-mqtt connection list` names the replica of each connection where there are several',
  );
}

/**
 * Shows a live connection.
 *
 * @throws SvcMqttError USAGE, CONNECTION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function showConnection({ config, options, args: [id = ''], io }: Call): Promise<void> {
  const found = await openApi(config, io).api.details(id);
  await write(io.stdout, options.json === true ? toJsonLine(found) : formatBlock(toRows(found, io)));
}

function toRows(found: ConnectionDetailsJson, io: CommandIo): [string, string][] {
  const { received, outgoing, will, waits, last_error: error, last_message_at: last } = found;
  const time = blockTime(io);
  const { qos0, qos1, qos2 } = received;
  const terms = describeTerms(found);
  return [
    ['id', found.id],
    ['device', found.device],
    ['type', found.type],
    ['client id', found.client],
    ['address', found.address],
    ['replica', found.replica],
    ['by', `${found.transport}, MQTT ${found.protocol}`],
    ['connected', time(found.connected_at)],
    ['keep alive', found.keepalive_seconds === 0 ? 'none' : `${found.keepalive_seconds} s`],
    ['session', describeSession(found)],
    ...(terms === undefined ? [] : [['takes', terms] satisfies [string, string]]),
    ['will', will === null ? 'none' : `${will.topic} (QoS ${will.qos}${will.retain ? ', retained' : ''})`],
    ['messages in', `${formatInteger(qos0 + qos1 + qos2)} (QoS 0/1/2: ${qos0}/${qos1}/${qos2})`],
    ['last message', last === null ? 'none' : time(last)],
    ['in flight', `${found.in_flight}${found.held ? ', not read at the moment: a bound is reached' : ''}`],
    ['waits for', waits === null ? 'nothing' : `${describeWaiting(waits)}, since ${time(waits.since)}`],
    [
      'messages out',
      `${outgoing.waiting} waiting (${formatBytes(outgoing.waiting_bytes)}), ${outgoing.unacknowledged} unacknowledged, ${outgoing.dropped} dropped`,
    ],
    ['bytes', `${formatBytes(found.bytes_in)} in, ${formatBytes(found.bytes_out)} out`],
    ['last error', error === null ? 'none' : `${time(error.at)} ${error.detail}`],
    ...listRows(
      'subscriptions',
      found.subscribed_to.map(({ filter, qos }) => `${filter}  QoS ${qos}`),
    ),
    ...listRows('last topics', found.last_topics),
  ];
}

/** Ends connections: see `endMany`. */
export function kickConnections(call: Call<EndManyOptions>): Promise<number> {
  return endMany(call, {
    command: 'connection kick',
    noun: 'connection',
    notFound: 'CONNECTION_NOT_FOUND',
    doing: 'Kicking',
    done: 'kicked',
    suggestion: '`svc-mqtt connection list` shows those that there are',
    question: (what, isOne) =>
      `Kick ${what}? ${isOne ? 'Its client' : 'Their clients'} may come back at once.`,
    end: (id, api) => api.kick(id),
    async idsOf(device, api) {
      const ids = new Set<string>();
      const request = { device, filter: '', sort: 'connected', descending: false, limit: pageSize } as const;
      for (let offset = 0; ; offset += pageSize) {
        const page = await api.page({ ...request, offset });
        for (const { id } of page.connections) ids.add(id);
        if (offset + pageSize >= page.matching) return [...ids];
      }
    },
  });
}
