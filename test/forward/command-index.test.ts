import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createCommandIndex } from '../../src/server/forward/commands/command-index.js';

/** The same, said plainly. */
function createPlainIndex(bound: number) {
  let all: { device: string; sequence: number }[] = [];
  let floor = 0;
  return {
    add(device: string, sequence: number) {
      if (all.length === bound) floor = all.shift()?.sequence ?? 0;
      all.push({ device, sequence });
    },
    after: (device: string, sequence: number) =>
      all.filter((each) => each.device === device && each.sequence > sequence).map((each) => each.sequence),
    trim(first: number) {
      all = all.filter(({ sequence }) => sequence >= first);
      if (floor < first) floor = 0;
    },
    get oldest() {
      return all[0]?.sequence;
    },
    get size() {
      return all.length;
    },
    get floor() {
      return floor;
    },
  };
}

const device = fc.constantFrom('a', 'b', 'c', 'd');
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('add' as const), device, gap: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('after' as const), device, back: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('trim' as const), back: fc.nat(40) }) },
);

it('knows the commands of each device, in order, as far back as it is told to', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.array(step, { maxLength: 300 }), (bound, steps) => {
      const index = createCommandIndex(bound);
      const plain = createPlainIndex(bound);
      let last = 0;
      for (const each of steps) {
        if (each.kind === 'add') {
          last += 1 + each.gap;
          index.add(each.device, last);
          plain.add(each.device, last);
        } else if (each.kind === 'trim') {
          index.trim(last - each.back);
          plain.trim(last - each.back);
        } else {
          const expected = plain.after(each.device, last - each.back);
          expect(index.after(each.device, last - each.back, 100)).toEqual(expected);
          expect(index.after(each.device, last - each.back, 2)).toEqual(expected.slice(0, 2));
          expect(index.countAfter(each.device, last - each.back, 3)).toBe(Math.min(3, expected.length));
        }
        expect([index.size, index.floor, index.oldest]).toEqual([plain.size, plain.floor, plain.oldest]);
      }
      for (const name of ['a', 'b', 'c', 'd'])
        expect(index.after(name, 0, 1_000)).toEqual(plain.after(name, 0));
    }),
    { numRuns: 500 },
  );
});

it('grows beyond what it began with and keeps all', () => {
  const index = createCommandIndex(100_000);
  for (let sequence = 1; sequence <= 5_000; sequence += 1) {
    index.add(`d${sequence % 7}`, sequence);
    if (sequence % 3 === 0) index.trim(sequence / 3);
  }
  const expected = Array.from({ length: 5_000 }, (_, place) => place + 1).filter(
    (sequence) => sequence % 7 === 2 && sequence >= 1_666,
  );
  expect(index.after('d2', 0, 10_000)).toEqual(expected);
});
