import type { EventJson } from '../../api/event.js';
import { dim, fitLine, type Line, type Span, toCellText, toWidth } from '../terminal/cells.js';
import { formatClock } from '../terminal/format.js';
import { type ColumnShape, columns, columnsOf, gap, type Placed, placeColumns } from './columns.js';
import { eventColors, listColumns, reasonOf } from './lists.js';
import { countRows, isSelected, rowAt, type TopState, type View } from './state.js';

const gapText = ' '.repeat(gap);

/**
 * The titles and the rows on the screen, `tableRows + 1` lines.
 *
 * @param options.keys false: nobody can press any.
 */
export function drawTable(state: TopState, where: string, { keys = true } = {}): Line[] {
  const lines =
    state.view === 'connections' ? drawConnections(state, where, keys) : drawList(state, state.view, where);
  while (lines.length < state.tableRows + 1) lines.push([]);
  return lines.slice(0, state.tableRows + 1);
}

function drawConnections(state: TopState, where: string, keys: boolean): Line[] {
  const { page, sort, descending, columns: width } = state;
  // One cell on each side, so that the selected row has a margin.
  const placed = placeColumns(width - 2, state.widths, page === undefined ? columns : columnsOf(page));
  const lines: Line[] = [drawTitles(placed, { field: sort, descending })];
  const message = emptyMessage(state, where, keys);
  if (message !== undefined) lines.push([], [dim(`   ${message}`)]);
  const nowMs = Date.parse(page?.at ?? '');
  for (
    let index = state.top;
    page !== undefined && index < Math.min(state.top + state.tableRows, page.matching);
    index += 1
  ) {
    const row = rowAt(state, index);
    const cells = row && placed.map((column) => column.text(row, nowMs));
    lines.push(drawRow(cells, placed, { selected: isSelected(state, index), width }));
  }
  return lines;
}

function drawList(state: TopState, view: Exclude<View, 'connections'>, where: string): Line[] {
  const { list, columns: width } = state;
  const shown = listColumns[view].map((column, at) => ({ ...column, at }));
  const placed = placeColumns(width - 2, state.widths, shown);
  const lines: Line[] = [drawTitles(placed)];
  const message = emptyMessage(state, where, true);
  if (message !== undefined) lines.push([], [dim(`   ${message}`)]);
  for (const [offset, row] of (list?.rows ?? []).slice(state.top, state.top + state.tableRows).entries()) {
    const cells = placed.map(({ at }) => row.cells[at] ?? '');
    const selected = isSelected(state, state.top + offset);
    lines.push(drawRow(cells, placed, { selected, width, color: row.color }));
  }
  return lines;
}

/** What stands there instead of rows. */
function emptyMessage(state: TopState, where: string, keys: boolean): string | undefined {
  const { view, page, list, link, filter, replica } = state;
  if ((view === 'connections' ? page : list) === undefined)
    return link.state === 'gone' ? undefined : `Asking ${toCellText(where)} …`;
  if (view !== 'connections' && list?.problem !== undefined) return toCellText(list.problem);
  if (countRows(state) > 0) return undefined;
  if (filter !== '') return `${noneLike[view]} “${toCellText(filter)}”.${keys ? ' Esc shows all.' : ''}`;
  return view === 'connections' && replica !== undefined ? 'No device is connected there.' : noneAtAll[view];
}

const noneLike: Readonly<Record<View, string>> = {
  connections: 'No connection matches',
  devices: 'No id of a device begins with',
  sessions: 'No id of a session’s device begins with',
  replicas: 'Nothing matches',
  events: 'Nothing matches',
};

const noneAtAll: Readonly<Record<View, string>> = {
  connections: 'No device is connected.',
  devices: 'There is no device yet.',
  sessions: 'There is no session that outlives its connection.',
  replicas: 'Nothing has happened yet.',
  events: 'Nothing has happened yet.',
};

function drawTitles(
  placed: readonly Placed<ColumnShape>[],
  sort?: { readonly field: string; readonly descending: boolean },
): Line {
  const spans: Span[] = [{ text: ' ' }];
  placed.forEach((column, index) => {
    if (index > 0) spans.push({ text: gapText });
    const { field, title, width, align } = column;
    if (field !== sort?.field) spans.push(dim(toWidth(title, width, align)));
    else
      spans.push({
        text: toWidth(`${title}${sort.descending ? '▼' : '▲'}`, width, align),
        bold: true,
        color: 'cyan',
      });
  });
  return spans;
}

/** What says nothing stands back, so that what says something is seen. */
const faint = /^(0|–|…|tcp|never)$/;
/** In what makes a row remarkable. */
const coloured = new Set(['state', 'kind']);

/** @param cells undefined: the row is not loaded yet. */
function drawRow(
  cells: readonly string[] | undefined,
  placed: readonly Placed<ColumnShape>[],
  { selected, width, color }: { selected: boolean; width: number; color?: Span['color'] | undefined },
): Line {
  if (cells === undefined) return selected ? [{ text: ' '.repeat(width), inverse: true }] : [dim(' …')];
  const spans: Span[] = [{ text: ' ' }];
  placed.forEach((column, index) => {
    if (index > 0) spans.push({ text: gapText });
    const text = cells[index] ?? '';
    const span = { text: toWidth(text, column.width, column.align) };
    if (faint.test(text)) spans.push({ ...span, dim: true });
    else if (column.field === 'device') spans.push({ ...span, bold: true });
    else if (column.field === 'in_flight' || column.field === 'pending')
      spans.push({ ...span, color: 'yellow' });
    else if (color !== undefined && coloured.has(column.field)) spans.push({ ...span, color });
    else spans.push(span);
  });
  if (!selected) return spans;
  return fitLine(spans, width).map(({ text }) => ({ text, inverse: true }));
}

/** From this width on all of an event has room, in columns. */
const wideEvents = 110;

/** The latest events, `lines` lines with the title, the latest one last. */
export function drawEvents(events: readonly EventJson[], lines: number, width: number): Line[] {
  if (lines === 0) return [];
  const drawn: Line[] = [[dim(` ${'─'.repeat(Math.max(0, width - 2))}`)]];
  for (const event of events.slice(1 - lines)) drawn.push(drawEvent(event, width));
  while (drawn.length < lines) drawn.push([]);
  return drawn;
}

function drawEvent(event: EventJson, width: number): Line {
  const { at, kind, device = '', client = '', address = '' } = event;
  const cell = (text: string, width: number) => `${toWidth(toCellText(text), width)}  `;
  const why = reasonOf(event);
  const start: Line = [
    dim(` ${formatClock(at)}  `),
    { text: toWidth(toCellText(kind), 14), color: eventColors[kind] },
  ];
  // Where there is no room for all, why it happened is worth more than where from.
  if (width < wideEvents)
    return [...start, dim(cell(device, 18)), { text: why && `${why}  ` }, dim(toCellText(client))];
  return [...start, dim(cell(device, 18) + cell(client, 20) + cell(address, 21)), { text: why }];
}
