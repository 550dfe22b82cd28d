import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

/**
 * Makes objects at one place that all stay, as those of connections do, and then a million there that do not, as those of messages; prints by how much
 * the old objects grew meanwhile, bytes.
 */
const program = `
  import { getHeapSpaceStatistics } from 'node:v8';
  import { loadStart } from ${JSON.stringify(new URL('../../dist/server/start/load-start.js', import.meta.url))};
  await loadStart();
  const make = (index) => ({ index, list: [index, index, index, index], inner: { index } });
  const kept = [];
  for (let index = 0; index < 300_000; index += 1) kept.push(make(index));
  kept.length = 0;
  const readOldBytes = () =>
    getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space').space_used_size;
  let grown = 0;
  let last = readOldBytes();
  let lengths = 0;
  for (let round = 0; round < 100; round += 1) {
    for (let index = 0; index < 10_000; index += 1) lengths += make(index).list.length;
    const now = readOldBytes();
    grown += Math.max(0, now - last);
    last = now;
  }
  console.log(lengths > 0 ? grown : Number.NaN);
`;

test('where a replica runs, objects of which earlier ones stayed are made among the young ones', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  expect(Number(stdout)).toBeLessThan(1_000_000);
});
