import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openPageSelection } from '../../src/server/mqtt/live/select-page.js';

interface Item {
  readonly key: number;
  readonly number: number;
}

const compare = (a: Item, b: Item): number => a.key - b.key || a.number - b.number;

/** Offers the items in one object, as long as it is not taken. */
function select(items: readonly Item[], by: typeof compare, offset: number, limit: number): Item[] {
  const selection = openPageSelection(by, offset, limit);
  let offered: { key: number; number: number } | undefined;
  for (const item of items) {
    offered = Object.assign(offered ?? {}, item);
    if (selection.offer(offered)) offered = undefined;
  }
  return selection.page();
}

describe('a page of sorted items', () => {
  test('is that of the sorted list', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 1_000, size: 'max' }),
        fc.nat(70),
        fc.nat(70),
        (keys, offset, limit) => {
          const items = keys.map((key, number) => ({ key, number }));
          const expected = [...items].sort(compare).slice(offset, offset + limit);
          expect(select(items, compare, offset, limit)).toEqual(expected);
        },
      ),
    );
  });

  test.each(['ascending', 'descending', 'alike'])('is found in few steps when the items come %s', (order) => {
    const count = 20_000;
    const items = Array.from({ length: count }, (_, number) => ({
      key: order === 'alike' ? 0 : order === 'ascending' ? number : count - number,
      number,
    }));
    let steps = 0;
    const page = select(
      items,
      (a, b) => {
        steps += 1;
        return compare(a, b);
      },
      5_000,
      50,
    );
    expect(page).toHaveLength(50);
    expect(page[0]?.key).toBe(order === 'alike' ? 0 : order === 'ascending' ? 5_000 : 5_001);
    expect(steps).toBeLessThan(20 * count);
  });
});
