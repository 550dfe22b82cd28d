import { readFileSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import { type EmbeddedNatsFiles, embeddedNatsFiles, syncAlwaysLine } from './embedded-nats-config.js';
import { readState, writeState } from './embedded-nats-state.js';
import { endNatsServer, launchNatsServer } from './nats-server-process.js';
import { describeLacks, obtainNatsServer } from './nats-server-program.js';
import { isAlive, type ProcessIdentity } from './process-identity.js';
import { openFullStore } from './store-space.js';

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

const watchMs = 500;
const firstBackoffMs = 200;
const lastBackoffMs = 5_000;

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
    await endNatsServer(left.server);
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

/**
 * The server that another process has found or started by `startEmbeddedNats`, and looks after.
 *
 * @param onNeedsRoom is told in place of `makeRoom`.
 */
export function borrowEmbeddedNats(dataDir: string, port: number, onNeedsRoom: () => void): EmbeddedNats {
  const files = embeddedNatsFiles(resolve(dataDir));
  return borrowed(port, readState(files)?.port === port ? files : undefined, onNeedsRoom);
}

/** @param files those of the gateway that runs it; undefined for any other server. */
function borrow(port: number, files: EmbeddedNatsFiles | undefined, log: Log): EmbeddedNats {
  log.info({ event: 'nats_server_found', port }, 'using the NATS server that runs on this machine');
  return borrowed(port, files, () => {});
}

function borrowed(port: number, files: EmbeddedNatsFiles | undefined, makeRoom: () => void): EmbeddedNats {
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      return files && readSync(files);
    },
    makeRoom,
    close: async () => {},
  };
}

async function own(
  options: { program: string | undefined; downloadUrl?: string | undefined; log: Log },
  files: EmbeddedNatsFiles,
  wantedPort: number,
  adopted: ProcessIdentity | undefined,
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
  const fullStore = openFullStore(files.store, log);
  if (server === undefined) {
    ({ server, port, storeBytes } = await launchNatsServer(program, files, wantedPort, log));
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
        if (!needsRoom) continue;
        needsRoom = false;
        if (!(await fullStore.hasGrown(storeBytes))) continue;
        await endNatsServer(server);
      } else {
        log.error(
          { event: 'nats_server_ended', log: files.log },
          'the NATS server ended; it is started again',
        );
      }
      try {
        ({ server, storeBytes } = await launchNatsServer(program, files, port, log));
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
        if (server !== undefined) await endNatsServer(server);
        rmSync(files.state, { force: true });
      })();
      return closed;
    },
  };
}
