import { expect, test } from 'vitest';
import { killProof } from './kill.js';
import type { Bench, Proof, Round } from './proof.js';
import { openRandom } from './random.js';
import { formatReport, makeReport } from './report.js';
import { runProof } from './run-proof.js';
import { expectHeld } from './short-form.js';
import { judge, type Told } from './verdict.js';

const told = (qos: 1 | 2, ...acknowledged: number[]): Told => ({
  clientId: `c${qos}`,
  deviceId: `d${qos}`,
  qos,
  acknowledged: new Set(acknowledged),
});
const stored = (qos: 1 | 2, ...numbers: number[]) =>
  numbers.map((number) => ({ subject: `raw.d${qos}`, payload: `c${qos} ${number}  ` }));

test('the verdict names what is lost, doubled, reordered and astray', () => {
  expect(judge([told(1, 0, 1, 2)], stored(1, 0, 1, 2, 3))).toEqual({
    acknowledged: 3,
    stored: 4,
    lost: [],
    doubled: { qos1: 0, qos2: 0 },
    reordered: [],
    astray: [],
  });
  expect(judge([told(1, 0, 1, 2), told(2, 7)], stored(1, 0, 2))).toMatchObject({ lost: ['c1 1', 'c2 7'] });
  // As it is after a client has sent again what was not acknowledged: no order is broken.
  expect(judge([told(1, 0), told(2)], [...stored(1, 0, 1, 0, 1, 2), ...stored(2, 5, 5)])).toMatchObject({
    doubled: { qos1: 2, qos2: 1 },
    reordered: [],
  });
  expect(judge([told(1, 0)], stored(1, 0, 2, 1))).toMatchObject({ reordered: ['c1 1'] });
  expect(judge([told(1)], [{ subject: 'raw.other', payload: 'c1 0' }])).toMatchObject({
    astray: ['c1 0 on raw.other'],
  });
  expect(judge([told(1)], stored(2, 0, 1))).toMatchObject({ stored: 0, lost: [] });
});

test('the same seed draws the same, the next one something else', () => {
  const draw = (seed: number) => {
    const random = openRandom(seed);
    return Array.from({ length: 50 }, () => random.between(3, 9));
  };
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
  expect(new Set(draw(7))).toEqual(new Set([3, 4, 5, 6, 7, 8, 9]));
});

/** A proof whose rounds end as said. */
function proofOf(rounds: (Partial<Round> | Error)[], more: Partial<Proof> = {}) {
  const ended: string[] = [];
  const bench: Bench = {
    versions: { 'nats-server': '1.2.3' },
    async run() {
      const round = rounds.shift();
      if (round instanceof Error) throw round;
      return { done: ['NATS'], verdict: judge([told(1, 0)], stored(1, 0)), problems: [], ...round };
    },
  };
  const proof: Proof = {
    name: 'kill',
    claim: 'claim',
    faults: 'kills',
    rounds: 3,
    withinMs: 60_000,
    findObstacle: async () => undefined,
    async open(onFinished) {
      onFinished(() => void ended.push('first'));
      onFinished(() => void ended.push('second'));
      return bench;
    },
    ...more,
  };
  return { proof, ended };
}
const losing = { verdict: judge([told(1, 0, 1)], stored(1, 0)) };

test('a proof is broken by what a round lost, and by what fails; it ends what it began', async () => {
  const limits = { rounds: undefined, minutes: undefined, seed: 2 ** 32 - 1 };
  const good = proofOf([{}, {}, {}]);
  const held = await runProof(good.proof, limits);
  expect(held).toMatchObject({ result: 'held', because: [] });
  expect(held.rounds.map(({ seed }) => seed)).toEqual([2 ** 32 - 1, 0, 1]);
  expect(good.ended).toEqual(['second', 'first']);

  const broken = await runProof(proofOf([{}, losing, {}]).proof, limits);
  expect(broken).toMatchObject({ result: 'broken', because: ['seed 0: 1 acknowledged messages lost: c1 1'] });
  expect(broken.rounds).toHaveLength(3);

  const failing = proofOf([{}, new Error('no answer')]);
  const failed = await runProof(failing.proof, limits);
  expect(failed.result).toBe('broken');
  expect(failed.because[0]).toContain('seed 0: no answer');
  expect(failing.ended).toEqual(['second', 'first']);

  expect(await runProof(proofOf([], { findObstacle: async () => 'no qemu' }).proof, limits)).toMatchObject({
    result: 'skipped',
    because: ['no qemu'],
  });

  const report = makeReport([held, broken], new Date());
  expect(formatReport(report)).toContain('| `kill` | 3 kills, 3 rounds | 4 | 1 | 0 | 0 | 0 | broken |');
  expect(report.versions).toMatchObject({ 'nats-server': '1.2.3', node: process.version.slice(1) });
});

test('a control that loses nothing is broken: the test around it could not have failed', async () => {
  const limits = { rounds: 2, minutes: undefined, seed: 1 };
  const mustLose = { mustLose: true };
  expect((await runProof(proofOf([{}, losing], mustLose).proof, limits)).result).toBe('held');
  expect((await runProof(proofOf([{}, {}], mustLose).proof, limits)).result).toBe('broken');
});

test('two rounds of kills', () => expectHeld(killProof, 2));
