import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Claim } from '../../../directory-claim.js';
import { messageOf, SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import { type EmbeddedNatsFiles, embeddedNatsFiles, syncAlwaysLine } from './embedded-nats-config.js';
import { readState, removeState, writeState } from './embedded-nats-state.js';
import { endNatsServer, type LaunchedServer, launchNatsServer, portAdvice } from './nats-server-process.js';
import { describeLacks, type NatsServerProgram, obtainNatsServer } from './nats-server-program.js';
import { isAlive, type ProcessIdentity } from './process-identity.js';
import { claimStore, isStoreClaimed } from './store-claim.js';
import { openFullStore, type StoreStandstill } from './store-space.js';

/** A NATS server on this machine, for a gateway without NATS_URL. */
export interface EmbeddedNats {
  readonly url: string;
  readonly port: number;
  /** It syncs to disk before it acknowledges; undefined for a server whose configuration svc-mqtt did not write. */
  readonly syncs: boolean | undefined;
  /**
   * Its JetStream stores nothing more. A server of ours is started again: one that is full, if its volume has grown since its
   * start, with what there is now, and if not, the log says what to do; one that confirms nothing, if its volume has room.
   */
  makeRoom(standstill: StoreStandstill): void;
  /** Ends the server unless it is someone else's, in an orderly way and within seconds. Idempotent. */
  close(): Promise<void>;
}

/** Longest that a start waits for another gateway to have its server up, or to end. */
const claimWithinMs = 30_000;
const claimRetryMs = 200;
/** A server of somebody else's that nobody found so often in a row is gone; who restarts it has ten seconds. */
const followMs = 1_000;
const mostGone = 10;
const watchMs = 500;
/** A server that has not greeted so often in a row hangs; each time it has two seconds: half a minute in all. */
const probeMs = 3_000;
const mostUngreeted = 6;
const firstBackoffMs = 200;
const lastBackoffMs = 5_000;

interface FoundNats extends EmbeddedNats {
  /** `others`: of somebody else, who may start it again whenever they like. */
  readonly owner: 'this gateway' | 'another gateway of the data directory' | 'others';
}

interface Options {
  readonly dataDir: string;
  readonly port: number;
  readonly program: string | undefined;
  readonly downloadUrl?: string | undefined;
  readonly log: Log;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Finds or starts a NATS server on 127.0.0.1: one that listens on the port already, whoever runs it; else a
 * `nats-server` of our own with its store under the data directory. One that an earlier gateway left behind when it was
 * killed is taken over. A server of ours that ends by itself, or hangs, is started again; in place of one of somebody else's that
 * is gone, one is found or started anew.
 *
 * @param options.port 0 for any free one.
 * @param options.program the nats-server to use; undefined: found, or obtained (see `obtainNatsServer`).
 * @param options.downloadUrl as in `obtainNatsServer`.
 * @param options.signal ends the start: it throws, and leaves nothing of it.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function startEmbeddedNats(options: Options): Promise<EmbeddedNats> {
  const server = await findOrStart(options);
  return server.owner === 'this gateway' ? server : follow(server, options);
}

async function findOrStart(options: Options): Promise<FoundNats> {
  const { signal } = options;
  const files = embeddedNatsFiles(resolve(options.dataDir));
  const endMs = performance.now() + claimWithinMs;
  let program: NatsServerProgram | undefined;
  for (;;) {
    const found = await findServer(options.port, files, options.log);
    if (found !== undefined) return found;
    program ??= await obtain(options);
    const claim = await claimStore(files.dir);
    if (claim !== undefined) {
      try {
        return await own(options, program, files, claim);
      } catch (error) {
        await claim.release();
        throw error;
      }
    }
    if (performance.now() > endMs) throw unreachable(files);
    // Two that claim at the same moment both give up: random waits part them.
    await delay(claimRetryMs * (0.5 + Math.random()), undefined, { signal });
  }
}

/**
 * Looks for a server that somebody else runs.
 *
 * @returns undefined where there is none, or none yet, or an earlier gateway left one of ours behind.
 */
async function findServer(port: number, files: EmbeddedNatsFiles, log: Log): Promise<FoundNats | undefined> {
  const state = readState(files);
  const lives = state !== undefined && isAlive(state.server);
  if (await isStoreClaimed(files.dir)) {
    const answers = lives && state.port !== 0 && (await probeNats(state.port)) === 'nats';
    return answers ? borrow(state.port, files, 'another gateway of the data directory', log) : undefined;
  }
  if (lives || port === 0) return undefined;
  const listener = await probeNats(port);
  if (listener === 'nats') return borrow(port, files, 'others', log);
  if (listener === 'nothing') return undefined;
  throw new SvcMqttError(
    'NATS_EMBEDDED',
    `Port ${port} on 127.0.0.1 is taken by something that is not NATS`,
    {
      suggestion: portAdvice,
    },
  );
}

function unreachable(files: EmbeddedNatsFiles): SvcMqttError {
  return new SvcMqttError(
    'NATS_EMBEDDED',
    `Another svc-mqtt has the NATS server in ${files.dir}, and it does not answer here`,
    {
      suggestion: 'Stop the other one, or set DATA_DIR to another directory, or NATS_URL to a NATS server',
    },
  );
}

async function obtain({ program: given, downloadUrl, log, signal }: Options): Promise<NatsServerProgram> {
  const program = await obtainNatsServer({
    program: given,
    downloadUrl,
    signal,
    onProgress: (line) => log.info({ event: 'nats_server_install' }, line),
  });
  const lacks = describeLacks(program.version);
  if (lacks !== undefined) log.warn({ event: 'nats_server_old', version: program.version }, lacks);
  return program;
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
export function borrowEmbeddedNats(
  dataDir: string,
  port: number,
  onNeedsRoom: EmbeddedNats['makeRoom'],
): EmbeddedNats {
  const files = embeddedNatsFiles(resolve(dataDir));
  return borrowed(port, files, 'another gateway of the data directory', onNeedsRoom);
}

function borrow(port: number, files: EmbeddedNatsFiles, owner: FoundNats['owner'], log: Log): FoundNats {
  log.info({ event: 'nats_server_found', port }, 'using the NATS server that runs on this machine');
  return borrowed(port, files, owner, () => {});
}

/** @param files ours, by which it is known whether the server is one on this data directory. */
function borrowed(
  port: number,
  files: EmbeddedNatsFiles,
  owner: FoundNats['owner'],
  makeRoom: EmbeddedNats['makeRoom'],
): FoundNats {
  return {
    owner,
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      const state = readState(files);
      return state?.port === port && isAlive(state.server) ? readSync(files) : undefined;
    },
    makeRoom,
    close: async () => {},
  };
}

/**
 * Follows a server that is not this gateway's: when it has been gone for a while, one is found or started in its place if it was on
 * this data directory. Of another one only that is said: its port is kept free for who runs it.
 */
function follow(found: FoundNats, options: Options): EmbeddedNats {
  const { url, port } = found;
  const { log } = options;
  const closing = new AbortController();
  const { signal } = closing;
  let server = found;
  const watching = watch();

  async function watch(): Promise<void> {
    let gone = 0;
    while (server.owner !== 'this gateway') {
      await delay(followMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      gone = (await probeNats(server.port)) === 'nothing' ? gone + 1 : 0;
      if (gone !== mostGone) continue;
      await replace();
      // Of others it is said once.
      if (server.owner !== 'others') gone = 0;
    }
  }

  async function replace(): Promise<void> {
    log.warn(
      { event: 'nats_server_gone', port: server.port },
      server.owner === 'others'
        ? 'the NATS server that somebody else ran on this machine is gone; start it again, or this gateway, which then starts one'
        : 'the NATS server that another gateway ran is gone',
    );
    if (server.owner === 'others') return;
    try {
      server = await findOrStart({ ...options, port, signal });
      if (server.port !== port)
        log.error(
          { event: 'nats_server_moved', port: server.port },
          'the NATS server of DATA_DIR runs on another port now: this gateway has to be started again to use it',
        );
    } catch (error) {
      if (!signal.aborted)
        log.error(
          { event: 'nats_server_failed', reason: messageOf(error) },
          'the NATS server cannot be started',
        );
    }
  }

  return {
    url,
    port,
    get syncs() {
      return server.syncs;
    },
    makeRoom: (standstill) => server.makeRoom(standstill),
    async close() {
      closing.abort();
      await watching;
      await server.close();
    },
  };
}

/**
 * Takes over a server that an earlier run left behind in a store that is ours now; one on another port than is wanted is ended.
 */
async function adopt(
  files: EmbeddedNatsFiles,
  wantedPort: number,
  log: Log,
): Promise<LaunchedServer | undefined> {
  const left = readState(files);
  if (left === undefined || !isAlive(left.server)) return undefined;
  const { server, port } = left;
  // Without a port it was still starting.
  if (port === 0 || (wantedPort !== 0 && wantedPort !== port)) {
    if (await endNatsServer(server)) return undefined;
    throw unreachable(files);
  }
  writeState(files, server, port);
  log.info(
    { event: 'nats_server_adopted', pid: server.pid, port },
    'took over the NATS server that an earlier run left behind',
  );
  return { server, port, storeBytes: 0 };
}

/** @param claim is released with the server. */
async function own(
  { port: wantedPort, log, signal }: Options,
  program: NatsServerProgram,
  files: EmbeddedNatsFiles,
  claim: Claim,
): Promise<FoundNats> {
  const closing = new AbortController();
  const fullStore = openFullStore(files.store, log);
  const first =
    (await adopt(files, wantedPort, log)) ??
    (await launchNatsServer(program, files, wantedPort, log, signal));
  const { port } = first;
  let server: ProcessIdentity | undefined = first.server;
  let { storeBytes } = first;
  let standstill: StoreStandstill | undefined;
  let ungreeted = 0;
  let probedMs = performance.now();
  const watching = watch();

  /** Whether the server that runs greets nobody. */
  async function hangs(): Promise<boolean> {
    if (performance.now() - probedMs < probeMs) return false;
    ungreeted = (await probeNats(port)) === 'nats' ? 0 : ungreeted + 1;
    probedMs = performance.now();
    if (ungreeted < mostUngreeted) return false;
    ungreeted = 0;
    log.error(
      { event: 'nats_server_hangs', log: files.log },
      'the NATS server answers nobody; it is started again',
    );
    return true;
  }

  /** Whether the server that runs is of no use. */
  async function needsRestart(): Promise<boolean> {
    if (await hangs()) return true;
    const now = standstill;
    standstill = undefined;
    if (now === 'full') return await fullStore.hasGrown(storeBytes);
    return now === 'silent' && (await fullStore.hasRoom());
  }

  /** Looks after the server; it may not be our child, so its end is found by looking. */
  async function watch(): Promise<void> {
    let backoffMs = firstBackoffMs;
    while (!closing.signal.aborted) {
      await delay(watchMs, undefined, { signal: closing.signal }).catch(() => {});
      if (closing.signal.aborted) return;
      if (server !== undefined && isAlive(server)) {
        backoffMs = firstBackoffMs;
        if (!(await needsRestart())) continue;
        if (!(await endNatsServer(server))) continue;
      } else {
        log.error(
          { event: 'nats_server_ended', log: files.log },
          'the NATS server ended; it is started again',
        );
      }
      try {
        ({ server, storeBytes } = await launchNatsServer(program, files, port, log));
        // What was said of the one before.
        standstill = undefined;
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
    owner: 'this gateway',
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      return readSync(files);
    },
    makeRoom(how) {
      standstill = how;
    },
    close() {
      closed ??= (async () => {
        closing.abort();
        await watching;
        if (server !== undefined) {
          await endNatsServer(server);
          removeState(files, server);
        }
        await claim.release();
      })();
      return closed;
    },
  };
}
