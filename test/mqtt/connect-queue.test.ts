import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openConnectQueue } from '../../src/server/mqtt/admission/connect-queue.js';

interface Item {
  readonly address: string;
  readonly number: number;
}

/** A queue with a clock of the test's own, and what became of each connection. */
function openBench(bounds: { perSecond: number; perSecondPerAddress: number; maxWaiting: number }) {
  let nowMs = 0;
  const released: (Item & { atMs: number })[] = [];
  const dropped: Item[] = [];
  const queue = openConnectQueue<Item>({
    ...bounds,
    nowMs: () => nowMs,
    release: (item) => released.push({ ...item, atMs: nowMs }),
    drop: (item) => dropped.push(item),
  });
  return {
    queue,
    released,
    dropped,
    pass(ms: number): void {
      nowMs += ms;
      queue.advance();
    },
  };
}

const bounds = fc.record({
  perSecond: fc.integer({ min: 1, max: 40 }),
  perSecondPerAddress: fc.integer({ min: 1, max: 40 }),
  maxWaiting: fc.integer({ min: 0, max: 20 }),
});
/** Connections of a few addresses, and pauses. */
const happenings = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('a', 'b', 'c') },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 600 }) },
  ),
  { maxLength: 200 },
);

describe('connections that wait for their turn', () => {
  it('go on in the order of their address, within both rates, none lost, no more waiting than may', () => {
    fc.assert(
      fc.property(bounds, happenings, (wanted, events) => {
        const { queue, released, dropped, pass } = openBench(wanted);
        let added = 0;
        for (const event of events) {
          if (typeof event === 'number') {
            pass(event);
            continue;
          }
          const waitingBefore = queue.waiting;
          added += 1;
          const waits = queue.add({ address: event, number: added }, event);
          const went = released.at(-1)?.number === added;
          const gone = dropped.at(-1)?.number === added;
          expect(waits === undefined).toBe(went || gone);
          expect(queue.waiting).toBeLessThanOrEqual(wanted.maxWaiting);
          if (gone) expect(waitingBefore).toBe(wanted.maxWaiting);
        }
        expect(released.length + dropped.length + queue.waiting).toBe(added);

        const left = queue.waiting;
        pass((left / Math.min(wanted.perSecond, wanted.perSecondPerAddress) + 1) * 1_000);
        for (let second = 0; second < left; second += 1) pass(1_000);
        expect(queue.waiting).toBe(0);
        expect(new Set([...released, ...dropped].map(({ number }) => number)).size).toBe(added);

        for (const address of ['a', 'b', 'c']) {
          const own = released.filter((item) => item.address === address);
          expect(own.map(({ number }) => number)).toEqual(
            own.map(({ number }) => number).toSorted((x, y) => x - y),
          );
          expectRate(own, wanted.perSecondPerAddress);
        }
        expectRate(released, wanted.perSecond);
      }),
    );
  });

  function expectRate(items: readonly { atMs: number }[], perSecond: number): void {
    for (const [first, { atMs }] of items.entries()) {
      for (let last = first; last < items.length; last += 1) {
        const spanMs = (items[last]?.atMs ?? 0) - atMs;
        expect(last - first + 1).toBeLessThanOrEqual(perSecond + (spanMs * perSecond) / 1_000 + 1e-6);
      }
    }
  }

  it('go on at once while the rates are kept', () => {
    const { queue, released } = openBench({ perSecond: 5, perSecondPerAddress: 5, maxWaiting: 0 });
    for (let number = 0; number < 5; number += 1)
      expect(queue.add({ address: 'a', number }, 'a')).toBeUndefined();
    expect(released).toHaveLength(5);
  });

  it('take turns by address, so that a crowd does not hold up one who comes alone', () => {
    const { queue, released, pass } = openBench({ perSecond: 2, perSecondPerAddress: 2, maxWaiting: 100 });
    for (let number = 0; number < 50; number += 1) queue.add({ address: 'crowd', number }, 'crowd');
    expect(queue.add({ address: 'one', number: 99 }, 'one')).toBe('all');
    pass(1_000);
    expect(released.slice(2).map(({ address }) => address)).toContain('one');
  });

  it('wait for their own address alone when only that is over its rate', () => {
    const { queue, released } = openBench({ perSecond: 100, perSecondPerAddress: 1, maxWaiting: 100 });
    expect(queue.add({ address: 'a', number: 1 }, 'a')).toBeUndefined();
    expect(queue.add({ address: 'a', number: 2 }, 'a')).toBe('address');
    expect(queue.add({ address: 'b', number: 3 }, 'b')).toBeUndefined();
    expect(released.map(({ number }) => number)).toEqual([1, 3]);
  });

  it('lose the newest of the address of which most wait, when too many do', () => {
    const { queue, dropped } = openBench({ perSecond: 1, perSecondPerAddress: 1, maxWaiting: 4 });
    queue.add({ address: 'first', number: 0 }, 'first');
    for (let number = 1; number <= 4; number += 1) queue.add({ address: 'crowd', number }, 'crowd');
    queue.add({ address: 'late', number: 5 }, 'late');
    queue.add({ address: 'later', number: 6 }, 'later');
    expect(dropped.map(({ number }) => number)).toEqual([4, 3]);
    expect(queue.add({ address: 'crowd', number: 7 }, 'crowd')).toBeUndefined();
    expect(dropped.at(-1)?.number).toBe(7);
  });

  it('are given out once when the server closes', () => {
    const { queue, pass, released } = openBench({ perSecond: 1, perSecondPerAddress: 1, maxWaiting: 9 });
    for (let number = 0; number < 5; number += 1) queue.add({ address: 'a', number }, 'a');
    expect(queue.clear().map(({ number }) => number)).toEqual([1, 2, 3, 4]);
    expect([queue.waiting, queue.clear().length]).toEqual([0, 0]);
    pass(10_000);
    expect(released).toHaveLength(1);
  });
});
