import type { StatsJson } from '../../api/stats.js';
import { cellWidth, dim, type Line, lineWidth, type Span, toCellText, toWidth } from '../terminal/cells.js';
import {
  formatAge,
  formatBytes,
  formatCountShort,
  formatInteger,
  formatMs,
  formatShort,
  sparkline,
} from '../terminal/format.js';
import type { TopStats } from './top-stats.js';

const gapText = '   ';
const widestSpark = 60;
/** From this width on the failures are told with their kind. */
const detailedWidth = 72;

/** What is known of the replicas, in as many lines as asked for: 1, 3 or 5. */
export function drawHeader(stats: TopStats | undefined, where: string, width: number, lines: number): Line[] {
  if (stats === undefined) {
    const title: Line[] = [[{ text: ' svc-mqtt', bold: true }, dim(`  ${toCellText(where)}`)]];
    return [...title, ...Array.from({ length: lines - 1 }, (): Line => [])];
  }
  if (lines === 1) return [drawInOneLine(stats, width)];
  const top = [drawTitle(stats, width), drawCounts(stats, width)];
  if (lines === 3) return [...top, packItems(ratesOf(stats), width)];
  return [...top, drawTraffic(stats, 'in', width), drawTraffic(stats, 'out', width), []];
}

/** As many items as toWidth, the first ones first, on one line. */
function packItems(items: readonly Line[], width: number): Line {
  const line: Span[] = [{ text: ' ' }];
  let left = width - 1;
  for (const [index, item] of items.entries()) {
    const needed = lineWidth(item) + (index === 0 ? 0 : gapText.length);
    if (needed > left) break;
    if (index > 0) line.push({ text: gapText });
    line.push(...item);
    left -= needed;
  }
  return line;
}

function labelled(label: string, value: string, style: Omit<Span, 'text'> = {}): Line {
  return [dim(`${label} `), { text: value, bold: true, ...style }];
}

function drawTitle(stats: TopStats, width: number): Line {
  const name: Line = [{ text: 'svc-mqtt', bold: true, color: 'cyan' }, dim(` ${toCellText(stats.version)}`)];
  const left = packItems([name, ...drawReplicas(stats)], width);
  const room = width - lineWidth(left) - gapText.length - 1;
  const parts = [
    { ok: stats.nats.ok, line: drawPart('NATS', stats.nats, room) },
    { ok: stats.database.ok, line: drawPart('database', stats.database, room) },
  ];
  const right = parts.flatMap(({ line }, index) => (index === 0 ? line : [{ text: gapText }, ...line]));
  const space = width - lineWidth(left) - lineWidth(right) - 1;
  if (space < 1) {
    // What is away is told before what the replica is called.
    const away = parts.filter(({ ok }) => !ok).map(({ line }) => line);
    return away.length > 0 ? packItems([name, ...away], width) : left;
  }
  return [...left, { text: ' '.repeat(space) }, ...right, { text: ' ' }];
}

/** Who the numbers are of: of several replicas how many there are, and how many of them answer. */
function drawReplicas({ replica, replicas, fleet, uptime_seconds: uptime }: TopStats): Line[] {
  if (fleet === undefined) {
    const several = replicas !== null && replicas > 1 ? ` (1 of ${replicas})` : '';
    return [
      labelled('replica', `${toCellText(replica)}${several}`),
      labelled('up', formatAge(uptime * 1_000)),
    ];
  }
  const answering = fleet.filter(({ ok }) => ok).length;
  if (answering === fleet.length) return [labelled('replicas', formatInteger(fleet.length))];
  return [labelled('replicas', `${answering} of ${fleet.length} answer`, { color: 'red' })];
}

function drawPart(name: string, part: { ok: boolean; detail: string }, room: number): Line {
  if (part.ok) return [{ text: '● ', color: 'green' }, { text: name }];
  const detail = toCellText(part.detail);
  const most = Math.max(0, room - 40);
  const shown = most < 12 ? 'is away' : detail.length > most ? `${detail.slice(0, most - 1)}…` : detail;
  return [
    { text: '● ', color: 'red' },
    { text: `${name} ${shown}`, bold: true, color: 'red' },
  ];
}

function drawCounts(stats: StatsJson, width: number): Line {
  const { connections, totals, waiting, ack_latency_ms: latency } = stats;
  const full = connections.open >= connections.limit;
  return packItems(
    [
      labelled('connections', formatInteger(connections.connected), full ? { color: 'red' } : {}),
      drawFailures(stats.failures, waiting.causes.length > 0 ? 0 : width),
      drawWaiting(waiting),
      [
        dim('ack p50 '),
        { text: formatMs(latency.p50), bold: true },
        dim('  p99 '),
        { text: formatMs(latency.p99), bold: true },
      ],
      labelled('stored', formatInteger(totals.stored)),
    ],
    width,
  );
}

/** Messages that wait, and what most of the clients wait for that NATS does not store. */
function drawWaiting({ messages, causes }: StatsJson['waiting']): Line {
  const [most] = causes;
  if (most === undefined) return labelled('waiting', formatInteger(messages));
  const clients = causes.reduce((sum, cause) => sum + cause.clients, 0);
  const others = causes.length > 1 ? ', …' : '';
  return [
    ...labelled('waiting', formatInteger(messages), { color: 'red' }),
    dim(` (${formatCountShort(clients)} clients: ${toCellText(most.cause)}${others})`),
  ];
}

/** What went wrong, with the most frequent kind where there is room. */
function drawFailures(failures: StatsJson['failures'], width: number): Line {
  const kinds = Object.entries(failures)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
  const total = kinds.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return labelled('failures', '0');
  const [most] = width < detailedWidth ? [] : kinds;
  const detail =
    most === undefined ? '' : ` ${formatCountShort(most[1])} ${toCellText(most[0]).replaceAll('_', ' ')}`;
  return [
    dim('failures '),
    { text: formatCountShort(total), bold: true, color: 'yellow' },
    dim(kinds.length === 1 || detail === '' ? detail.replace(/^ \S+/, '') : ` (${detail.trim()}, …)`),
  ];
}

function ratesOf({ rates }: StatsJson): Line[] {
  return [
    labelled('in', `${formatShort(rates.messages_in)} msg/s`),
    labelled('out', `${formatShort(rates.messages_out)} msg/s`),
    labelled('in', `${formatBytes(rates.bytes_in)}/s`),
    labelled('out', `${formatBytes(rates.bytes_out)}/s`),
  ];
}

function drawTraffic({ rates, history }: StatsJson, way: 'in' | 'out', width: number): Line {
  const messages = `${toWidth(formatInteger(rates[`messages_${way}`]), 9, 'right')} msg/s `;
  const bytes = `${toWidth(formatBytes(rates[`bytes_${way}`]), 9, 'right')}/s `;
  const fixed = 1 + 4 + messages.length + bytes.length + gapText.length + 1;
  const spark = Math.min(widestSpark, Math.floor((width - fixed) / 2));
  const drawSpark = (numbers: readonly number[]): Span => ({
    ...dim(sparkline(numbers, spark >= 8 ? spark : 0)),
    color: 'cyan',
  });
  return [
    dim(` ${way.padEnd(4)}`),
    { text: messages, bold: true },
    drawSpark(history[`messages_${way}`]),
    { text: gapText },
    { text: bytes, bold: true },
    drawSpark(history[`bytes_${way}`]),
  ];
}

/** The program's name, gaps and the dot on the only line. */
const besideDetail = 14;

function cut(text: string, width: number): string {
  return cellWidth(text) > width ? toWidth(text, width) : text;
}

function drawInOneLine(stats: StatsJson, width: number): Line {
  const broken = [stats.nats, stats.database].find(({ ok }) => !ok);
  return packItems(
    [
      [{ text: 'svc-mqtt', bold: true, color: 'cyan' }],
      broken === undefined
        ? [{ text: '●', color: 'green' }]
        : [{ text: `● ${cut(toCellText(broken.detail), width - besideDetail)}`, color: 'red' }],
      drawFailures(stats.failures, 0),
      labelled('connections', formatInteger(stats.connections.connected)),
      labelled('in', `${formatShort(stats.rates.messages_in)}/s`),
      labelled('p99', formatMs(stats.ack_latency_ms.p99)),
    ],
    width,
  );
}
