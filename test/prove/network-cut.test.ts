import { test } from 'vitest';
import { findNetworkObstacle } from './network.js';
import { networkCutProof } from './network-cut.js';
import { expectHeld } from './short-form.js';

test('two rounds of cuts between three NATS servers', { timeout: 600_000 }, async ({ skip }) => {
  const obstacle = await findNetworkObstacle();
  skip(obstacle !== undefined, obstacle);
  await expectHeld(networkCutProof, 2);
});
