import { totalmem } from 'node:os';
import { expect, test } from 'vitest';
import { memoryBoundsOf } from '../../src/server/memory-bounds.js';

const mebibyte = 1_048_576;

test('the budget is shared by subscriptions, messages and exchanges, and is not exceeded', () => {
  const bounds = memoryBoundsOf(256);
  expect(bounds).toEqual({
    maxOutgoingBytesInAll: 64 * mebibyte,
    maxSubscriptionBytesInAll: 128 * mebibyte,
    maxExchangesInAll: mebibyte,
  });
});

test('workers share it', () => {
  expect(memoryBoundsOf(256, 4)).toEqual(memoryBoundsOf(64));
  expect(memoryBoundsOf(undefined, 64).maxSubscriptionBytesInAll).toBeLessThanOrEqual(totalmem() / 4 / 64);
});

test('without one it is half of what the machine has, and not more than 1,024 MiB', () => {
  const { maxOutgoingBytesInAll, maxSubscriptionBytesInAll } = memoryBoundsOf(undefined);
  expect(maxSubscriptionBytesInAll).toBe(2 * maxOutgoingBytesInAll);
  expect(maxSubscriptionBytesInAll).toBeLessThanOrEqual(512 * mebibyte);
  expect(maxSubscriptionBytesInAll).toBeLessThanOrEqual(totalmem() / 4);
  expect(maxSubscriptionBytesInAll).toBeGreaterThan(0);
});
