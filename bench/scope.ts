import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Everything that one run of the benchmark started; closing it ends all of it, newest first. */
export interface Scope {
  /** A temporary directory, removed at the end. */
  readonly directory: string;
  /** Registers what to do at the end; the answer does it now, once. */
  add(release: () => unknown): () => Promise<void>;
  close(): Promise<void>;
}

const stopWithinMs = 20_000;
/** Processes to be killed when this one exits, for whatever reason. */
const children = new Set<ChildProcess>();
const directories = new Set<string>();

/** Nothing that was started outlives this process, also when it ends by a defect. */
export function endEverythingAtExit(): void {
  process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  });
}

export function openScope(): Scope {
  const directory = mkdtempSync(path.join(tmpdir(), 'svc-mqtt-bench-'));
  directories.add(directory);
  const releases: (() => Promise<void>)[] = [];
  let closing: Promise<void> | undefined;
  return {
    directory,
    add(release) {
      let done: Promise<void> | undefined;
      const releaseOnce = () => {
        done ??= (async () => {
          await release();
        })();
        return done;
      };
      releases.push(releaseOnce);
      return releaseOnce;
    },
    close() {
      closing ??= (async () => {
        for (const release of releases.reverse()) await release().catch(report);
        rmSync(directory, { recursive: true, force: true });
        directories.delete(directory);
      })();
      return closing;
    },
  };
}

/** Starts a process that ends with this one at the latest. */
export function startChild(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  return trackChild(spawn(command, args, options));
}

export function trackChild(child: ChildProcess): ChildProcess {
  children.add(child);
  child.once('exit', () => children.delete(child));
  child.once('error', () => children.delete(child));
  return child;
}

/** Ends a process: first kindly, after a while by SIGKILL. */
export async function stopChild(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  // A process that was stopped acts on its signal only when it goes on.
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopWithinMs);
  await exited;
  clearTimeout(timer);
}

/** Waits for a line of a process' output that `find` answers something for. */
export async function waitForOutput<T>(
  child: ChildProcess,
  stream: 'stdout' | 'stderr',
  find: (output: string) => T | undefined,
  what: string,
  withinMs = 60_000,
): Promise<T> {
  let output = '';
  child[stream]?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-16_000);
  });
  const endMs = performance.now() + withinMs;
  while (true) {
    const found = find(output);
    if (found !== undefined) return found;
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > endMs) {
      child.kill('SIGKILL');
      throw new Error(`${what} did not start: ${output.slice(-2_000)}`);
    }
    await delay(20);
  }
}

/** Rejects when the work takes too long: nothing in the benchmark waits for ever. */
export async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}

/** A failure with a suggestion is the machine's, and its sentence says it all; of others the stack is wanted. */
export function report(error: unknown): void {
  if (error instanceof Error && 'suggestion' in error) {
    progress([error.message, error.suggestion].filter(Boolean).join('. '));
    return;
  }
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
}

/** One line of progress, on stderr so that the tables alone are on stdout. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}
