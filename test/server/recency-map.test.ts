import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RecencyMap } from '../../src/server/recency-map.js';

test('what was unused longest is forgotten, as of a naive list', () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
  const step = fc.record({ action: fc.constantFrom('set', 'use', 'get', 'delete'), key });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), (steps, limit) => {
      const map = new RecencyMap<string, number>(limit);
      const naive: { key: string; value: number }[] = [];
      for (const [value, { action, key }] of steps.entries()) {
        const index = naive.findIndex((entry) => entry.key === key);
        const entry = naive[index];
        if (action === 'set') {
          map.set(key, value);
          if (entry === undefined) {
            naive.push({ key, value });
            if (naive.length > limit) naive.shift();
          } else entry.value = value;
        } else if (action === 'use') {
          expect(map.use(key)).toBe(entry?.value);
          if (entry !== undefined) naive.push(...naive.splice(index, 1));
        } else if (action === 'get') {
          expect(map.get(key)).toBe(entry?.value);
        } else {
          map.delete(key);
          if (entry !== undefined) naive.splice(index, 1);
        }
        expect([...map]).toEqual(naive.map((each) => [each.key, each.value]));
      }
    }),
  );
});
