import { readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../../log.js';

/** The rest is for the log, the embedded database, and what else lies on the volume. */
const share = 0.75;
/** A server is not started again for less than so much more space. */
const leastGrowth = 1.05;

/**
 * How many bytes a store of nats-server may take: a share of what its volume has free and of what it holds already.
 *
 * @param store a directory that exists, or will in the directory above.
 */
export async function readStoreLimit(store: string): Promise<number> {
  return Math.floor(((await readFree(store)) + (await readSize(store))) * share);
}

/** A volume with less is full: a server that is started there would stop at once. */
const leastFreeBytes = 16 * 1_048_576;
/** A server that stores nothing is not started again sooner; twice as long each time. */
const firstRestartMs = 30_000;
const longestRestartMs = 600_000;

/**
 * How a server stores nothing: it says that its store is full, or it confirms nothing. So it does once its disk was full, until it is
 * started again, however much is free by then.
 */
export type StoreStandstill = 'full' | 'silent';

/** Looks after a store that takes no more. */
export function openFullStore(store: string, log: Log) {
  let told = false;
  let restartMs = firstRestartMs;
  let restartedMs = Number.NEGATIVE_INFINITY;
  return {
    /**
     * Whether its volume has more space by now; the log says so, or else, once, what to do.
     *
     * @param storeBytes what the store may take now.
     */
    async hasGrown(storeBytes: number): Promise<boolean> {
      const bytes = await readStoreLimit(store).catch(() => 0);
      if (bytes >= storeBytes * leastGrowth) {
        log.warn(
          { event: 'nats_server_grows', bytes, before: storeBytes },
          'the store of the NATS server is full; it is started again to use what its volume has now',
        );
        told = false;
        return true;
      }
      if (!told) {
        log.error(
          { event: 'nats_server_full', bytes: storeBytes, dir: store },
          'the store of the NATS server is full: enlarge the volume of DATA_DIR, free space on it, or purge the stream',
        );
        told = true;
      }
      return false;
    },
    /** Whether a server that confirms nothing is to be started again, as the log says then: its volume has room. */
    async hasRoom(): Promise<boolean> {
      const sinceMs = performance.now() - restartedMs;
      if (sinceMs < restartMs || (await readFree(store).catch(() => 0)) < leastFreeBytes) return false;
      restartMs = sinceMs < restartMs * 2 ? Math.min(restartMs * 2, longestRestartMs) : firstRestartMs;
      restartedMs = performance.now();
      log.warn(
        { event: 'nats_server_silent' },
        'the NATS server confirms nothing although its volume has room; it is started again',
      );
      return true;
    },
  };
}

/** Bytes that the volume of a store has left. */
async function readFree(store: string): Promise<number> {
  const { bavail, bsize } = await statfs(join(store, '..'));
  return bavail * bsize;
}

/** Bytes of the files below a directory; files come and go meanwhile. */
async function readSize(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const found = await stat(join(entry.parentPath ?? entry.path, entry.name)).catch(() => undefined);
    // Blocks and not the length: files of a store are written with holes.
    bytes += (found?.blocks ?? 0) * 512;
  }
  return bytes;
}
