import type { OnFinished } from '../faults/gateway.js';
import type { Bench, Proof, ProofName, Round } from './proof.js';
import { openRandom } from './random.js';

/** A round, and how to have it again. */
export interface TakenRound extends Round {
  readonly seed: number;
  readonly seconds: number;
}

export interface Outcome {
  readonly name: ProofName;
  readonly claim: string;
  readonly faults: string;
  /** `held`; `broken`: something is not as it must be; `skipped`: not on this machine, `because` says why. */
  readonly result: 'held' | 'broken' | 'skipped';
  readonly because: readonly string[];
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: readonly TakenRound[];
}

export interface Limits {
  readonly rounds: number | undefined;
  readonly minutes: number | undefined;
  readonly seed: number;
  /** Called after each round. @param share how much of the proof is done, 0 to 1. */
  onRound?(round: TakenRound, rounds: number, share: number): void;
  /** Called with what an isolated proof says. */
  onOutput?(text: string): void;
  /** No round begins any more. */
  readonly stopping?: AbortSignal;
}

/** Runs a proof's rounds one after the other; a round that fails ends it, since what is left is in no known state. */
export async function runProof(proof: Proof, limits: Limits): Promise<Outcome> {
  const { name, claim, faults } = proof;
  const obstacle = await proof.findObstacle();
  const about = { name, claim, faults };
  if (obstacle !== undefined)
    return { ...about, result: 'skipped', because: [obstacle], versions: {}, rounds: [] };

  const undo: Parameters<OnFinished>[0][] = [];
  const rounds: TakenRound[] = [];
  const because: string[] = [];
  let bench: Bench | undefined;
  try {
    bench = await proof.open((work) => void undo.push(work));
    const beganMs = performance.now();
    const lastsMs = (limits.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
    /** How much is done: of the rounds or of the time, whichever ends first. */
    const share = () => Math.max(rounds.length / mostRounds, (performance.now() - beganMs) / lastsMs);
    const mostRounds =
      limits.rounds ?? (limits.minutes === undefined ? proof.rounds : Number.POSITIVE_INFINITY);
    while (share() < 1 && limits.stopping?.aborted !== true) {
      const seed = (limits.seed + rounds.length) >>> 0;
      const startMs = performance.now();
      const round = await within(bench.run(openRandom(seed)), proof.withinMs, seed);
      const taken = { ...round, seed, seconds: (performance.now() - startMs) / 1_000 };
      rounds.push(taken);
      if (proof.mustLose !== true) because.push(...faultsOf(taken));
      limits.onRound?.(taken, rounds.length, Math.min(share(), 1));
    }
  } catch (error) {
    because.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    for (const work of undo.reverse()) {
      try {
        await work();
      } catch (error) {
        because.push(`not ended in order: ${String(error)}`);
      }
    }
  }
  if (proof.mustLose === true && rounds.every(({ verdict }) => verdict.lost.length === 0))
    because.push('nothing was lost, so the other power cuts prove nothing');
  if (rounds.length === 0) because.push('no round was done');
  return {
    ...about,
    result: because.length === 0 ? 'held' : 'broken',
    because,
    versions: bench?.versions ?? {},
    rounds,
  };
}

/** Of a round. */
const mostProblems = 5;

/** What of a round must not be, a sentence each. */
export function faultsOf({ verdict, problems, seed }: TakenRound): string[] {
  const some = (what: string, items: readonly string[]) =>
    items.length === 0 ? [] : [`${items.length} ${what}: ${items.slice(0, 5).join(', ')}`];
  return [
    ...some('acknowledged messages lost', verdict.lost),
    ...some('messages out of order', verdict.reordered),
    ...some('messages under another subject', verdict.astray),
    ...problems.slice(0, mostProblems),
    ...(problems.length > mostProblems ? [`and ${problems.length - mostProblems} more`] : []),
  ].map((fault) => `seed ${seed}: ${fault}`);
}

async function within<T>(work: Promise<T>, withinMs: number, seed: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Error(`seed ${seed}: not done within ${withinMs / 1_000} s`)),
      withinMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    throw error instanceof Error && !error.message.startsWith('seed')
      ? new Error(`seed ${seed}: ${error.message}`, { cause: error })
      : error;
  } finally {
    clearTimeout(timer);
  }
}
