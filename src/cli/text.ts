import { replaceUnsafe, unicodeEscape } from '../unsafe-text.js';

const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Text for a terminal: what is unsafe as `\n`, `\r`, `\t` or `\u001b`. */
export function escapeControls(text: string): string {
  return replaceUnsafe(text, (character) => named[character] ?? unicodeEscape(character));
}

/** A value as JSON on one line, which a terminal can be shown as well: unsafe characters are escaped. */
export function toJsonLine(value: unknown): string {
  return `${unicodeEscapes(JSON.stringify(value))}\n`;
}

/** Text with what is unsafe as `\u001b`, which inside JSON changes nothing. */
export function unicodeEscapes(text: string): string {
  return replaceUnsafe(text, unicodeEscape);
}

/** A time for people: `2026-01-31 14:05:09Z`. */
export function formatTime(time: Date): string {
  return time
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}

/** A count with a noun: `1 device`, `12,345 devices`. */
export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
}

/** Names and values, the values aligned. */
export function formatBlock(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${escapeControls(value)}\n`).join('');
}

/** The widths of a table's columns, for `formatRow`, from the rows at hand; later rows may be wider. */
export function columnWidths(rows: readonly (readonly string[])[]): number[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  }
  return widths;
}

/** One row of a table; the last column is not padded. */
export function formatRow(cells: readonly string[], widths: readonly number[]): string {
  return `${cells
    .map((cell, index) => (index === cells.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
    .join('  ')}\n`;
}
