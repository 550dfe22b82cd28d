import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createInterestSummary, isWanted } from '../../src/server/forward/state/interest-summary.js';
import { checkFilter, matches } from '../../src/server/mqtt/protocol/topics.js';

describe('what a replica says of its subscriptions', () => {
  const part = fc.oneof(
    fc.constantFrom('a', 'b', '', 'x'.repeat(65)),
    fc.nat(100).map((number) => `n${number}`),
  );
  const topic = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const filter = fc
    .array(fc.oneof(part, fc.constantFrom('+', '#')), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join('/'))
    .filter((text) => checkFilter(text) === undefined);

  it('has every topic that any of them matches, whatever came and went', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(filter, fc.boolean()), { maxLength: 300, size: 'max' }),
        fc.array(topic, { maxLength: 30 }),
        (steps, topics) => {
          const summary = createInterestSummary();
          const held: string[] = [];
          let told = new Set<string>();
          for (const [text, goes] of steps) {
            if (goes && held.length > 0)
              summary.remove(held.splice(text.length % held.length, 1)[0] as string);
            held.push(text);
            // Nothing new is kept from the others; what is gone may be said later.
            if (summary.add(text)) told = new Set(summary.prefixes());
            else
              expect(summary.prefixes().every((prefix) => isWanted(told, prefix) || told.has('#'))).toBe(
                true,
              );
          }
          const prefixes = new Set(summary.prefixes());
          for (const name of topics) {
            if (held.some((each) => matches(each, name))) expect(isWanted(prefixes, name)).toBe(true);
            expect(summary.match(name)).toBe(isWanted(prefixes, name));
          }
          for (const text of held.splice(0)) summary.remove(text);
          expect(summary.prefixes()).toEqual([]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('tells topics apart by their first levels', () => {
    const summary = createInterestSummary();
    for (const text of ['room/1/#', 'room/2/light', 'status', 'site/+/alarm']) summary.add(text);
    expect(summary.prefixes().toSorted()).toEqual(['room/1', 'room/2', 'site', 'status']);
    const prefixes = new Set(summary.prefixes());
    const wanted = ['room/1', 'room/1/a', 'room/2/a/b', 'status', 'site/graz/alarm'];
    expect(wanted.filter((name) => !isWanted(prefixes, name))).toEqual([]);
    expect(['room', 'room/3', 'roo', 'other', ''].filter((name) => isWanted(prefixes, name))).toEqual([]);
  });

  it('is short however many there are, and exact again when they have gone', () => {
    const summary = createInterestSummary();
    const many = Array.from({ length: 100_000 }, (_, number) => `cmd/${number}/#`);
    for (const text of many) summary.add(text);
    expect(summary.prefixes()).toEqual(['cmd']);
    const wide = Array.from({ length: 5_000 }, (_, number) => `${number % 60}/${number}/x`);
    for (const text of wide) summary.add(text);
    expect(summary.prefixes().length).toBeLessThanOrEqual(1_024);
    for (const text of [...many, ...wide]) summary.remove(text);
    summary.add('a/b/c');
    expect(summary.prefixes()).toEqual(['a/b']);
  });
});
