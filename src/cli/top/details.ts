import type { ConnectionDetailsJson } from '../../api/connection.js';
import { dim, type Line, type Span, toCellText, toWidth } from '../terminal/cells.js';
import { formatAge, formatBytes, formatInteger, formatShort, sparkline } from '../terminal/format.js';
import { formatMix } from './columns.js';
import type { TopState } from './state.js';

const labelWidth = 14;

/** A name in a column of its own, and what stands behind it. */
export function labelled(label: string, ...spans: readonly Span[]): Line {
  return [dim(`  ${toWidth(label, labelWidth)}`), ...spans];
}

export function labelDevice(id: string, type: string): Line {
  const name: Span = { text: toCellText(id), bold: true, color: 'cyan' };
  return labelled('device', name, dim(`   ${toCellText(type)}`));
}

/** One connection in full, at most `height` lines. */
export function drawDetails({ details }: TopState, height: number, width: number): Line[] {
  const found = details?.found;
  if (found === undefined) return [[], [dim('   Asking …')]];
  if (found === 'ended') {
    return [[], [{ text: '   This connection has ended. Enter or Esc goes back.', color: 'yellow' }]];
  }
  const lines = [...describe(found, details?.rates ?? [], width)];
  const left = height - lines.length - 2;
  lines.push([], ...drawLists(found, left, width));
  return lines.slice(0, height);
}

function describe(found: ConnectionDetailsJson, rates: readonly number[], width: number): Line[] {
  const nowMs = Date.parse(found.at);
  const since = (at: string) => formatAge(nowMs - Date.parse(at));
  const { received, outgoing, will, waits, last_error: error, last_message_at: last } = found;
  const total = received.qos0 + received.qos1 + received.qos2;
  const terms = describeTerms(found);
  return [
    [],
    labelDevice(found.device, found.type),
    labelled('client id', { text: toCellText(found.client), bold: true }),
    labelled(
      'connected',
      { text: `for ${since(found.connected_at)}` },
      dim(` from ${toCellText(found.address)} by ${found.transport}, MQTT ${found.protocol}, id ${found.id}`),
    ),
    labelled(
      'session',
      { text: describeSession(found) },
      dim(
        `   keep alive ${found.keepalive_seconds === 0 ? 'none' : `${found.keepalive_seconds} s`}   will ${
          will === null
            ? 'none'
            : `${toCellText(will.topic)} (QoS ${will.qos}${will.retain ? ', retained' : ''})`
        }`,
      ),
    ),
    ...(terms === undefined ? [] : [labelled('takes', { text: terms })]),
    labelled(
      'messages in',
      { text: formatInteger(total), bold: true },
      { text: `   ${found.rate === null ? '…' : formatShort(found.rate)}/s` },
      dim(
        `   QoS 0/1/2 ${formatMix(received).trim().replace(/\s+/g, '/')} %   last ${last === null ? 'never' : `${since(last)} ago`}`,
      ),
    ),
    labelled('a second', {
      text: sparkline(rates, Math.min(rates.length, width - labelWidth - 4)),
      color: 'cyan',
    }),
    labelled(
      'in flight',
      { text: formatInteger(found.in_flight), bold: true },
      dim(' wait for NATS'),
      found.held ? { text: '   not read at the moment: a bound is reached', color: 'yellow' } : { text: '' },
    ),
    labelled(
      'waits for',
      waits === null
        ? dim('nothing')
        : { text: `${toCellText(describeWaiting(waits))}, for ${since(waits.since)}`, color: 'yellow' },
    ),
    labelled(
      'messages out',
      { text: formatInteger(outgoing.waiting), bold: outgoing.waiting > 0 },
      dim(
        ` wait (${formatBytes(outgoing.waiting_bytes)})   ${formatInteger(outgoing.unacknowledged)} unacknowledged   ${formatInteger(outgoing.dropped)} dropped`,
      ),
    ),
    labelled(
      'bytes',
      { text: `${formatBytes(found.bytes_in)} in   ${formatBytes(found.bytes_out)} out` },
      dim(`   ${formatBytes(found.unsent_bytes)} not taken by the client`),
    ),
    labelled(
      'last error',
      error === null
        ? dim('none')
        : { text: `${since(error.at)} ago: ${toCellText(error.detail)}`, color: 'yellow' },
    ),
  ];
}

/** How long the session of a connection lasts. */
export function describeSession(
  found: Pick<ConnectionDetailsJson, 'persistent_session' | 'session_expiry_seconds'>,
): string {
  const { persistent_session: persistent, session_expiry_seconds: seconds } = found;
  if (!persistent) return 'clean';
  return seconds === null ? 'persistent' : `persistent for ${seconds} s`;
}

/** What a client of MQTT 5 has said it takes; undefined: it speaks an older version, which cannot say so. */
export function describeTerms(
  found: Pick<ConnectionDetailsJson, 'protocol' | 'receive_maximum' | 'topic_alias_maximum'>,
): string | undefined {
  if (found.protocol !== '5.0') return undefined;
  const { receive_maximum: messages, topic_alias_maximum: aliases } = found;
  return `${formatInteger(messages)} unacknowledged messages, ${formatInteger(aliases)} topic aliases`;
}

/** Why messages of a client wait. */
export function describeWaiting({
  cause,
  detail,
  subject,
}: NonNullable<ConnectionDetailsJson['waits']>): string {
  const what = subject === null ? detail : `${subject}: ${detail}`;
  return what.includes(cause) ? what : `${what} (${cause})`;
}

/** Subscriptions and topics, side by side. */
function drawLists(found: ConnectionDetailsJson, height: number, width: number): Line[] {
  const leftWidth = Math.max(20, Math.floor((width - 4) / 2));
  const subscriptions = found.subscribed_to.map(({ filter, qos }) => `${toCellText(filter)}  QoS ${qos}`);
  const topics = found.last_topics.map(toCellText);
  const lines: Line[] = [
    [dim(`  ${toWidth(`SUBSCRIPTIONS ${subscriptions.length}`, leftWidth)}`), dim('LAST TOPICS')],
  ];
  const rows = Math.max(0, height - 1);
  const [left, right] = [shorten(subscriptions, rows), shorten(topics, rows)];
  for (let at = 0; at < Math.max(left.length, right.length); at += 1) {
    lines.push([{ text: `  ${toWidth(left[at] ?? '', leftWidth)}` }, { text: right[at] ?? '' }]);
  }
  return lines;
}

function shorten(items: readonly string[], height: number): readonly string[] {
  if (items.length === 0) return ['none'];
  if (items.length <= height) return items;
  return [...items.slice(0, Math.max(0, height - 1)), `… and ${items.length - Math.max(0, height - 1)} more`];
}
