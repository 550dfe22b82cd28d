import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { openSeriesRegistry, type Series } from '../../src/server/metrics/series.js';

it('a gauge has no value while it is asked for none, whether it has labels or not', async () => {
  const registry = new Registry();
  const series = openSeriesRegistry(registry);
  let plain: Series[] = [];
  let labelled: Series[] = [];
  series.gauge('plain', 'no labels', () => plain, []);
  series.gauge('labelled', 'a label', () => labelled, ['stream']);
  const read = async () =>
    (await registry.metrics()).split('\n').filter((line) => /^(plain|labelled)/.test(line));
  expect(await read()).toEqual([]);
  plain = [[{}, 0]];
  labelled = [[{ stream: 'CMD' }, 1]];
  expect(await read()).toEqual(['plain 0', 'labelled{stream="CMD"} 1']);
  plain = [];
  labelled = [];
  expect(await read()).toEqual([]);
});
