import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cellWidth,
  fitLine,
  lineWidth,
  plainText,
  toCellText,
  toWidth,
} from '../../src/cli/terminal/cells.js';
import { formatAge, formatBytes, formatMs, formatShort, sparkline } from '../../src/cli/terminal/format.js';

describe('text of clients', () => {
  test.each([
    ['\u001b]52;c;ZXZpbA==\u0007', '\\u001b]52;c;ZXZpbA==\\u0007'],
    ['a\nb\tc\rd', 'a\\nb\\tc\\rd'],
    ['a\u202eb\u200bc\ufeff', 'a\\u202eb\\u200bc\\ufeff'],
    ['e\u0301', 'e\\u0301'],
    ['\ud800', '\\ud800'],
    // Vowels of Hangul, which terminals join to the letter before them.
    ['a\u1161\ud7b0', 'a\\u1161\\ud7b0'],
  ])('%j does no harm', (given, shown) => expect(toCellText(given)).toBe(shown));

  test.each([
    ['plain', 5],
    ['köln', 4],
    ['倉庫', 4],
    ['ｶﾀｶﾅ', 4],
    ['Ａ', 2],
    ['한국', 4],
    ['🚚', 2],
  ])('%s takes %i cells', (text, width) => expect(cellWidth(text)).toBe(width));

  test('always takes exactly the cells it is given, and never a control character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.nat(50), (text, width) => {
        for (const align of ['left', 'right'] as const) {
          const cell = toWidth(toCellText(text), width, align);
          expect(cellWidth(cell)).toBe(width);
          expect(cell).not.toMatch(/\p{Cc}/u);
        }
      }),
    );
  });

  test('a line is as wide as it has to be, cut inside of a span or padded', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme', maxLength: 9 }), { maxLength: 6 }),
        fc.nat(40),
        (texts, width) => {
          const line = texts.map((text) => ({ text: toCellText(text) }));
          const fitted = fitLine(line, width);
          expect(lineWidth(fitted)).toBe(width);
          if (lineWidth(line) <= width) expect(plainText(fitted).startsWith(plainText(line))).toBe(true);
        },
      ),
    );
  });
});

describe('numbers in few characters', () => {
  test.each([
    [0, '0'],
    [0.001, '<0.01'],
    [0.25, '0.25'],
    [1.5, '1.5'],
    [9.96, '10'],
    [123, '123'],
    [999.6, '1.0k'],
    [12_345, '12.3k'],
    [5_000_000, '5.0M'],
  ])('%d is %s', (number, text) => expect(formatShort(number)).toBe(text));

  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1_500, '1.5 kB'],
    [123_456, '123 kB'],
    [5e15, '5000 TB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test.each([
    [-5, '0s'],
    [59_999, '59s'],
    [185_000, '3m05'],
    [3_725_000, '1h02'],
    [90_000_000, '1d01'],
    [400 * 86_400_000, '400d'],
  ])('%d ms are %s', (ms, text) => expect(formatAge(ms)).toBe(text));

  test.each([
    [null, '–'],
    [0.421, '0.42 ms'],
    [12.34, '12.3 ms'],
    [123.4, '123 ms'],
    [1_234, '1.23 s'],
  ])('%s ms are %s', (ms, text) => expect(formatMs(ms)).toBe(text));

  test('an age never takes more than five characters in ten years', () => {
    fc.assert(
      fc.property(fc.nat(3_650 * 86_400), (seconds) => {
        expect(formatAge(seconds * 1_000).length).toBeLessThan(6);
      }),
    );
  });

  test('bars show the latest numbers in proportion', () => {
    expect(sparkline([9, 0, 1, 4, 8], 4)).toBe('▁▁▄█');
    expect(sparkline([], 3)).toBe('   ');
    expect(sparkline([0, 0], 3)).toBe(' ▁▁');
  });
});
