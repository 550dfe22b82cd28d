import { cellWidth, toCellText, toWidth } from './cells.js';
import { type CommandIo, write } from './io.js';
import { escapeControls, formatRelative, formatTime } from './text.js';

/** A column of a table. */
export interface TableColumn {
  readonly title: string;
  /** Cells that it keeps when the terminal is narrow; otherwise as many as its title has. */
  readonly keep?: number;
  readonly align?: 'left' | 'right';
}

/** A secret, or whatever else is worth nothing in part, is never cut. */
export const uncut = Number.MAX_SAFE_INTEGER;
/** A relative time, such as `412d ago`. */
export const timeWidth = 8;

export const gap = 2;
const widthUntold = 80;

/** Whether people read what a command prints; otherwise it is a program, or a file. */
export function forPeople(io: CommandIo): boolean {
  return io.stdout.isTTY === true;
}

export type FormatTime = (time: Date | string) => string;

/** A time in a table: how long ago or how soon for people, as ISO 8601 has it for machines. */
export function tableTime(io: CommandIo, nowMs: number = Date.now()): FormatTime {
  return forPeople(io) ? (time) => formatRelative(time, nowMs) : (time) => new Date(time).toISOString();
}

/** A time that stands alone; for people, also how long ago or how soon that is. */
export function blockTime(io: CommandIo): FormatTime {
  return forPeople(io)
    ? (time) => `${formatTime(time)} (${formatRelative(time, Date.now())})`
    : (time) => formatTime(time);
}

/**
 * Opens a table on stdout. In a terminal each row is one line of at most its width: columns are aligned, cut with `…`,
 * and where even that is too wide, left out from the right. Elsewhere nothing is cut, and tabs part the cells.
 *
 * @returns writes rows of cells, the titles before the first ones, whose widths the columns have from then on.
 */
export function openTable(
  io: CommandIo,
  columns: readonly TableColumn[],
): (rows: readonly (readonly string[])[]) => Promise<void> {
  const titles = columns.map(({ title }) => title);
  let format: ((cells: readonly string[]) => string) | undefined;
  return async (rows) => {
    if (rows.length === 0) return;
    const cells = rows.map((row) => row.map(forPeople(io) ? toCellText : escapeControls));
    const lines = format === undefined ? [titles, ...cells] : cells;
    format ??= forPeople(io) ? alignedFormat(lines, columns, terminalWidth(io)) : (row) => row.join('\t');
    await write(io.stdout, lines.map((row) => `${format?.(row)}\n`).join(''));
  };
}

export function terminalWidth({ stdout }: CommandIo): number {
  return stdout.columns === undefined || stdout.columns <= 0 ? widthUntold : stdout.columns;
}

function alignedFormat(
  lines: readonly (readonly string[])[],
  columns: readonly TableColumn[],
  width: number,
): (cells: readonly string[]) => string {
  const wanted = columns.map((_, index) =>
    lines.reduce((most, cells) => Math.max(most, cellWidth(cells[index] ?? '')), 0),
  );
  const widths = fitColumns(columns, wanted, width);
  return (cells) =>
    cells
      .flatMap((cell, index) => {
        const cut = columns[index]?.keep === uncut ? cellWidth(cell) : 0;
        const room = Math.max(widths[index] ?? 0, cut);
        return room === 0 ? [] : [toWidth(cell, room, columns[index]?.align)];
      })
      .join(' '.repeat(gap))
      .trimEnd();
}

/**
 * The widths of the columns, together at most `width`; 0: the column is left out. What is left over beside the least that
 * each keeps goes to those that want more, in equal parts.
 */
export function fitColumns(
  columns: readonly TableColumn[],
  wanted: readonly number[],
  width: number,
): number[] {
  const widths = columns.map(({ title, keep = 0 }, index) =>
    Math.min(wanted[index] ?? 0, Math.max(keep, title.length)),
  );
  const taken = () => widths.reduce((sum, each) => sum + (each === 0 ? 0 : each + gap), -gap);
  for (let at = widths.length - 1; at > 0 && taken() > width; at -= 1) {
    if (columns[at]?.keep !== uncut) widths[at] = 0;
  }
  for (let left = width - taken(); left > 0; ) {
    const wanting = widths.flatMap((each, at) => (each > 0 && each < (wanted[at] ?? 0) ? [at] : []));
    if (wanting.length === 0) break;
    const share = Math.max(1, Math.floor(left / wanting.length));
    for (const at of wanting) {
      const more = Math.min(share, left, (wanted[at] ?? 0) - (widths[at] ?? 0));
      widths[at] = (widths[at] ?? 0) + more;
      left -= more;
    }
  }
  return widths;
}
