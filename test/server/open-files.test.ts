import { expect, test } from 'vitest';
import { defaultHttpLimits } from '../../src/server/http/limits.js';
import { readOpenFilesLimit, shareOpenFiles } from '../../src/server/start/open-files.js';

const pool = { databasePoolSize: 10 };

test('most files are for devices, and some always for the rest', () => {
  for (const limit of [200, 256, 1_024, 4_096, 65_536, 1_048_576]) {
    const { mqtt, http } = shareOpenFiles(limit, pool);
    expect(limit - mqtt - http).toBeGreaterThanOrEqual(128 + pool.databasePoolSize);
    expect(http).toBeGreaterThanOrEqual(8);
    expect(mqtt).toBeGreaterThan(http);
  }
  expect(shareOpenFiles(131_072, pool).http).toBe(defaultHttpLimits.maxConnections);
  expect(shareOpenFiles(200, { databasePoolSize: 50 }).mqtt).toBeLessThan(shareOpenFiles(200, pool).mqtt);
});

test('a limit below what a replica needs leaves no room for devices, one that is none all of it', () => {
  expect(shareOpenFiles(128, pool).mqtt).toBe(0);
  expect(shareOpenFiles(Number.POSITIVE_INFINITY, pool)).toEqual({
    mqtt: Number.POSITIVE_INFINITY,
    http: defaultHttpLimits.maxConnections,
  });
});

test.runIf(process.platform === 'linux')('the limit of this process is read', () => {
  expect(readOpenFilesLimit()).toBeGreaterThan(64);
});
