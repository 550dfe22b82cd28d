import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';

export interface Worker {
  readonly child: ChildProcess;
  /** Lines of progress so far. */
  readonly progress: string[];
  /** The line that it prints when its work is done. */
  readonly done: Promise<{ applied: number; converted: number }>;
  /** Resolves with the exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
}

/** Starts `open-worker.ts` as a process of its own. */
export function startWorker(config: object, count: number, wait?: 'wait'): Worker {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const file = fileURLToPath(new URL('open-worker.ts', import.meta.url));
  const args = [JSON.stringify(config), String(count), ...(wait === undefined ? [] : [wait])];
  const child = spawn(process.execPath, ['--import', loader, file, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const progress: string[] = [];
  // A process that is killed may reset its pipes; readline passes their errors on.
  const linesOf = (input: NodeJS.ReadableStream) => createInterface({ input }).on('error', () => {});
  child.stdin.on('error', () => {});
  linesOf(child.stderr).on('line', (line) => progress.push(line));
  const ended = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  const done = new Promise<{ applied: number; converted: number }>((resolve, reject) => {
    linesOf(child.stdout).once('line', (line) => resolve(JSON.parse(line)));
    void ended.then((how) => reject(new Error(`the worker ended with ${how}: ${progress.join('\n')}`)));
  });
  done.catch(() => {});
  return { child, progress, done, ended };
}

/** The processes of the embedded database of a directory. */
export function databaseProcesses(dataDir: string): number[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes('embedded-child') && line.includes(dataDir))
    .map((line) => Number.parseInt(line, 10));
}
