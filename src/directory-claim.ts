import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * Who owns the directory of the embedded database, or of the embedded NATS server. Neither has a lock of its own, and two owners
 * would destroy the data, so a process that wants to own the directory first listens on a socket of its own there, under a random name that is
 * never used again, and then connects to every other such socket: when one of them answers, it gives up. The kernel
 * closes a dead process's socket, so there are no stale locks, no process ids to be mistaken for one another, and
 * it holds between containers that share the directory. It does not hold between two hosts.
 */
export interface Claim {
  /** Closes the socket and removes its file; connections made to it stay. */
  release(): Promise<void>;
}

const claimPattern = /^claim-[0-9a-f]{16}\.sock$/;
const connectTimeoutMs = 5_000;
/** The kernel's limit on a socket's address is 104 to 108 bytes; the longest file name needs 28. */
const maxSocketDirectoryBytes = 75;

/** A path of the directory that is short enough for a socket's address: itself or a link in a private directory. */
export async function shortenPath(directory: string): Promise<{ path: string; release(): Promise<void> }> {
  if (Buffer.byteLength(directory) <= maxSocketDirectoryBytes)
    return { path: directory, release: async () => {} };
  const home = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-'));
  const link = path.join(home, 'd');
  await symlink(directory, link);
  return { path: link, release: () => rm(home, { recursive: true, force: true }) };
}

/**
 * Claims the directory.
 *
 * @param onConnection called with every connection to the claim, from the first moment on. Such a connection stays half-open
 *   when the other side ends it: whoever waits for its close is told so when this process ends, or by `end()` before.
 * @returns undefined when another process owns it, or is claiming it at the same moment.
 */
export async function claimDirectory(
  directory: string,
  onConnection: (socket: net.Socket) => void,
): Promise<Claim | undefined> {
  const token = randomBytes(8).toString('hex');
  const unseen = path.join(directory, `new-${token}.sock`);
  const name = `claim-${token}.sock`;
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(unseen, resolve);
  });
  const claim: Claim = {
    async release() {
      await rm(path.join(directory, name), { force: true });
      server.close();
    },
  };
  // The socket gets its visible name only now that it listens: whoever sees the name and is refused may remove it.
  await rename(unseen, path.join(directory, name));
  for (const other of await claimsIn(directory)) {
    if (other === name) continue;
    const socket = await connectTo(path.join(directory, other));
    if (socket === 'gone') {
      await rm(path.join(directory, other), { force: true });
    } else {
      if (socket !== 'unknown') socket.destroy();
      await claim.release();
      return undefined;
    }
  }
  return claim;
}

/** Connects to the process that owns the directory, or is claiming it; undefined when there is none. */
export async function connectToOwner(directory: string): Promise<net.Socket | undefined> {
  for (const name of await claimsIn(directory)) {
    const socket = await connectTo(path.join(directory, name));
    if (typeof socket === 'object') return socket;
  }
  return undefined;
}

async function claimsIn(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => claimPattern.test(name)).sort();
}

/** `gone`: the kernel says that nobody listens. `unknown`: anything else, for instance that it is too busy. */
async function connectTo(file: string): Promise<net.Socket | 'gone' | 'unknown'> {
  return await new Promise((resolve) => {
    const socket = net.connect(file);
    const timer = setTimeout(() => give('unknown'), connectTimeoutMs);
    const give = (result: net.Socket | 'gone' | 'unknown') => {
      clearTimeout(timer);
      if (result !== socket) socket.destroy();
      resolve(result);
    };
    // This listener stays: a connection that breaks later is told by its end.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      give(error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? 'gone' : 'unknown');
    });
    socket.once('connect', () => give(socket));
  });
}
