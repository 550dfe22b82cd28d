import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeOwnDirectory } from '../../../data-directory.js';
import { SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import { programEnvironment } from './child-environment.js';
import { type EmbeddedNatsFiles, embeddedNatsConfig } from './embedded-nats-config.js';
import { removeState, writeState } from './embedded-nats-state.js';
import type { NatsServerProgram } from './nats-server-program.js';
import { identifyProcess, isAlive, type ProcessIdentity } from './process-identity.js';
import { cannotWrite } from './store-claim.js';
import { readStoreLimit } from './store-space.js';

const readyWithinMs = 20_000;
/** For each of the two signals. */
const endWithinMs = 10_000;
const pollMs = 25;

export const portAdvice = 'Set EMBEDDED_NATS_PORT to a free port, or NATS_URL to a NATS server';

/** A nats-server that listens. */
export interface LaunchedServer {
  readonly server: ProcessIdentity;
  readonly port: number;
  /** What its store may take, bytes; 0: not known, of one that was taken over. */
  readonly storeBytes: number;
}

/**
 * Starts the program and waits until it listens. It goes on when this process ends. Whoever calls has claimed the store.
 *
 * @param wantedPort 0 for any free one.
 * @param signal ends the wait, and the program.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function launchNatsServer(
  program: NatsServerProgram,
  files: EmbeddedNatsFiles,
  wantedPort: number,
  log: Log,
  signal?: AbortSignal,
): Promise<LaunchedServer> {
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
    throw cannotWrite(files.dir, cause);
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
  const server = identifyProcess(child.pid);
  if (server === undefined) throw startFailed(files, program);
  writeState(files, server, wantedPort);
  const port = await Promise.race([failed, listening(server, files, program, signal)]).catch(
    async (error) => {
      await endNatsServer(server);
      removeState(files, server);
      throw error;
    },
  );
  writeState(files, server, port);
  log.info(
    { event: 'nats_server_started', version: program.version, port, pid: server.pid },
    'started a NATS server of our own',
  );
  return { server, port, storeBytes };
}

/** Waits for the ports file, which the server writes when it listens. */
async function listening(
  server: ProcessIdentity,
  files: EmbeddedNatsFiles,
  program: NatsServerProgram,
  signal: AbortSignal | undefined,
): Promise<number> {
  const endMs = performance.now() + readyWithinMs;
  while (performance.now() < endMs) {
    signal?.throwIfAborted();
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
  const said = [files.output, files.log].map(readLastLine).find((line) => line !== '') ?? '';
  const [, address, reason] = /listen tcp (\S+): bind: (.*)/.exec(said) ?? [];
  if (address !== undefined) {
    return new SvcMqttError('NATS_EMBEDDED', `The NATS server cannot listen on ${address}: ${reason}`, {
      suggestion: portAdvice,
    });
  }
  return new SvcMqttError('NATS_EMBEDDED', `${program.path} did not start${said === '' ? '' : `: ${said}`}`, {
    suggestion: `See ${files.log}, or set NATS_URL to a NATS server that runs`,
  });
}

function readLastLine(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim().split('\n').at(-1)?.slice(-500) ?? '';
  } catch {
    return '';
  }
}

/**
 * Ends it in an orderly way, or by force when that takes too long.
 *
 * @returns false when it lives on, as with a disk that does not answer: there must not be another on its store.
 */
export async function endNatsServer(server: ProcessIdentity): Promise<boolean> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const endMs = performance.now() + endWithinMs;
    if (isAlive(server)) kill(server.pid, signal);
    while (isAlive(server) && performance.now() < endMs) await delay(pollMs);
    if (!isAlive(server)) return true;
  }
  return false;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself meanwhile.
  }
}
