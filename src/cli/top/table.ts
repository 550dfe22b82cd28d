import type { ConnectionJson } from '../../api/connection.js';
import type { EventJson } from '../../api/event.js';
import { fitLine, type Line, type Span, toCellText, toWidth } from '../terminal/cells.js';
import { formatClock, formatCountShort } from '../terminal/format.js';
import { columnsOf, gap, type PlacedColumn, placeColumns } from './columns.js';
import { isSelected, rowAt, type TopState } from './state.js';

const gapText = ' '.repeat(gap);

/**
 * The titles and the connections on the screen, `tableRows + 1` lines.
 *
 * @param options.keys false: nobody can press any.
 */
export function drawTable(state: TopState, where: string, { keys = true } = {}): Line[] {
  // One cell on each side, so that the selected row has a margin.
  const placed = placeColumns(state.columns - 2, state.widths, state.page && columnsOf(state.page));
  const lines: Line[] = [drawTitles(state, placed)];
  const { page } = state;
  const message = emptyMessage(state, where, keys);
  if (message !== undefined) lines.push([], [{ text: `   ${message}`, dim: true }]);
  const nowMs = Date.parse(page?.at ?? '');
  for (
    let index = state.top;
    page !== undefined && index < Math.min(state.top + state.tableRows, page.matching);
    index += 1
  ) {
    lines.push(
      drawRow(rowAt(state, index), placed, nowMs, {
        selected: isSelected(state, index),
        width: state.columns,
      }),
    );
  }
  while (lines.length < state.tableRows + 1) lines.push([]);
  return lines.slice(0, state.tableRows + 1);
}

function emptyMessage({ page, link, filter }: TopState, where: string, keys: boolean): string | undefined {
  if (page === undefined) return link.state === 'gone' ? undefined : `Asking ${toCellText(where)} …`;
  if (page.matching > 0) return undefined;
  return filter === ''
    ? 'No device is connected.'
    : `No connection matches “${toCellText(filter)}”.${keys ? ' Esc shows all.' : ''}`;
}

function drawTitles({ sort, descending }: TopState, placed: readonly PlacedColumn[]): Line {
  const spans: Span[] = [{ text: ' ' }];
  placed.forEach((column, index) => {
    if (index > 0) spans.push({ text: gapText });
    const { field, title, width, align } = column;
    if (field !== sort) spans.push({ text: toWidth(title, width, align), dim: true });
    else
      spans.push({
        text: toWidth(`${title}${descending ? '▼' : '▲'}`, width, align),
        bold: true,
        color: 'cyan',
      });
  });
  return spans;
}

/** What says nothing stands back, so that what says something is seen. */
const faint = /^(0|–|…|tcp)$/;

function drawRow(
  row: ConnectionJson | undefined,
  placed: readonly PlacedColumn[],
  nowMs: number,
  { selected, width }: { selected: boolean; width: number },
): Line {
  if (row === undefined)
    return selected ? [{ text: ' '.repeat(width), inverse: true }] : [{ text: ' …', dim: true }];
  const spans: Span[] = [{ text: ' ' }];
  placed.forEach((column, index) => {
    if (index > 0) spans.push({ text: gapText });
    const text = column.text(row, nowMs);
    const span = { text: toWidth(text, column.width, column.align) };
    if (faint.test(text)) spans.push({ ...span, dim: true });
    else if (column.field === 'device') spans.push({ ...span, bold: true });
    else if (column.field === 'in_flight') spans.push({ ...span, color: 'yellow' });
    else spans.push(span);
  });
  if (!selected) return spans;
  return fitLine(spans, width).map(({ text }) => ({ text, inverse: true }));
}

/** From this width on all of an event has room, in columns. */
const wideEvents = 110;

const eventColors: Readonly<Record<string, NonNullable<Span['color']>>> = {
  refused: 'yellow',
  dropped: 'red',
  revoked: 'red',
};

/** The latest events, `lines` lines with the title, the latest one last. */
export function drawEvents(events: readonly EventJson[], lines: number, width: number): Line[] {
  if (lines === 0) return [];
  const drawn: Line[] = [[{ text: ` ${'─'.repeat(Math.max(0, width - 2))}`, dim: true }]];
  for (const event of events.slice(1 - lines)) drawn.push(drawEvent(event, width));
  while (drawn.length < lines) drawn.push([]);
  return drawn;
}

function drawEvent({ at, kind, device, client, address, reason, count }: EventJson, width: number): Line {
  const color = eventColors[kind];
  const cell = (text: string | undefined, width: number) => `${toWidth(toCellText(text ?? ''), width)}  `;
  const why = `${toCellText(reason ?? '')}${count === undefined ? '' : ` × ${formatCountShort(count)}`}`;
  const word = toWidth(toCellText(kind), 14);
  // Where there is no room for all, why it happened is worth more than where from.
  if (width < wideEvents) {
    return [
      { text: ` ${formatClock(at)}  `, dim: true },
      color === undefined ? { text: word } : { text: word, color },
      { text: cell(device, 18), dim: true },
      { text: why === '' ? '' : `${why}  ` },
      { text: cell(client, 20), dim: true },
    ];
  }
  return [
    { text: ` ${formatClock(at)}  `, dim: true },
    color === undefined ? { text: word } : { text: word, color },
    { text: cell(device, 18) + cell(client, 20) + cell(address, 21), dim: true },
    { text: why },
  ];
}
