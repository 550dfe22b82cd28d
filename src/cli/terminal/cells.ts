import { eastAsianWidth } from 'get-east-asian-width';
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

/** How many cells a terminal gives a character, after Unicode's East Asian Width (UAX #11), which counts emoji as wide. */
function widthOf(character: string): number {
  return eastAsianWidth(character.codePointAt(0) ?? 0);
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
  readonly color?: 'cyan' | 'green' | 'yellow' | 'red' | undefined;
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly inverse?: boolean;
}

/** Text that stands back. */
export const dim = (text: string): Span => ({ text, dim: true });

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
