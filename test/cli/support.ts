import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { CommandIo } from '../../src/cli/terminal/io.js';

export const projectDir = fileURLToPath(new URL('../..', import.meta.url));
const bin = join(projectDir, 'dist', 'cli', 'main.js');

/** A command line that ran as a process of its own. */
export interface Ran {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment of a command: nothing of the caller's settings. */
export function cleanEnv(env: Record<string, string> = {}): Record<string, string> {
  // Nor of the caller's logins.
  const XDG_CONFIG_HOME = '/nonexistent';
  return { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', XDG_CONFIG_HOME, ...env };
}

export interface Running {
  readonly child: ChildProcess;
  readonly output: { stdout: string; stderr: string };
  readonly ended: Promise<Ran>;
}

const children = new Set<ChildProcess>();

/** Ends what a failed test has left running. */
export function killLeftovers(): void {
  for (const child of children) child.kill('SIGKILL');
}

/**
 * Starts the built program.
 *
 * @param fileBlocks largest file that it may write, in blocks of 512 bytes.
 */
export function startCli(
  args: readonly string[],
  env: Record<string, string> = {},
  input?: string,
  fileBlocks?: number,
): Running {
  if (!existsSync(bin)) throw new Error('dist/ is missing: run `npm run build`');
  const command = [process.execPath, bin, ...args];
  const limited = ['sh', '-c', 'ulimit -f "$0" && exec "$@"', String(fileBlocks), ...command];
  const [program = '', ...rest] = fileBlocks === undefined ? command : limited;
  const child = spawn(program, rest, { env: cleanEnv(env), cwd: tmpdir() });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  child.stdin.on('error', () => {});
  child.stdin.end(input ?? '');
  const ended = new Promise<Ran>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, ...output }));
  });
  return { child, output, ended };
}

/** Runs the built program to its end. */
export function runCli(
  args: readonly string[],
  env: Record<string, string> = {},
  input?: string,
): Promise<Ran> {
  return startCli(args, env, input).ended;
}

/** A terminal-less stand-in for a command's process, and what was written to it. */
export function fakeIo(options: { env?: Record<string, string>; stdin?: string } = {}): CommandIo & {
  out(): string;
  err(): string;
  stop(signal: string): void;
  closeOutput(): void;
  /** What a second signal has called, if anything. */
  endAtOnce(): Promise<void> | undefined;
} {
  const texts = { stdout: '', stderr: '' };
  const sink = (name: 'stdout' | 'stderr') =>
    new Writable({
      write(chunk, _encoding, done) {
        texts[name] += String(chunk);
        done();
      },
    });
  const stopping = new AbortController();
  const closing = new AbortController();
  let tellAtEnd: (() => Promise<void>) | undefined;
  return {
    stdin: Readable.from([options.stdin ?? '']) as CommandIo['stdin'],
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    env: options.env ?? {},
    signal: stopping.signal,
    outputClosed: closing.signal,
    onHangUp: () => {},
    onEndAtOnce: (tell) => {
      tellAtEnd = tell;
      return () => {
        tellAtEnd = undefined;
      };
    },
    endAtOnce: () => tellAtEnd?.(),
    onDefect: () => {},
    out: () => texts.stdout,
    err: () => texts.stderr,
    stop: (signal) => stopping.abort(signal),
    closeOutput: () => closing.abort(),
  };
}

/** A terminal that a test types into. */
export function fakeTerminal(): PassThrough & { isTTY: true } {
  return Object.assign(new PassThrough(), { isTTY: true as const });
}

/** Waits until a condition holds; fails, naming it, when it does not within 2 minutes. */
export async function until(name: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${name}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
}

/** A directory of its own for a test, removed by `remove`. */
export function makeTempDir(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'svc-mqtt-cli-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** The JSON lines of an output. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
