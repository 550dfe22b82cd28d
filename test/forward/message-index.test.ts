import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  compileFilters,
  couldMatch,
  createMessageIndex,
} from '../../src/server/forward/state/message-index.js';
import { topicToTokens } from '../../src/server/forward/subject.js';
import { checkFilter, matches } from '../../src/server/mqtt/protocol/topics.js';

const level = fc.constantFrom('a', 'b', 'c', '', 'grün', 'x.y', '$s');
const topic = fc.array(level, { minLength: 1, maxLength: 6 }).map((levels) => levels.join('/'));
const filter = fc
  .array(fc.oneof(level, fc.constantFrom('+', '#')), { minLength: 1, maxLength: 6 })
  .map((levels) => levels.join('/'))
  .filter((text) => checkFilter(text) === undefined);

it('finds every message that a filter matches, in order, whatever comes and goes', () => {
  fc.assert(
    fc.property(
      fc.array(topic, { minLength: 1, maxLength: 200, size: 'max' }),
      fc.array(filter, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 300 }),
      fc.nat(220),
      fc.nat(220),
      fc.integer({ min: 1, max: 50 }),
      (topics, filters, bound, after, first, most) => {
        const index = createMessageIndex(bound);
        // Sequences of messages for others are missing.
        const all = topics
          .filter((name) => name !== '')
          .map((name, place) => ({ name, sequence: place * 2 + 1 }));
        for (const { name, sequence } of all) index.add(topicToTokens(name), sequence);
        index.trim(first);
        const kept = all.slice(-bound).filter(({ sequence }) => sequence >= first);
        expect(index.size).toBe(kept.length);
        expect([index.oldest, index.latest]).toEqual([kept[0]?.sequence, kept.at(-1)?.sequence]);
        const compiled = compileFilters(filters);
        const wanted = kept.filter(
          ({ name, sequence }) => sequence > after && filters.some((each) => matches(each, name)),
        );
        const found = index.after(compiled, after, 1_000);
        expect(found).toEqual(found.toSorted((one, other) => one - other));
        expect(wanted.filter(({ sequence }) => !found.includes(sequence))).toEqual([]);
        expect(index.after(compiled, after, most)).toEqual(found.slice(0, most));
        expect(index.countAfter(compiled, after, most)).toBe(Math.min(most, found.length));
        // Of topics with few levels nothing is answered that no filter matches.
        for (const sequence of found) {
          const { name } = kept.find((each) => each.sequence === sequence) as (typeof kept)[0];
          expect(couldMatch(compiled, topicToTokens(name))).toBe(true);
          if (name.split('/').length <= 4 && !name.startsWith('$'))
            expect(filters.some((each) => matches(each, name))).toBe(true);
        }
      },
    ),
    { numRuns: 500 },
  );
});

it('forgets what the stream has lost at its end, and knows where it may lack some', () => {
  const index = createMessageIndex(4);
  const everything = compileFilters(['#']);
  for (let sequence = 1; sequence <= 6; sequence += 1) index.add('a', sequence);
  expect([index.floor, index.oldest]).toEqual([2, 3]);
  index.cut(4);
  expect(index.after(everything, 0, 10)).toEqual([3, 4]);
  index.add('b', 5);
  index.add('b', 5);
  expect(index.after(everything, 0, 10)).toEqual([3, 4, 5]);
  index.trim(4);
  expect([index.floor, index.after(everything, 0, 10)]).toEqual([0, [4, 5]]);
});
