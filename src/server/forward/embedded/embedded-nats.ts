import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeOwnDirectory, requireOwnDirectory } from '../../../data-directory.js';
import { fileReasonOf, messageOf, SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import { programEnvironment } from './child-environment.js';

import {
  type EmbeddedNatsFiles,
  embeddedNatsConfig,
  embeddedNatsFiles,
  syncAlwaysLine,
} from './embedded-nats-config.js';

import { describeLacks, type NatsServerProgram, obtainNatsServer } from './nats-server-program.js';
import { readProcessBirth } from './process-birth.js';
import { readStoreLimit } from './store-space.js';

/** A NATS server on this machine, for a gateway without NATS_URL. */
export interface EmbeddedNats {
  readonly url: string;
  readonly port: number;
  /** It syncs to disk before it acknowledges; undefined for a server whose configuration svc-mqtt did not write. */
  readonly syncs: boolean | undefined;
  /**
   * Its JetStream stores nothing more for want of space: if the volume has grown since its start, a server of ours is started
   * again with what there is now; if not, the log says what to do.
   */
  makeRoom(): void;
  /** Ends the server unless it is someone else's, in an orderly way and within seconds. Idempotent. */
  close(): Promise<void>;
}

/** Written beside the store, so that whoever starts next knows a server that goes on without its gateway. */
interface EmbeddedNatsState {
  /** The gateway, and the server; a process number alone is no name, as it is used again. */
  readonly owner: Identity;
  readonly server: Identity;
  readonly port: number;
}

interface Identity {
  readonly pid: number;
  readonly birth: string;
}

const readyWithinMs = 20_000;
const endWithinMs = 10_000;
const pollMs = 25;
const watchMs = 500;
const firstBackoffMs = 200;
const lastBackoffMs = 5_000;
/** It is not started again for less than so much more space. */
const leastGrowth = 1.05;

/**
 * Finds or starts a NATS server on 127.0.0.1: one that listens on the port already, whoever runs it; else a
 * `nats-server` of our own with its store under the data directory. One that an earlier gateway left behind when it was
 * killed is taken over. A server of ours that ends by itself is started again.
 *
 * @param options.port 0 for any free one.
 * @param options.program the nats-server to use; undefined: found, or obtained (see `obtainNatsServer`).
 * @param options.downloadUrl as in `obtainNatsServer`.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function startEmbeddedNats(options: {
  dataDir: string;
  port: number;
  program: string | undefined;
  downloadUrl?: string | undefined;
  log: Log;
}): Promise<EmbeddedNats> {
  const { log } = options;
  const files = embeddedNatsFiles(resolve(options.dataDir));
  const left = readState(files);
  if (left !== undefined && isAlive(left.server)) {
    if (isAlive(left.owner) && left.owner.pid !== process.pid) return borrow(left.port, files, log);
    if (options.port === 0 || options.port === left.port) {
      log.info(
        { event: 'nats_server_adopted', pid: left.server.pid, port: left.port },
        'took over the NATS server that an earlier run left behind',
      );
      return own(options, files, left.port, left.server);
    }
    await end(left.server);
  }
  const listener = options.port === 0 ? 'nothing' : await probeNats(options.port);
  if (listener === 'nats') return borrow(options.port, undefined, log);
  if (listener === 'other') {
    throw new SvcMqttError(
      'NATS_EMBEDDED',
      `Port ${options.port} on 127.0.0.1 is taken by something that is not NATS`,
      {
        suggestion: 'Set EMBEDDED_NATS_PORT to a free port, or NATS_URL to a NATS server',
      },
    );
  }
  return own(options, files, options.port, undefined);
}

/** The port of the embedded server of a data directory, while it runs: for commands, when the port is not fixed. */
export function readEmbeddedNatsPort(dataDir: string): number | undefined {
  const state = readState(embeddedNatsFiles(resolve(dataDir)));
  return state !== undefined && isAlive(state.server) ? state.port : undefined;
}

/** The file is written when a server starts, so the one that runs has read it. */
function readSync(files: EmbeddedNatsFiles): boolean | undefined {
  try {
    return readFileSync(files.config, 'utf8').includes(syncAlwaysLine);
  } catch {
    return undefined;
  }
}

/** Whether the embedded server of a data directory syncs before it acknowledges; undefined while it does not run. */
export function readEmbeddedNatsSync(dataDir: string): boolean | undefined {
  const files = embeddedNatsFiles(resolve(dataDir));
  const state = readState(files);
  return state !== undefined && isAlive(state.server) ? readSync(files) : undefined;
}

/** @param files those of the gateway that runs it; undefined for any other server. */
function borrow(port: number, files: EmbeddedNatsFiles | undefined, log: Log): EmbeddedNats {
  log.info({ event: 'nats_server_found', port }, 'using the NATS server that runs on this machine');
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      return files && readSync(files);
    },
    makeRoom() {},
    close: async () => {},
  };
}

async function own(
  options: { program: string | undefined; downloadUrl?: string | undefined; log: Log },
  files: EmbeddedNatsFiles,
  wantedPort: number,
  adopted: Identity | undefined,
): Promise<EmbeddedNats> {
  const { log } = options;
  const program = await obtainNatsServer({
    program: options.program,
    downloadUrl: options.downloadUrl,
    onProgress: (line) => log.info({ event: 'nats_server_install' }, line),
  });
  const lacks = describeLacks(program.version);
  if (lacks !== undefined) log.warn({ event: 'nats_server_old', version: program.version }, lacks);
  const closing = new AbortController();
  let server = adopted;
  let port = wantedPort;
  /** What the store of the running server may take, bytes; of one that was taken over it is not known. */
  let storeBytes = 0;
  let needsRoom = false;
  let toldFull = false;
  if (server === undefined) {
    ({ server, port, storeBytes } = await launch(program, files, wantedPort, log));
  } else {
    writeState(files, server, port);
  }
  const watching = watch();

  /** Looks after the server; it may not be our child, so its end is found by looking. */
  async function watch(): Promise<void> {
    let backoffMs = firstBackoffMs;
    while (!closing.signal.aborted) {
      await delay(watchMs, undefined, { signal: closing.signal }).catch(() => {});
      if (closing.signal.aborted) return;
      if (server !== undefined && isAlive(server)) {
        backoffMs = firstBackoffMs;
        if (!needsRoom || !(await hasGrown())) continue;
        await end(server);
      } else {
        log.error(
          { event: 'nats_server_ended', log: files.log },
          'the NATS server ended; it is started again',
        );
      }
      try {
        ({ server, storeBytes } = await launch(program, files, port, log));
      } catch (error) {
        server = undefined;
        log.error(
          { event: 'nats_server_failed', reason: messageOf(error) },
          'the NATS server cannot be started',
        );
        await delay(backoffMs, undefined, { signal: closing.signal }).catch(() => {});
        backoffMs = Math.min(backoffMs * 2, lastBackoffMs);
      }
    }
  }

  async function hasGrown(): Promise<boolean> {
    needsRoom = false;
    const bytes = await readStoreLimit(files.store).catch(() => 0);
    if (bytes >= storeBytes * leastGrowth) {
      log.warn(
        { event: 'nats_server_grows', bytes, before: storeBytes },
        'the store of the NATS server is full; it is started again to use what its volume has now',
      );
      toldFull = false;
      return true;
    }
    if (!toldFull) {
      log.error(
        { event: 'nats_server_full', bytes: storeBytes, dir: files.store },
        'the store of the NATS server is full: enlarge the volume of DATA_DIR, free space on it, or purge the stream',
      );
      toldFull = true;
    }
    return false;
  }

  let closed: Promise<void> | undefined;
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      return readSync(files);
    },
    makeRoom() {
      needsRoom = true;
    },
    close() {
      closed ??= (async () => {
        closing.abort();
        await watching;
        if (server !== undefined) await end(server);
        rmSync(files.state, { force: true });
      })();
      return closed;
    },
  };
}

/** Starts the program and waits until it listens. */
async function launch(
  program: NatsServerProgram,
  files: EmbeddedNatsFiles,
  wantedPort: number,
  log: Log,
): Promise<{ server: Identity; port: number; storeBytes: number }> {
  let output: number;
  let storeBytes: number;
  try {
    makeOwnDirectory(files.dir);
    for (const name of readdirSync(files.dir).filter((name) => name.endsWith('.ports')))
      rmSync(join(files.dir, name));
    storeBytes = await readStoreLimit(files.store);
    const { version } = program;
    writeFileSync(files.config, embeddedNatsConfig(files, { port: wantedPort, version, storeBytes }));
    output = openSync(files.output, 'w');
  } catch (cause) {
    throw new SvcMqttError('NATS_EMBEDDED', `Cannot write to ${files.dir}: ${fileReasonOf(cause)}`, {
      suggestion: 'Set DATA_DIR to a directory that this user may write to',
      cause,
    });
  }
  // A group of its own, so that Ctrl-C in the terminal does not end it before the gateway has drained; files rather than
  // pipes, so that it can go on when the gateway is killed.
  const child = spawn(program.path, ['-c', files.config], {
    stdio: ['ignore', output, output],
    detached: true,
    env: programEnvironment(),
  });
  closeSync(output);
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  failed.catch(() => {});
  child.unref();
  const birth = child.pid === undefined ? undefined : readProcessBirth(child.pid);
  if (child.pid === undefined || birth === undefined) throw startFailed(files, program);
  const server = { pid: child.pid, birth };
  writeState(files, server, wantedPort);
  const port = await Promise.race([failed, listening(server, files, program)]).catch(async (error) => {
    await end(server);
    rmSync(files.state, { force: true });
    throw error;
  });
  writeState(files, server, port);
  log.info(
    { event: 'nats_server_started', version: program.version, port, pid: server.pid },
    'started a NATS server of our own',
  );
  return { server, port, storeBytes };
}

/** Waits for the ports file, which the server writes when it listens. */
async function listening(
  server: Identity,
  files: EmbeddedNatsFiles,
  program: NatsServerProgram,
): Promise<number> {
  const endMs = performance.now() + readyWithinMs;
  while (performance.now() < endMs) {
    if (!isAlive(server)) throw startFailed(files, program);
    const name = readdirSync(files.dir).find((candidate) => candidate.endsWith(`_${server.pid}.ports`));
    const port =
      name === undefined ? undefined : /:(\d+)/.exec(readFileSync(join(files.dir, name), 'utf8'))?.[1];
    if (port !== undefined && (await probeNats(Number(port))) === 'nats') return Number(port);
    await delay(pollMs);
  }
  throw startFailed(files, program);
}

function startFailed(files: EmbeddedNatsFiles, program: NatsServerProgram): SvcMqttError {
  const said = [files.output, files.log].map(readLastLine).find((line) => line !== '');
  return new SvcMqttError(
    'NATS_EMBEDDED',
    `${program.path} did not start${said === undefined ? '' : `: ${said}`}`,
    {
      suggestion: `See ${files.log}, or set NATS_URL to a NATS server that runs`,
    },
  );
}

function readLastLine(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim().split('\n').at(-1)?.slice(-500) ?? '';
  } catch {
    return '';
  }
}

async function end(server: Identity): Promise<void> {
  for (const [signal, withinMs] of [
    ['SIGTERM', endWithinMs],
    ['SIGKILL', endWithinMs],
  ] as const) {
    const endMs = performance.now() + withinMs;
    if (isAlive(server)) kill(server.pid, signal);
    while (isAlive(server) && performance.now() < endMs) await delay(pollMs);
    if (!isAlive(server)) return;
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself meanwhile.
  }
}

function isAlive(identity: Identity): boolean {
  return readProcessBirth(identity.pid) === identity.birth;
}

function writeState(files: EmbeddedNatsFiles, server: Identity, port: number): void {
  const owner = { pid: process.pid, birth: readProcessBirth(process.pid) ?? '' };
  writeFileSync(files.state, JSON.stringify({ owner, server, port } satisfies EmbeddedNatsState));
}

/** Of a directory that somebody else could write to nothing is believed: a server named there would be ended. */
function readState(files: EmbeddedNatsFiles): EmbeddedNatsState | undefined {
  try {
    requireOwnDirectory(files.dir);
    const state = JSON.parse(readFileSync(files.state, 'utf8')) as EmbeddedNatsState;
    return typeof state.server?.pid === 'number' && typeof state.owner?.pid === 'number' ? state : undefined;
  } catch {
    return undefined;
  }
}
