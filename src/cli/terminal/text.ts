import { replaceUnsafe, unicodeEscape } from '../../unsafe-text.js';

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
export function formatTime(time: Date | string): string {
  return new Date(time)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}

/** How long ago a time is, or how soon, in one unit: `42s ago`, `3m ago`, `12d ago`, `in 5h`. */
export function formatRelative(time: Date | string, nowMs: number): string {
  const seconds = Math.floor(Math.abs(nowMs - new Date(time).getTime()) / 1_000);
  const [each, unit] = units.find(([size]) => seconds >= size) ?? [1, 's'];
  const span = `${Math.floor(seconds / each)}${unit}`;
  return new Date(time).getTime() > nowMs ? `in ${span}` : `${span} ago`;
}

const units: readonly (readonly [seconds: number, unit: string])[] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'm'],
];

/** A count with a noun: `1 device`, `12,345 devices`. */
export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
}

/** A part of a count with a noun: `304 of 3,000 devices`. */
export function formatShare(part: number, count: number, noun: string): string {
  return `${part.toLocaleString('en-US')} of ${formatCount(count, noun)}`;
}

/** `There is no device a`, `There are no devices a, b`; of many the first twenty. */
export function describeMissing(noun: string, ids: readonly string[]): string {
  const shown = ids.slice(0, 20).map(escapeControls).join(', ');
  const more = ids.length > 20 ? ` and ${ids.length - 20} more` : '';
  return ids.length === 1 ? `There is no ${noun} ${shown}` : `There are no ${noun}s ${shown}${more}`;
}

/** A name with several values, a row each. */
export function listRows(name: string, values: readonly string[]): [string, string][] {
  if (values.length === 0) return [[name, 'none']];
  return values.map((value, index) => [index === 0 ? name : '', value]);
}

/** Names and values, the values aligned. */
export function formatBlock(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${escapeControls(value)}\n`).join('');
}
