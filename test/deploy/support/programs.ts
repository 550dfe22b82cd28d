import { spawnSync } from 'node:child_process';
import { root } from './files.js';

/** Programs of others that read deploy/ as its users do. `.ci/run` says where it has put them. */
export const helm = process.env.TEST_HELM ?? 'helm';
export const kubectl = process.env.TEST_KUBECTL ?? 'kubectl';
export const python = process.env.TEST_PYTHON ?? 'python3';

/** A program that has ended. */
export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, in the root of the repository. */
export function run(program: string, args: readonly string[], input = ''): Ended {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: root, encoding: 'utf8', input });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** Whether a program is there and ends well with these arguments. */
export function works(program: string, args: readonly string[]): boolean {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
}
