import { setTimeout as delay } from 'node:timers/promises';
import type { Claim } from '../../../directory-claim.js';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import type { EmbeddedNatsFiles } from './embedded-nats-config.js';
import { readRunning, removeState, writeState } from './embedded-nats-state.js';
import { type FoundNats, readSync } from './found-nats.js';
import { endNatsServer, type LaunchedServer, launchNatsServer } from './nats-server-process.js';
import type { NatsServerProgram } from './nats-server-program.js';
import { isAlive, type ProcessIdentity } from './process-identity.js';
import { storeUnreachable } from './store-claim.js';
import { openFullStore, type StoreStandstill } from './store-space.js';

const watchMs = 500;
/** A server that has not greeted so often in a row hangs; each time it has two seconds: half a minute in all. */
const probeMs = 3_000;
const mostUngreeted = 6;
/** What is said of a server so soon after it was started again was said of the one before. */
const settledAfterMs = 5_000;
const firstBackoffMs = 200;
const lastBackoffMs = 5_000;

/**
 * Starts a server in the store that was claimed, or takes over the one that runs there, and looks after it: it is started again when
 * it has ended, hangs, or stores nothing.
 *
 * @param options.port 0 for any free one.
 * @param claim is released with the server.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function ownNats(
  { port: wantedPort, log, signal }: { port: number; log: Log; signal?: AbortSignal | undefined },
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
  let startedAgainMs = Number.NEGATIVE_INFINITY;
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
        standstill = undefined;
        startedAgainMs = performance.now();
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
      if (performance.now() - startedAgainMs >= settledAfterMs) standstill = how;
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

/**
 * Takes over a server that an earlier run left behind in a store that is ours now; one on another port than is wanted is ended.
 */
async function adopt(
  files: EmbeddedNatsFiles,
  wantedPort: number,
  log: Log,
): Promise<LaunchedServer | undefined> {
  const left = readRunning(files);
  if (left === undefined) return undefined;
  const { server, port } = left;
  // Without a port it was still starting.
  if (port === 0 || (wantedPort !== 0 && wantedPort !== port)) {
    if (await endNatsServer(server)) return undefined;
    throw storeUnreachable(files.dir);
  }
  writeState(files, server, port);
  log.info(
    { event: 'nats_server_adopted', pid: server.pid, port },
    'took over the NATS server that an earlier run left behind',
  );
  return { server, port, storeBytes: 0 };
}
