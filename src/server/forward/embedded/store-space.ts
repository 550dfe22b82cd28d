import { readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';

/** The rest is for the log, the embedded database, and what else lies on the volume. */
const share = 0.75;

/**
 * How many bytes a store of nats-server may take: a share of what its volume has free and of what it holds already.
 *
 * @param store a directory that exists, or will in the directory above.
 */
export async function readStoreLimit(store: string): Promise<number> {
  const { bavail, bsize } = await statfs(join(store, '..'));
  return Math.floor((bavail * bsize + (await readSize(store))) * share);
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
