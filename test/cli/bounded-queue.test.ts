import { expect, test } from 'vitest';
import { openBoundedQueue } from '../../src/cli/tail-nats/bounded-queue.js';

async function take<T>(queue: AsyncIterable<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  for await (const item of queue) {
    taken.push(item);
    if (taken.length >= count) break;
  }
  return taken;
}

test('answers items in order, those that come while the reader waits too', async () => {
  const queue = openBoundedQueue<number>({ maxItems: 10, maxBytes: 100 });
  queue.push(1, 1);
  const taking = take(queue, 3);
  await Promise.resolve();
  queue.push(2, 1);
  queue.push(3, 1);
  expect(await taking).toEqual([1, 2, 3]);
});

test('refuses items over the bounds and takes them again when there is room', async () => {
  const queue = openBoundedQueue<number>({ maxItems: 2, maxBytes: 100 });
  expect([1, 2, 3].map((item) => queue.push(item, 1))).toEqual([true, true, false]);
  expect(await take(queue, 1)).toEqual([1]);
  expect(queue.push(4, 1)).toBe(true);
  expect(await take(queue, 2)).toEqual([2, 4]);
  expect(queue.push(5, 60)).toBe(true);
  expect(queue.push(6, 60)).toBe(false);
});

test('takes an item over the bound of bytes when it is alone, so that nothing is stuck', () => {
  const queue = openBoundedQueue<number>({ maxItems: 2, maxBytes: 100 });
  expect(queue.push(1, 1_000)).toBe(true);
});

test('an end wakes the reader, forgets what is queued, and passes an error on', async () => {
  const ended = openBoundedQueue<number>({ maxItems: 2, maxBytes: 100 });
  const waiting = take(ended, 1);
  ended.end();
  expect(await waiting).toEqual([]);
  const failed = openBoundedQueue<number>({ maxItems: 2, maxBytes: 100 });
  failed.push(1, 1);
  failed.end(new Error('gone'));
  await expect(take(failed, 1)).rejects.toThrow('gone');
});

test('stays in order and small over many items', async () => {
  const queue = openBoundedQueue<number>({ maxItems: 50, maxBytes: 1_000 });
  let next = 0;
  const seen: number[] = [];
  while (queue.push(next, 1)) next += 1;
  for await (const item of queue) {
    seen.push(item);
    if (seen.length === 10_000) break;
    while (queue.push(next, 1)) next += 1;
  }
  expect(next).toBe(10_049);
  expect(seen.every((item, index) => item === index)).toBe(true);
});
