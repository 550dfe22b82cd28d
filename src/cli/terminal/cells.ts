import { escapeControls } from './text.js';

/** Marks that join the character before them, and what shows nothing: they would hide what an id really is. */
const invisible = /[\p{M}\p{Cf}\p{Zl}\p{Zp}\u115f-\u11ff\u3164\ud7b0-\ud7ff\uffa0]/gu;

/** Text that does no harm in a cell: everything in it takes room of its own. */
export function toCellText(text: string): string {
  return escapeControls(text).replace(
    invisible,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  );
}

/** Ranges of code points that terminals draw two cells wide, after Unicode's East Asian Width (UAX #11). */
const wideRanges: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x4dbf],
  [0x4e00, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18cff],
  [0x1aff0, 0x1b2ff],
  [0x20000, 0x3fffd],
];
const emoji = /\p{Emoji_Presentation}/u;

function widthOf(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x1100) return 1;
  return wideRanges.some(([from, to]) => code >= from && code <= to) || emoji.test(character) ? 2 : 1;
}

/** How many cells a text takes that `toCellText` made. */
export function cellWidth(text: string): number {
  let width = 0;
  for (const character of text) width += widthOf(character);
  return width;
}

/** The text in exactly `width` cells: padded, or cut with `…` at its end. */
export function toWidth(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  if (width <= 0) return '';
  const whole = cellWidth(text);
  if (whole <= width) {
    const padding = ' '.repeat(width - whole);
    return align === 'left' ? text + padding : padding + text;
  }
  let kept = '';
  let keptWidth = 0;
  for (const character of text) {
    const next = keptWidth + widthOf(character);
    if (next > width - 1) break;
    kept += character;
    keptWidth = next;
  }
  return `${kept}…${' '.repeat(width - 1 - keptWidth)}`;
}

/** A run of text in one style. Widths are exact, so that a line never wraps and columns stay in place. */
export interface Span {
  readonly text: string;
  readonly color?: 'cyan' | 'green' | 'yellow' | 'red';
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly inverse?: boolean;
}

export type Line = readonly Span[];

export function lineWidth(line: Line): number {
  return line.reduce((width, { text }) => width + cellWidth(text), 0);
}

/** The line in exactly `width` cells. */
export function fitLine(line: Line, width: number): Line {
  const spans: Span[] = [];
  let left = width;
  for (const span of line) {
    const wanted = cellWidth(span.text);
    if (wanted > left) {
      if (left > 0) spans.push({ ...span, text: toWidth(span.text, left) });
      return spans;
    }
    spans.push(span);
    left -= wanted;
  }
  if (left > 0) spans.push({ text: ' '.repeat(left) });
  return spans;
}

export function plainText(line: Line): string {
  return line.map(({ text }) => text).join('');
}
