import { test } from 'vitest';
import { findMachineObstacle } from './machine/machine.js';
import { expectHeld } from './short-form.js';
import { makeSlowDiskProof } from './slow-disk.js';

test('a disk that takes 20 ms for each sync', { timeout: 600_000 }, async ({ skip }) => {
  const obstacle = await findMachineObstacle();
  skip(obstacle !== undefined, obstacle);
  await expectHeld(makeSlowDiskProof({ flushMs: [20], loadMs: 5_000 }), 1);
});
