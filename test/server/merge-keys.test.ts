import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ConnectionKey, sampleStep } from '../../src/api/connection.js';
import { findWindows, mergeKeys } from '../../src/server/fleet/merge-keys.js';

/** Few keys and times, so that many are alike. */
const key = fc.tuple(fc.constantFrom(null, 0, 1, 2), fc.nat(2));
const replicas = fc.array(fc.array(key, { maxLength: 12 }), { maxLength: 4 });

const order = (descending: boolean) => (a: ConnectionKey, b: ConnectionKey) => {
  const [left, right] = [a[0] ?? Infinity, b[0] ?? Infinity] as number[] as [number, number];
  if (left !== right) return left < right === descending ? 1 : -1;
  return a[1] - b[1] || (a[2] < b[2] ? -1 : 1);
};

test('a page of several replicas is the same as of one that has all connections', () => {
  fc.assert(
    fc.property(replicas, fc.boolean(), fc.nat(20), fc.nat(20), (given, descending, offset, limit) => {
      const all = given.map((keys, replica) =>
        keys.map((each, at): ConnectionKey => [...each, `${replica}-${at}`]).sort(order(descending)),
      );
      const lists = all.map((keys) => ({ keys: keys.slice(0, offset + limit), whole: true }));
      const page = all
        .flat()
        .sort(order(descending))
        .slice(offset, offset + limit);
      expect(mergeKeys(lists, { descending, offset, limit })).toEqual(page.map(([, , id]) => id));
    }),
  );
});

test('a page is the same when only samples, and then the windows that they tell, are known', () => {
  const many = fc.array(fc.array(key, { maxLength: 60 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      ...[many, fc.boolean(), fc.nat(150), fc.nat(20), fc.integer({ min: 1, max: 9 })],
      (given, descending, offset, limit, samples) => {
        const all = given.map((keys, replica) =>
          keys.map((each, at): ConnectionKey => [...each, `${replica}-${at}`]).sort(order(descending)),
        );
        const sampled = all.map((keys) => {
          const step = sampleStep(keys.length, samples);
          return { matching: keys.length, keys: keys.filter((_key, at) => (at + 1) % step === 0) };
        });
        const windows = findWindows(sampled, { samples, descending, offset, limit });
        const lists = windows.map((window, at) => ({
          keys: (all[at] as ConnectionKey[]).slice(window.offset, window.offset + window.limit),
          whole: true,
        }));
        const before = windows.reduce((sum, window) => sum + window.offset, 0);
        const page = all
          .flat()
          .sort(order(descending))
          .slice(offset, offset + limit);
        expect(before).toBeLessThanOrEqual(Math.max(offset, 0));
        expect(mergeKeys(lists, { descending, offset: offset - before, limit })).toEqual(
          page.map(([, , id]) => id),
        );
      },
    ),
  );
});

test('windows of a page far down are small', () => {
  const keys = Array.from({ length: 20_000 }, (_, at): ConnectionKey => [at, 0, `a-${at}`]);
  const samples = 256;
  const step = sampleStep(keys.length, samples);
  const list = { matching: keys.length, keys: keys.filter((_key, at) => (at + 1) % step === 0) };
  const page = { samples, descending: false, offset: 30_000, limit: 100 };
  for (const { limit } of findWindows([list, list, list], page)) expect(limit).toBeLessThan(600);
});

test('a list that was cut before the end of the page is not taken for all there is', () => {
  const cut = { keys: [[1, 0, 'a-1'] as const], whole: false };
  const other = { keys: [[5, 0, 'b-1'] as const, [6, 0, 'b-2'] as const], whole: true };
  const page = { descending: false, offset: 0 };
  expect(mergeKeys([cut, other], { ...page, limit: 1 })).toEqual(['a-1']);
  expect(mergeKeys([cut, other], { ...page, limit: 2 })).toBeUndefined();
});
