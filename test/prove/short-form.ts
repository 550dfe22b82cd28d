import { randomInt } from 'node:crypto';
import { expect } from 'vitest';
import { prove } from './isolated.js';
import type { Proof } from './proof.js';

/** A few rounds of a proof; a failure names the seed. */
export async function expectHeld(proof: Proof | undefined, rounds: number): Promise<void> {
  if (proof === undefined) throw new Error('there is no such proof');
  const outcome = await prove(proof, { rounds, minutes: undefined, seed: randomInt(2 ** 32) });
  expect(outcome.because).toEqual([]);
  expect(outcome.result).toBe('held');
}
