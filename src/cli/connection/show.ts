import type { ConnectionDetailsJson } from '../../api/connection.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import { formatBytes, formatInteger } from '../terminal/format.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime } from '../terminal/table.js';
import { formatBlock, toJsonLine } from '../terminal/text.js';
import { describeSession, describeTerms, describeWaiting } from '../top/details.js';

/**
 * Shows a live connection.
 *
 * @throws SvcMqttError USAGE, CONNECTION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function showConnection(
  config: ApiConfig,
  options: { readonly id: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const found = await openApi(config, io).api.details(options.id);
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
    ...toList(
      'subscriptions',
      found.subscribed_to.map(({ filter, qos }) => `${filter}  QoS ${qos}`),
    ),
    ...toList('last topics', found.last_topics),
  ];
}

function toList(name: string, items: readonly string[]): [string, string][] {
  if (items.length === 0) return [[name, 'none']];
  return items.map((item, index) => [index === 0 ? name : '', item]);
}
