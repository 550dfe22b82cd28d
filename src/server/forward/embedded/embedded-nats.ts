import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../../log.js';
import { embeddedNatsFiles } from './embedded-nats-config.js';
import { readRunning } from './embedded-nats-state.js';
import { borrowNats, type EmbeddedNats, type FoundNats, findNats, readSync } from './found-nats.js';
import { followNats } from './nats-follower.js';
import { describeLacks, type NatsServerProgram, obtainNatsServer } from './nats-server-program.js';
import { ownNats } from './own-nats.js';
import { claimStore, storeUnreachable } from './store-claim.js';

/** Longest that a start waits for another gateway to have its server up, or to end. */
const claimWithinMs = 30_000;
const claimRetryMs = 200;

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
  if (server.owner === 'this gateway') return server;
  const { port } = server;
  return followNats(server, options.log, (signal) => findOrStart({ ...options, port, signal }));
}

async function findOrStart(options: Options): Promise<FoundNats> {
  const { signal } = options;
  const files = embeddedNatsFiles(resolve(options.dataDir));
  const endMs = performance.now() + claimWithinMs;
  let program: NatsServerProgram | undefined;
  for (;;) {
    const found = await findNats(options.port, files, options.log);
    if (found !== undefined) return found;
    program ??= await obtain(options);
    const claim = await claimStore(files.dir);
    if (claim !== undefined) {
      try {
        return await ownNats(options, program, files, claim);
      } catch (error) {
        await claim.release();
        throw error;
      }
    }
    if (performance.now() > endMs) throw storeUnreachable(files.dir);
    // Two that claim at the same moment both give up: random waits part them.
    await delay(claimRetryMs * (0.5 + Math.random()), undefined, { signal });
  }
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
  return readRunning(embeddedNatsFiles(resolve(dataDir)))?.port;
}

/** Whether the embedded server of a data directory syncs before it acknowledges; undefined while it does not run. */
export function readEmbeddedNatsSync(dataDir: string): boolean | undefined {
  const files = embeddedNatsFiles(resolve(dataDir));
  return readRunning(files) && readSync(files);
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
  return borrowNats(port, files, 'another gateway of the data directory', onNeedsRoom);
}
