import { execFile, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { messageOf, SvcMqttError } from '../../../errors.js';
import { distrustOf } from '../../../file-trust.js';
import { isAtLeast } from '../connection/server-version.js';
import { type Environment, installerEnvironment, programEnvironment } from './child-environment.js';
import { makeNatsServerCache, natsServerCacheDir } from './nats-server-cache.js';
import { downloadRelease, releaseUrl } from './nats-server-release.js';

/** The version that is installed when there is none. */
export const pinnedNatsVersion = '2.15.3';
const goPackage = `github.com/nats-io/nats-server/v2@v${pinnedNatsVersion}`;
const programName = 'nats-server';
const installTimeoutMs = 15 * 60_000;
const versionTimeoutMs = 10_000;
const stillAtWorkMs = 15_000;
const run = promisify(execFile);

/** A nats-server program that was run and told its version. */
export interface NatsServerProgram {
  readonly path: string;
  /** As `2.14.1`. */
  readonly version: string;
}

/** One way to get a program: answers the path in `staging`, a directory of its own. */
interface Way {
  readonly name: string;
  install(to: Installation): Promise<string>;
}

interface Installation {
  readonly staging: string;
  readonly env: Environment;
  readonly onProgress: (line: string) => void;
  readonly signal: AbortSignal | undefined;
}

/**
 * Finds a nats-server: the given program, one on the PATH, one that `obtainNatsServer` has put in the cache. A PATH entry
 * that depends on the working directory is passed over, and so is a cache that somebody else could write to.
 *
 * @returns undefined when there is none.
 * @throws SvcMqttError NATS_EMBEDDED when a program is given and it cannot be run.
 */
export async function findNatsServer(
  given: string | undefined,
  env: Environment = process.env,
): Promise<NatsServerProgram | undefined> {
  if (given !== undefined) return requireProgram(given);
  const directories = (env.PATH ?? '').split(delimiter).filter(isAbsolute);
  const cache = natsServerCacheDir(env);
  if (distrustOf(join(cache, programName)) === undefined) directories.push(cache);
  for (const directory of directories) {
    const found = await tryProgram(join(directory, programName));
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Answers a nats-server, and gets one into the cache of this user when there is none: the official release of the pinned
 * version, else with Go the same version, else the one of the Debian or Ubuntu release at hand. Nothing else on the
 * machine is changed.
 *
 * @param options.downloadUrl the directory of the release's files, of a mirror for example; undefined: the official one.
 * @param options.renews gets the pinned version, too, when the cache holds an older one, which stays where that fails.
 * @param options.onProgress called with a line for people, now and then.
 * @param options.signal ends what is under way and leaves nothing of it.
 * @throws SvcMqttError NATS_EMBEDDED saying what was tried and how to do it by hand.
 */
export async function obtainNatsServer(options: {
  program?: string | undefined;
  downloadUrl?: string | undefined;
  renews?: boolean;
  onProgress(line: string): void;
  signal?: AbortSignal | undefined;
  env?: Environment;
}): Promise<NatsServerProgram> {
  const { onProgress, signal, env = process.env } = options;
  const cache = natsServerCacheDir(env);
  const found = await findNatsServer(options.program, env);
  const renews = options.renews === true && found?.path === join(cache, programName) && isOld(found.version);
  if (found !== undefined && !renews) return found;
  await makeNatsServerCache(cache);
  const problems: string[] = [];
  const url = options.downloadUrl ?? releaseUrl(pinnedNatsVersion);
  const pinned: Way[] = [
    {
      name: 'release',
      install: ({ staging: directory }) =>
        downloadRelease({ version: pinnedNatsVersion, url, directory, onProgress, signal }),
    },
    { name: 'go install', install: installWithGo },
  ];
  for (const way of renews ? pinned : [...pinned, { name: 'apt-get download', install: installFromDebian }]) {
    if (signal?.aborted === true) break;
    const staging = await mkdtemp(join(cache, 'install-'));
    try {
      const installed = await way.install({ staging, env, onProgress, signal });
      // Run before it takes its place, which another process may look at, and which may be another's by now.
      await readVersion(installed);
      await rename(installed, join(cache, programName));
      const program = await requireProgram(join(cache, programName));
      onProgress(`nats-server ${program.version} is in ${cache}`);
      return program;
    } catch (error) {
      const problem = `${way.name}: ${lastLine(error)}`;
      problems.push(problem);
      onProgress(problem);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
  if (found !== undefined) return found;
  throw new SvcMqttError(
    'NATS_EMBEDDED',
    `There is no nats-server on this machine and it could not be obtained (${problems.join('; ')})`,
    {
      suggestion: `Install nats-server (https://docs.nats.io/running-a-nats-service/introduction/installation) on the PATH, name it in NATS_SERVER_BIN, or set NATS_URL to a server that runs`,
    },
  );
}

/** Whether a version is of an older minor release than the pinned one. */
function isOld(version: string): boolean {
  const [major = 0, minor = 0] = pinnedNatsVersion.split('.').map(Number);
  return !isAtLeast(version, major, minor);
}

/** What the embedded server does without in an older nats-server; undefined when it lacks nothing. */
export function describeLacks(version: string): string | undefined {
  if (isAtLeast(version, 2, 15)) return undefined;
  const syncs = isAtLeast(version, 2, 10) ? 'each second' : 'every two minutes';
  return `nats-server ${version} syncs its files ${syncs} instead of before it acknowledges, so that a power failure loses what was acknowledged since then`;
}

async function requireProgram(path: string): Promise<NatsServerProgram> {
  try {
    return await readVersion(path);
  } catch (cause) {
    throw new SvcMqttError('NATS_EMBEDDED', `NATS_SERVER_BIN: ${path} cannot be run: ${lastLine(cause)}`, {
      suggestion: 'Name a nats-server program that this user may execute, or unset NATS_SERVER_BIN',
      cause,
    });
  }
}

async function tryProgram(path: string): Promise<NatsServerProgram | undefined> {
  try {
    await access(path, constants.X_OK);
    return await readVersion(path);
  } catch {
    return undefined;
  }
}

async function readVersion(path: string): Promise<NatsServerProgram> {
  const { stdout } = await run(path, ['--version'], {
    timeout: versionTimeoutMs,
    env: programEnvironment(),
  });
  const version = /v(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  if (version === undefined) throw new Error('it does not tell a nats-server version');
  return { path, version };
}

async function installWithGo({ staging, env, onProgress, signal }: Installation): Promise<string> {
  const goEnv = { ...installerEnvironment(env), GOBIN: staging };
  await run('go', ['version'], { env: goEnv });
  onProgress(`building nats-server ${pinnedNatsVersion} with go install; this takes minutes, once`);
  await runLogged('go', ['install', goPackage], { cwd: staging, env: goEnv, signal }, onProgress);
  return join(staging, programName);
}

/** Unpacks the package without installing it: the package would start a system service on NATS' port. */
async function installFromDebian({ staging, env, onProgress, signal }: Installation): Promise<string> {
  const options = { cwd: staging, env: { ...installerEnvironment(env), LC_ALL: 'C' }, signal };
  // Its own user for downloads may not write to our cache, which apt-get would complain about.
  const download = [
    '-o',
    `APT::Sandbox::User=${process.getuid?.() === 0 ? 'root' : '_apt'}`,
    'download',
    programName,
  ];
  onProgress('getting the nats-server package with apt-get');
  try {
    await runLogged('apt-get', download, options, onProgress);
  } catch (error) {
    if (process.getuid?.() !== 0 || (error as NodeJS.ErrnoException).code === 'ENOENT') throw error;
    await runLogged('apt-get', ['update'], options, onProgress);
    await runLogged('apt-get', download, options, onProgress);
  }
  const archive = (await readdir(staging)).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new Error('apt-get downloaded no package');
  await runLogged('dpkg-deb', ['-x', archive, 'package'], options, onProgress);
  for (const directory of ['usr/sbin', 'usr/bin']) {
    const path = join(staging, 'package', directory, programName);
    if ((await tryProgram(path)) !== undefined) return path;
  }
  throw new Error('the package holds no nats-server that runs here');
}

/** Runs a program, passes its lines on, says that it is still at work, and rejects with the last line when it fails. */
function runLogged(
  command: string,
  args: readonly string[],
  options: { cwd: string; env: Environment; signal: AbortSignal | undefined },
  onProgress: (line: string) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      ...options,
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: installTimeoutMs,
    });
    let last = '';
    const startedMs = performance.now();
    const still = setInterval(
      () => onProgress(`${command}: at work for ${Math.round((performance.now() - startedMs) / 1_000)} s`),
      stillAtWorkMs,
    );
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.trim() === '') return;
      last = line.trim();
      onProgress(`${command}: ${last}`);
    });
    child.on('error', (error) => {
      clearInterval(still);
      reject(error);
    });
    child.on('close', (status, signal) => {
      clearInterval(still);
      if (status === 0) resolve();
      else reject(new Error(last === '' ? `${command} ended with ${signal ?? status}` : last));
    });
  });
}

function lastLine(error: unknown): string {
  const { code, stderr } = error as { code?: unknown; stderr?: unknown };
  if (code === 'ENOENT') return 'not found';
  if (code === 'EACCES') return 'not executable';
  if (typeof stderr === 'string' && stderr.trim() !== '') return stderr.trim().split('\n').at(-1) ?? '';
  return messageOf(error);
}
