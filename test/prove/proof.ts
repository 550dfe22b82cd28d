import type { OnFinished } from '../faults/gateway.js';
import type { Random } from './random.js';
import type { Verdict } from './verdict.js';

export const proofNames = [
  'power-cut-r1',
  'power-cut-r3',
  'power-cut-control',
  'kill',
  'network-cut',
  'slow-disk',
  'fuzz',
] as const;
export type ProofName = (typeof proofNames)[number];

/** What happened in one round. */
export interface Round {
  /** What was done, as `NATS killed; replica 1 killed`. */
  readonly done: readonly string[];
  readonly verdict: Verdict;
  /** What else was not as it must be, a sentence each. */
  readonly problems: readonly string[];
  /** What was measured, by name with unit. */
  readonly figures?: Readonly<Record<string, number>>;
}

export interface Proof {
  readonly name: ProofName;
  /** What must hold, a sentence. */
  readonly claim: string;
  /** What one round does to the system is called so: `power cuts`. */
  readonly faults: string;
  /** Without --rounds and --minutes. */
  readonly rounds: number;
  /** Longest time of one round, milliseconds. */
  readonly withinMs: number;
  /** The one that must lose something: a proof that cannot fail proves nothing. */
  readonly mustLose?: boolean;
  /** Runs in a process with a network of its own. */
  readonly isolated?: boolean;
  /** Why it cannot be had on this machine and what to do, or undefined. */
  findObstacle(): Promise<string | undefined>;
  /** Starts what all its rounds share. */
  open(onFinished: OnFinished): Promise<Bench>;
}

export interface Bench {
  /** Names and versions of what was tested. */
  readonly versions: Readonly<Record<string, string>>;
  run(random: Random): Promise<Round>;
}
