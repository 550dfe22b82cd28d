import type { ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { chmod, realpath } from 'node:fs/promises';
import type { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeOwnDirectory } from '../../data-directory.js';
import { connectToOwner, shortenPath } from '../../directory-claim.js';
import { adviseOnMemory, fileReasonOf, messageOf, SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import type { EmbeddedMessage } from './embedded-child.js';
import { claimOutcome, followUntilReady, forkChild, letGo, releaseChild } from './embedded-process.js';

/** The embedded database as one process sees it. */
export type Embedded = Awaited<ReturnType<typeof openEmbedded>>;

export interface EmbeddedWatcher {
  onNotification(channel: string, payload: string): void;
  onUp(): void;
  onDown(): void;
}

/** Creating a database takes 3 to 4 s on an ordinary machine. */
const openTimeoutMs = 120_000;
/** Most crashes while it opens. */
const maxCrashes = 3;
const retryFirstMs = 50;
const retryMostMs = 5_000;

/** Whether there is an embedded database in a data directory; opening it would make one. */
export function hasEmbeddedDatabase(dataDir: string): boolean {
  try {
    statSync(path.resolve(dataDir, 'database'));
    return true;
  } catch (error) {
    // What another user's directory hides may well be there: opening it says what keeps it from being used.
    return !['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
  }
}

/**
 * Opens the embedded database: attaches to the process that has it, or starts one.
 *
 * @param signal ends the wait for it.
 * @throws SvcMqttError DATABASE_EMBEDDED with the directory and what to do.
 */
export async function openEmbedded(dataDir: string, log: Log, signal?: AbortSignal) {
  const where = path.resolve(dataDir);
  const directory = await prepareDirectory(where);
  const address = await shortenPath(directory);
  const watchers = new Set<EmbeddedWatcher>();
  let child: ChildProcess | undefined;
  let anchor: Socket | undefined;
  /** The connection of the attempt of now. */
  let attempted: Socket | undefined;
  let closing = false;
  /** Why the process ended by itself, since it was last ready. */
  const crashes: string[] = [];
  let retryMs = retryFirstMs;

  const startChild = async () => {
    const started = forkChild(directory);
    child = started;
    started.once('exit', () => {
      if (child === started) child = undefined;
    });
    started.on('message', (message: EmbeddedMessage) => {
      if (message.type === 'crashed') crashes.push(message.reason);
      if (crashes.length > maxCrashes) crashes.shift();
    });
    const reason = await claimOutcome(started);
    if (reason !== undefined) throw new Error(reason);
  };

  /** One attempt; undefined: try again. */
  const attach = async (): Promise<Socket | undefined> => {
    let socket = await connectToOwner(address.path);
    if (socket === undefined && child === undefined && !closing) {
      await startChild();
      socket = await connectToOwner(address.path);
    }
    if (closing) socket?.destroy();
    if (socket === undefined || closing) return undefined;
    attempted = socket;
    const outcome = await followUntilReady(socket, (line) => {
      if ('notify' in line) for (const watcher of watchers) watcher.onNotification(line.notify, line.payload);
      else if (line.state === 'creating') {
        log.info(
          { event: 'embedded_database_creating', where },
          'creating the embedded database, which takes a few seconds',
        );
      }
    });
    if (outcome.ready) return socket;
    socket.destroy();
    if (crashes.length >= maxCrashes) throw embeddedError(where, crashes.at(-1) ?? '');
    if (outcome.reason !== undefined) throw embeddedError(where, outcome.reason);
    return undefined;
  };

  /**
   * Tries until it holds a connection to the database's process, or is closing.
   *
   * @param over rejects when it is to give up; without it no failure is final.
   */
  const hold = async (over?: Promise<never>): Promise<void> => {
    const orOver = <T>(work: Promise<T>) => (over === undefined ? work : Promise.race([work, over]));
    let failure: unknown;
    while (!closing) {
      let socket: Socket | undefined;
      try {
        socket = await orOver(attach());
      } catch (error) {
        failure = error;
      }
      if (socket !== undefined && !closing) {
        retryMs = retryFirstMs;
        crashes.length = 0;
        anchor = socket;
        attempted = undefined;
        socket.once('close', () => {
          if (closing) return;
          log.warn(
            { event: 'embedded_database_lost', where, reason: crashes.at(-1) },
            'the process of the embedded database ended; starting it again',
          );
          for (const watcher of watchers) watcher.onDown();
          void hold();
        });
        for (const watcher of watchers) watcher.onUp();
        return;
      }
      socket?.destroy();
      if (failure !== undefined && over !== undefined) throw failure;
      if (failure !== undefined) {
        log.error(
          { event: 'embedded_database_failed', where, reason: messageOf(failure) },
          'the embedded database does not start',
        );
        failure = undefined;
      }
      // Two processes that claim at the same moment both give up: random waits part them.
      await orOver(delay(retryMs * (0.5 + Math.random())));
      retryMs = Math.min(retryMs * 2, over === undefined ? retryMostMs : 500);
    }
  };

  let closed: Promise<void> | undefined;
  const close = async () => {
    closing = true;
    attempted?.destroy();
    if (child !== undefined) {
      anchor?.destroy();
      await releaseChild(child);
    } else if (anchor !== undefined) await letGo(anchor);
    await address.release();
  };
  const embedded = {
    /** The data directory. */
    where,
    /** The directory of the socket `.s.PGSQL.5432`, short enough for a socket's address. */
    socketDirectory: address.path,
    /**
     * Calls back for every notification, and with `up` when the connection to the database's process was made
     * anew, so that notifications may have been missed, and `down` when it broke.
     *
     * @returns a function that ends it.
     */
    watch(watcher: EmbeddedWatcher): () => void {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    /** Lets go of the database; ends its process when nobody else uses it. Idempotent. */
    close(): Promise<void> {
      closed ??= close();
      return closed;
    },
  };
  try {
    await hold(whenOver(where, signal));
    return embedded;
  } catch (error) {
    await embedded.close();
    throw error instanceof SvcMqttError ? error : embeddedError(where, messageOf(error), error);
  }
}

/** Rejects when the database has had long enough to open, or at the signal: its process may hang, and says nothing then. */
function whenOver(where: string, signal: AbortSignal | undefined): Promise<never> {
  const late = AbortSignal.timeout(openTimeoutMs);
  const over = new Promise<never>((_resolve, reject) => {
    const reason = `it was not ready within ${openTimeoutMs / 1_000} s`;
    late.addEventListener('abort', () => reject(embeddedError(where, reason)), { once: true });
    const end = () => reject(embeddedError(where, 'a signal ended the wait for it'));
    if (signal?.aborted === true) end();
    signal?.addEventListener('abort', end, { once: true });
  });
  over.catch(() => {});
  return over;
}

function embeddedError(where: string, reason: string, cause?: unknown): SvcMqttError {
  return new SvcMqttError(
    'DATABASE_EMBEDDED',
    `The embedded database in ${where} cannot be used: ${reason}`,
    {
      suggestion:
        adviseOnMemory(reason) ??
        'Set DATA_DIR to a directory on a local disk that this user may write, or DATABASE_URL to a PostgreSQL server',
      cause,
    },
  );
}

/** Makes the data directory and the database's directory within it, for this user only. */
async function prepareDirectory(where: string): Promise<string> {
  try {
    const directory = path.join(where, 'database');
    makeOwnDirectory(directory);
    await chmod(directory, 0o700);
    return await realpath(directory);
  } catch (error) {
    throw embeddedError(where, fileReasonOf(error), error);
  }
}
