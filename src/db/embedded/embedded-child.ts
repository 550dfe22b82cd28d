import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import path from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { type Claim, claimDirectory } from '../../directory-claim.js';
import { messageOf } from '../../errors.js';
import { listenStatement } from '../feed/followed-tables.js';
import { startNotificationScanner } from '../feed/notification-scanner.js';

/**
 * The process of the embedded database: PGlite runs its queries in the calling thread, so it has a process of its
 * own. It serves PostgreSQL's protocol on `.s.PGSQL.5432` in the database directory, its only argument, and tells
 * everyone connected to its claim, in JSON lines, how it stands and what was notified.
 *
 * It lives as long as the process that started it lives or anyone is connected to its claim: a server that uses
 * the database of a short command keeps it alive when the command ends.
 */

/** What is written to a connection on the claim. */
export type EmbeddedLine =
  | { readonly state: 'creating' | 'opening' | 'ready' }
  | { readonly state: 'failed'; readonly reason: string }
  | { readonly notify: string; readonly payload: string };

/** What is sent to the parent process. */
export type EmbeddedMessage =
  | { readonly type: 'claimed' | 'lost' | 'staying' }
  | { readonly type: 'crashed'; readonly reason: string };

const maxConnections = 200;
const stayAnswerMs = 250;
const closeTimeoutMs = 10_000;
/** Most bytes of unread lines for one connection on the claim; at it the connection is closed. */
const maxUnreadBytes = 16 * 1_048_576;

async function main(directory: string): Promise<void> {
  // Relative socket paths stay below the limit of about 104 bytes however long the directory's path is.
  process.chdir(directory);
  // The parent decides when to end: a signal for the whole group or container reaches the parent too.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

  const watchers = new Set<Socket>();
  let latest: EmbeddedLine = { state: existsSync('data/PG_VERSION') ? 'opening' : 'creating' };
  let released = false;
  let stop: (() => Promise<void>) | undefined;
  const tellAll = (line: EmbeddedLine) => {
    for (const watcher of watchers) {
      if (watcher.writableLength > maxUnreadBytes) watcher.destroy();
      else watcher.write(`${JSON.stringify(line)}\n`);
    }
  };
  const setState = (line: EmbeddedLine) => {
    latest = line;
    tellAll(line);
  };
  /** Answers whether it is on its way to its end. */
  const stopWhenUnused = (): boolean => {
    const unused = released && watchers.size === 0;
    if (unused) void stop?.();
    return unused;
  };

  const claim = await claimDirectory('.', (socket) => {
    watchers.add(socket);
    socket.on('close', () => {
      watchers.delete(socket);
      stopWhenUnused();
    });
    // Whoever lets go waits for the close: it comes at once, or for the last one with the end of this process.
    socket.on('end', () => {
      watchers.delete(socket);
      if (!stopWhenUnused()) socket.end();
    });
    socket.resume();
    socket.write(`${JSON.stringify(latest)}\n`);
    if (released) void tell({ type: 'staying' });
  });
  if (claim === undefined) {
    for (const watcher of watchers) watcher.destroy();
    await tell({ type: 'lost' });
    process.exit(0);
  }

  const release = () => {
    released = true;
    stopWhenUnused();
    // Without anyone connected it is on its way to its end, however long that takes.
    const answer = () => watchers.size > 0 && void tell({ type: 'staying' });
    setTimeout(answer, stayAnswerMs).unref();
  };
  process.on('message', release);
  process.on('disconnect', release);
  await tell({ type: 'claimed' });

  const onNotification = (channel: string, payload: string) => tellAll({ notify: channel, payload });
  const opened = openDatabase(onNotification).catch((error: unknown) => {
    setState({ state: 'failed', reason: messageOf(error) });
    return undefined;
  });
  stop = onlyOnce(async () => {
    setTimeout(() => process.exit(0), closeTimeoutMs).unref();
    await close(await opened, claim);
  });
  const database = await opened;
  if (database === undefined) {
    // Whoever is connected has been told why; the next one tries anew.
    setTimeout(() => void stop?.(), 100);
    return;
  }
  setState({ state: 'ready' });
  stopWhenUnused();
}

type OpenDatabase = Awaited<ReturnType<typeof openDatabase>>;

async function openDatabase(onNotification: (channel: string, payload: string) => void) {
  const marker = 'creating';
  // A creation that was interrupted has served nobody yet: begin again.
  if (existsSync(marker)) await rm('data', { recursive: true, force: true });
  const isNew = !existsSync('data/PG_VERSION');
  if (isNew) await writeFile(marker, '');
  await mkdir('data', { recursive: true, mode: 0o700 });
  const db = await PGlite.create(path.resolve('data'));
  if (isNew) await rm(marker, { force: true });

  // Every connection shares PGlite's one session, so a notification arrives in the answer to whichever query
  // caused it; it is read there and passed on to everyone.
  await db.exec(listenStatement);
  const scan = startNotificationScanner(onNotification);
  const run = db.execProtocolRawStream.bind(db);
  // The socket server takes connections in turns, a message each, and leaves the session to one connection only while a
  // transaction is open. The messages of a query belong together as well: another's in between would replace its statement.
  const isInTransaction = db.isInTransaction.bind(db);
  let awaitsSync = false;
  db.isInTransaction = () => awaitsSync || isInTransaction();
  db.execProtocolRawStream = async (message, options) => {
    awaitsSync = beforeSync.has(String.fromCharCode(message[0] ?? 0));
    try {
      await run(message, {
        ...options,
        onRawData(data) {
          options?.onRawData?.(data);
          scan(data);
        },
      });
    } catch (error) {
      // Errors of SQL are answers; this is a broken PGlite, which only a new process cures.
      await crash(error);
    }
  };

  const socketFile = '.s.PGSQL.5432';
  await rm(socketFile, { force: true });
  const server = new PGLiteSocketServer({ db, path: socketFile, maxConnections });
  await server.start();
  return { db, server };
}

/** Parse, Bind, Describe, Execute, Close and Flush: messages of a query that Sync ends (PostgreSQL §54.2.3). */
const beforeSync: ReadonlySet<string> = new Set(['P', 'B', 'D', 'E', 'C', 'H']);

async function close(database: OpenDatabase | undefined, claim: Claim): Promise<void> {
  if (database !== undefined) {
    await database.server.stop();
    await database.db.close();
  }
  // The claim goes last: whoever takes over must find the files at rest.
  await claim.release();
  process.exit(0);
}

function onlyOnce(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= run().catch(crash);
    return running;
  };
}

async function tell(message: EmbeddedMessage): Promise<void> {
  if (!process.connected) return;
  await new Promise<void>((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

async function crash(error: unknown): Promise<never> {
  await tell({ type: 'crashed', reason: messageOf(error) });
  process.exit(1);
}

const directory = process.argv[2];
if (directory !== undefined && process.send !== undefined) {
  process.on('uncaughtException', (error) => void crash(error));
  process.on('unhandledRejection', (error) => void crash(error));
  void main(directory).catch(crash);
}
