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
  const { bavail, bsize } = await statfs(join(store, '..'));
  return Math.floor((bavail * bsize + (await readSize(store))) * share);
}

/** Looks after a store that takes no more. */
export interface FullStore {
  /**
   * Whether its volume has more space by now; the log says so, or else, once, what to do.
   *
   * @param storeBytes what the store may take now.
   */
  hasGrown(storeBytes: number): Promise<boolean>;
}

export function openFullStore(store: string, log: Log): FullStore {
  let told = false;
  return {
    async hasGrown(storeBytes) {
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
  };
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
