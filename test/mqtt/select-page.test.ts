import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { selectPage } from '../../src/server/mqtt/live/select-page.js';

interface Item {
  readonly key: number;
  readonly number: number;
}

const compare = (a: Item, b: Item): number => a.key - b.key || a.number - b.number;

describe('a page of sorted items', () => {
  test('is that of the sorted list', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 60 }),
        fc.nat(70),
        fc.nat(70),
        (keys, offset, limit) => {
          const items = keys.map((key, number) => ({ key, number }));
          const expected = [...items].sort(compare).slice(offset, offset + limit);
          expect(selectPage([...items], compare, offset, limit)).toEqual(expected);
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
    const page = selectPage(
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
