import { type ChildProcess, spawn } from 'node:child_process';
import type { Server, Socket } from 'node:net';
import { messageOf } from '../../../errors.js';

/** What another process runs: it sends back what it is sent. It ends with the one that started it, at the latest. */
const echo = `
process.on('message', (number, handle) => process.send(number, handle));
process.on('disconnect', () => process.exit());
`;

/** Something that `Server.listen` takes. */
export interface ListeningHandle {
  close(): void;
}

/**
 * Gives further handles of the socket on which a server listens. From a handle Node.js accepts one connection in a turn of the
 * event loop: a loop that has 4 ms of work a turn takes 250 a second, however many wait, and each handle more takes as many
 * again. Only sending a handle to another process duplicates it, here to one that sends it back and ends.
 *
 * @param options.onFailed not all could be had.
 */
export function duplicateHandle(
  server: Server,
  options: { copies: number; onHandle(handle: ListeningHandle): void; onFailed(reason: string): void },
): { close(): void } {
  let left = options.copies;
  let closed = left <= 0;
  if (closed) return { close() {} };
  let child: ChildProcess;
  try {
    child = spawn(process.execPath, ['-e', echo], { env: {}, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  } catch (error) {
    options.onFailed(messageOf(error));
    return { close() {} };
  }
  child.unref();
  child.channel?.unref();

  function close(): void {
    closed = true;
    // It has a handle, too, and would keep the port.
    child.kill('SIGKILL');
  }

  function fail(reason: string): void {
    if (closed) return;
    close();
    options.onFailed(reason);
  }

  child.on('error', ({ message }) => fail(message));
  child.on('exit', () => fail('the process that duplicates them has ended'));
  child.on('message', (_number, received) => {
    const handle = received as unknown as ListeningHandle | undefined;
    if (closed) {
      handle?.close();
    } else if (handle === undefined) {
      fail('there are too few file descriptors');
    } else {
      left -= 1;
      options.onHandle(handle);
      if (left === 0) close();
    }
  });
  // The handle itself: of a server that is sent, the other process would accept connections.
  const { _handle } = server as unknown as { _handle: Socket };
  for (let number = 1; child.connected && number <= options.copies; number += 1) {
    child.send(number, _handle, (error) => {
      if (error !== null) fail(error.message);
    });
  }
  return { close };
}
