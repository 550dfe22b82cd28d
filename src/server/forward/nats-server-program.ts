import { execFile, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { messageOf, SvcMqttError } from '../../errors.js';
import { installerEnvironment, programEnvironment } from './child-environment.js';
import { isOwnCache, makeNatsServerCache, natsServerCacheDir } from './nats-server-cache.js';

/** The version that is installed when there is none. */
export const pinnedNatsVersion = '2.15.3';
const goPackage = `github.com/nats-io/nats-server/v2@v${pinnedNatsVersion}`;
const programName = 'nats-server';
const installTimeoutMs = 15 * 60_000;
const versionTimeoutMs = 10_000;
const run = promisify(execFile);

/** A nats-server program that was run and told its version. */
export interface NatsServerProgram {
  readonly path: string;
  /** As `2.14.1`. */
  readonly version: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

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
  for (const directory of isOwnCache(join(cache, programName)) ? [...directories, cache] : directories) {
    const found = await tryProgram(join(directory, programName));
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Answers a nats-server, and gets one into the cache of this user when there is none: with Go the pinned version, else
 * the one of the Debian or Ubuntu release at hand. Nothing else on the machine is changed.
 *
 * @param options.onProgress called with a line for people, now and then.
 * @throws SvcMqttError NATS_EMBEDDED saying what was tried and how to do it by hand.
 */
export async function obtainNatsServer(options: {
  program?: string | undefined;
  onProgress(line: string): void;
  env?: Environment;
}): Promise<NatsServerProgram> {
  const env = options.env ?? process.env;
  const found = await findNatsServer(options.program, env);
  if (found !== undefined) return found;
  const cache = natsServerCacheDir(env);
  await makeNatsServerCache(cache);
  const problems: string[] = [];
  for (const way of [
    { name: 'go install', install: installWithGo },
    { name: 'apt-get download', install: installFromDebian },
  ]) {
    const staging = await mkdtemp(join(cache, 'install-'));
    try {
      const installed = await way.install(staging, env, options.onProgress);
      // Whoever was quicker put a program of equal worth there.
      await rename(installed, join(cache, programName));
      const program = await requireProgram(join(cache, programName));
      options.onProgress(`nats-server ${program.version} is in ${cache}`);
      return program;
    } catch (error) {
      problems.push(`${way.name}: ${lastLine(error)}`);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
  throw new SvcMqttError(
    'NATS_EMBEDDED',
    `There is no nats-server on this machine and it could not be obtained (${problems.join('; ')})`,
    {
      suggestion: `Install nats-server (https://docs.nats.io/running-a-nats-service/introduction/installation) on the PATH, name it in NATS_SERVER_BIN, or set NATS_URL to a server that runs`,
    },
  );
}

/** Whether a version is at least the wanted one. */
export function isAtLeast(version: string, major: number, minor: number): boolean {
  const [hasMajor = 0, hasMinor = 0] = version.split('.').map(Number);
  return hasMajor > major || (hasMajor === major && hasMinor >= minor);
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

async function installWithGo(
  staging: string,
  env: Environment,
  onProgress: (line: string) => void,
): Promise<string> {
  const goEnv = { ...installerEnvironment(env), GOBIN: staging };
  await run('go', ['version'], { env: goEnv });
  onProgress(`building nats-server ${pinnedNatsVersion} with go install; this takes a minute or two, once`);
  await runLogged('go', ['install', goPackage], { cwd: staging, env: goEnv }, onProgress);
  return join(staging, programName);
}

/** Unpacks the package without installing it: the package would start a system service on NATS' port. */
async function installFromDebian(
  staging: string,
  env: Environment,
  onProgress: (line: string) => void,
): Promise<string> {
  const options = { cwd: staging, env: { ...installerEnvironment(env), LC_ALL: 'C' } };
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

/** Runs a program, passes its lines on, and rejects with the last one when it fails. */
function runLogged(
  command: string,
  args: readonly string[],
  options: { cwd: string; env: Environment },
  onProgress: (line: string) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: installTimeoutMs,
    });
    let last = '';
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.trim() === '') return;
      last = line.trim();
      onProgress(`${command}: ${last}`);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
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
