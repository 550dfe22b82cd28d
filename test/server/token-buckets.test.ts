import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addressGroup } from '../../src/server/peer-address.js';
import { createTokenBuckets } from '../../src/server/token-buckets.js';

test('a bucket gives what it holds and what came back since, and says when the next one is there', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 1_000 }),
      fc.array(fc.record({ pauseMs: fc.nat(500), key: fc.constantFrom('a', 'b') }), { maxLength: 200 }),
      (capacity, perSecond, steps) => {
        let now = 0;
        const buckets = createTokenBuckets({ capacity, perSecond, maxKeys: 2, nowMs: () => now });
        const given = { a: 0, b: 0 };
        for (const { pauseMs, key } of steps) {
          now += pauseMs;
          const waitMs = buckets.take(key);
          if (waitMs === 0) {
            given[key] += 1;
            expect(given[key]).toBeLessThanOrEqual(capacity + (now * perSecond) / 1_000 + 1e-6);
          } else {
            now += waitMs;
            expect(buckets.take(key)).toBe(0);
            given[key] += 1;
          }
        }
      },
    ),
    { examples: [[2, 2, [0, 458, 138, 60].map((pauseMs) => ({ pauseMs, key: 'a' as const }))]] },
  );
});

test('a bucket is full at first, empty after its capacity, and full again in time', () => {
  let now = 0;
  const buckets = createTokenBuckets({ capacity: 3, perSecond: 2, maxKeys: 10, nowMs: () => now });
  expect([1, 2, 3, 4].map(() => buckets.take('a'))).toEqual([0, 0, 0, 500]);
  expect(buckets.take('b')).toBe(0);
  buckets.giveBack('a');
  expect([buckets.take('a'), buckets.take('a')]).toEqual([0, 500]);
  now = 60_000;
  expect([1, 2, 3, 4].map(() => buckets.take('a'))).toEqual([0, 0, 0, 500]);
  for (let back = 0; back < 10; back += 1) buckets.giveBack('b');
  expect([1, 2, 3, 4].map(() => buckets.take('b'))).toEqual([0, 0, 0, 500]);
});

test('the number of buckets is bounded; the one used longest ago goes', () => {
  const buckets = createTokenBuckets({ capacity: 1, perSecond: 0.001, maxKeys: 100, nowMs: () => 0 });
  for (const key of ['kept', 'forgotten']) expect(buckets.take(key)).toBe(0);
  for (let index = 0; index < 500; index += 1) {
    expect(buckets.take(`key${index}`)).toBe(0);
    expect(buckets.take('kept')).toBeGreaterThan(0);
    expect(buckets.size).toBeLessThanOrEqual(100);
  }
  expect(buckets.take('forgotten')).toBe(0);
  buckets.giveBack('nobody');
  expect(buckets.size).toBe(100);
});

test('an address counts with those that its owner can choose as well', () => {
  expect(addressGroup('192.0.2.7')).toBe('192.0.2.7');
  expect(addressGroup('::ffff:192.0.2.7')).toBe('192.0.2.7');
  expect(addressGroup('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64');
  expect(addressGroup('2001:0DB8:1:2::1')).toBe('2001:db8:1:2::/64');
  expect(addressGroup('2001:db8::1')).toBe('2001:db8:0:0::/64');
  expect(addressGroup('2001:db8:1:3::1')).not.toBe(addressGroup('2001:db8:1:2::1'));
  expect(addressGroup('64:ff9b::192.0.2.7')).toBe('64:ff9b:0:0::/64');
  expect(addressGroup('fe80::1%eth0')).toBe('fe80:0:0:0::/64');
  expect(addressGroup('::1')).toBe('0:0:0:0::/64');
  expect(addressGroup(undefined)).toBe('unknown');
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      expect(addressGroup(address)).toMatch(/^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){3}::\/64$|^\d+\.\d+\.\d+\.\d+$/);
    }),
  );
});
