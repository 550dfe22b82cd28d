import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The built program, as a user runs it. */
export const programFile = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export type LogLine = Record<string, unknown>;

/** How a process ended: its exit status, or the signal that ended it. */
export type Ending = number | NodeJS.Signals;

/** `svc-mqtt serve` in a process of its own, which may be starting, running or over. */
export interface LaunchedServer {
  readonly pid: number;
  /** Log lines so far. */
  readonly log: LogLine[];
  /** Every line of stderr so far, log lines too. */
  readonly stderr: string[];
  /** Every line of stdout so far. */
  readonly stdout: string[];
  readonly ended: Promise<Ending>;
  /** The first log line of the event, or the first for which `matches` holds; fails when the server ends before. */
  waitFor(event: string, matches?: (line: LogLine) => boolean): Promise<LogLine>;
  signal(signal: NodeJS.Signals): void;
}

/** A server that is ready. */
export interface ServerProcess extends LaunchedServer {
  readonly mqttPort: number;
  readonly httpPort: number;
  /** Log lines of an event. */
  count(event: string): number;
  /** Memory in use, bytes. */
  residentBytes(): number;
  /** What `/readyz` answers. */
  readiness(): Promise<Readiness>;
  /** Sends a signal and answers how the process ended. */
  end(signal?: NodeJS.Signals): Promise<Ending>;
}

export interface Readiness {
  readonly status: number;
  readonly database: string;
  readonly nats: string;
  readonly storage: string;
  readonly listeners: string;
}

export interface LaunchOptions {
  /** The node program. */
  node?: string;
  /** In a process group of its own, as a shell starts it; end it with `process.kill(-pid)`. */
  group?: boolean;
  /** Arguments after `serve`. */
  args?: readonly string[];
  /** The user and group to run as. */
  uid?: number;
  /** How many files it may have open (`ulimit -n`). */
  openFiles?: number;
}

const running = new Set<ChildProcess>();
// A test run that is itself ended leaves no server behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts a server without waiting; `env` holds the settings, and nothing else is inherited. */
export function launchServer(env: Record<string, string>, options: LaunchOptions = {}): LaunchedServer {
  const command = [options.node ?? process.execPath, programFile, 'serve', ...(options.args ?? [])];
  const { openFiles } = options;
  const limited = ['sh', '-c', 'ulimit -n "$0" && exec "$@"', String(openFiles), ...command];
  const [program, ...args] = (openFiles === undefined ? command : limited) as [string, ...string[]];
  const child: ChildProcess = spawn(program, args, {
    cwd: tmpdir(),
    detached: options.group === true,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      NATS_SERVER_BIN: process.env.NATS_SERVER_BIN,
      MQTT_HOST: '127.0.0.1',
      MQTT_PORT: '0',
      LISTEN_ADDR: '127.0.0.1:0',
      LOG_FORMAT: 'json',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  running.add(child);
  const log: LogLine[] = [];
  const stderr: string[] = [];
  const stdout: string[] = [];
  const watchers = new Set<() => void>();
  const wake = () => {
    for (const watcher of [...watchers]) watcher();
  };
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => stdout.push(line));
  createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
    stderr.push(line);
    if (line.startsWith('{')) log.push(JSON.parse(line) as LogLine);
    wake();
  });
  let over = false;
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child);
    over = true;
    wake();
    return (code ?? signal) as Ending;
  });

  return {
    pid: child.pid as number,
    log,
    stderr,
    stdout,
    ended,
    waitFor: (event, matches = () => true) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          const found = log.find((line) => line.event === event && matches(line));
          if (found === undefined && !over) return;
          watchers.delete(check);
          if (found !== undefined) resolve(found);
          else reject(new Error(`the server ended before ${event}: ${stderr.slice(-20).join('\n')}`));
        };
        watchers.add(check);
        check();
      }),
    signal(signal) {
      if (!over) child.kill(signal);
    },
  };
}

/** Starts a server on free ports and waits until it is ready; `env` holds the settings, and nothing else is inherited. */
export async function startServerProcess(
  env: Record<string, string>,
  options: LaunchOptions = {},
): Promise<ServerProcess> {
  const launched = launchServer(env, options);
  const ready = await launched.waitFor('serve_ready');
  const httpPort = ready.httpPort as number;
  return {
    ...launched,
    mqttPort: ready.mqttPort as number,
    httpPort,
    count: (event) => launched.log.filter((line) => line.event === event).length,
    residentBytes: () => {
      const status = readFileSync(`/proc/${launched.pid}/status`, 'utf8');
      return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1_024;
    },
    async readiness() {
      const answer = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
      const body = (await answer.json()) as Record<string, { status: string }>;
      const part = (name: string) => body[name]?.status ?? 'missing';
      return {
        status: answer.status,
        database: part('database'),
        nats: part('nats'),
        storage: part('storage'),
        listeners: part('listeners'),
      };
    },
    async end(signal = 'SIGTERM') {
      launched.signal(signal);
      return launched.ended;
    },
  };
}
