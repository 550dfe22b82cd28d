import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { covers, overlap } from '../../src/server/forward/stream/subject-match.js';

const words = ['a', 'b', 'c'];
const patterns = fc
  .tuple(fc.array(fc.constantFrom(...words, '*'), { maxLength: 3 }), fc.boolean())
  .map(([tokens, tail]) => [...tokens, ...(tail || tokens.length === 0 ? ['>'] : [])].join('.'));

/** Every subject of up to four tokens; patterns have at most three and a tail, so no longer one tells more. */
const subjects: string[] = [];
for (let length = 1, last = ['']; length <= 4; length += 1) {
  last = last.flatMap((start) => words.map((word) => (start === '' ? word : `${start}.${word}`)));
  subjects.push(...last);
}

function matches(pattern: string, subject: string): boolean {
  const expression = pattern
    .split('.')
    .map((token) => (token === '*' ? '[^.]+' : token === '>' ? '.+' : token))
    .join('\\.');
  return new RegExp(`^${expression}$`).test(subject);
}

describe('subjects with wildcards', () => {
  it('cover as a look at all subjects says', () => {
    fc.assert(
      fc.property(patterns, patterns, (wide, narrow) => {
        const expected = subjects.every((subject) => !matches(narrow, subject) || matches(wide, subject));
        expect(covers(wide, narrow)).toBe(expected);
      }),
      { numRuns: 1_000 },
    );
  });

  it('overlap as a look at all subjects says', () => {
    fc.assert(
      fc.property(patterns, patterns, (one, other) => {
        const expected = subjects.some((subject) => matches(one, subject) && matches(other, subject));
        expect(overlap(one, other)).toBe(expected);
      }),
      { numRuns: 1_000 },
    );
  });
});
