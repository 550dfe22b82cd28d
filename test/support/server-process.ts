import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The built program, as a user runs it. */
export const programFile = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** `svc-mqtt serve` in a process of its own. */
export interface ServerProcess {
  readonly pid: number;
  readonly mqttPort: number;
  readonly httpPort: number;
  /** Log lines so far. */
  readonly log: Record<string, unknown>[];
  /** Sends a signal and answers the exit status, or the signal that ended it. */
  end(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** Starts a server on free ports and waits until it is ready; `env` holds the settings, and nothing else is inherited. */
export async function startServerProcess(
  env: Record<string, string>,
  node = process.execPath,
): Promise<ServerProcess> {
  const child: ChildProcess = spawn(node, [programFile, 'serve'], {
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
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const log: Record<string, unknown>[] = [];
  const lines: string[] = [];
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const ready = new Promise<Record<string, unknown>>((resolve, reject) => {
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      lines.push(line);
      if (!line.startsWith('{')) return;
      const entry = JSON.parse(line) as Record<string, unknown>;
      log.push(entry);
      if (entry.event === 'serve_ready') resolve(entry);
    });
    exited.then(
      ([code]) => reject(new Error(`the server ended with ${code}: ${lines.join('\n')}`)),
      (error: unknown) => reject(error),
    );
  });
  const entry = await ready;
  return {
    pid: child.pid as number,
    mqttPort: entry.mqttPort as number,
    httpPort: entry.httpPort as number,
    log,
    async end(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const [code, signalCode] = await exited;
      return code ?? (signalCode as NodeJS.Signals);
    },
  };
}
