import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { programFile } from './server-process.js';

/** A command of the built program that has ended. */
export interface Command {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the built program to its end; `env` holds the settings, and nothing else is inherited. */
export async function runCommand(
  args: readonly string[],
  env: Record<string, string>,
  node = process.execPath,
): Promise<Command> {
  const child = spawn(node, [programFile, ...args], {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...output }));
  });
}
