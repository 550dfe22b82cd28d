import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Those of this process: what is given is often taken later, by when another may have been asked for. */
const given = new Set<number>();

/**
 * A port of 127.0.0.1 that was free a moment ago, below those that the system gives away by itself, so that no other
 * process of the tests is given it meanwhile, nor while a server that has it is started again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    if (given.has(port)) continue;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (!isFree) continue;
    given.add(port);
    return port;
  }
}
