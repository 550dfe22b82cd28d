import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { isLong } from './test/support/rounds.js';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'test/**/*.test.tsx'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/patience.ts'],
    expect: { poll: { timeout: 30_000 } },
    testTimeout: 300_000,
    hookTimeout: 180_000,
    pool: 'forks',
    // Most of the time goes by waiting for what is away, so that there is work for more of them than processors.
    maxWorkers: isLong ? Math.max(3, availableParallelism()) : Math.max(4, availableParallelism()),
  },
});
