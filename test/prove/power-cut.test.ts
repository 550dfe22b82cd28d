import { expect, test } from 'vitest';
import { findMachineObstacle } from './machine/machine.js';
import { powerCutProofs } from './power-cut.js';
import { expectHeld } from './short-form.js';

const proofOf = (name: string) => powerCutProofs.find((proof) => proof.name === name);

test('one power cut loses nothing that was acknowledged where NATS syncs, and something where it does not', {
  timeout: 600_000,
}, async ({ skip }) => {
  const obstacle = await findMachineObstacle();
  skip(obstacle !== undefined, obstacle);
  await expectHeld(proofOf('power-cut-r1'), 1);
  await expectHeld(proofOf('power-cut-control'), 1);
  expect(proofOf('power-cut-control')?.mustLose).toBe(true);
});
