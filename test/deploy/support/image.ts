import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readText, root } from './files.js';

/** The image to build on, which has Node.js and npm; unset where nothing can be built. */
export const imageBase = process.env.TEST_IMAGE_BASE;

const execute = promisify(execFile);

/** Builds the Dockerfile, without a daemon, and answers the name of the image. */
export async function buildImage(base: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'svc-mqtt-image-'));
  try {
    const dockerfile = join(directory, 'Dockerfile');
    // How often a starting container is asked is unknown to builders before 1.39, and nobody asks here.
    await writeFile(dockerfile, readText('Dockerfile').replace(' --start-interval=1s', ''));
    const name = `localhost/svc-mqtt-test:${process.pid}`;
    const options = (process.env.TEST_IMAGE_BUILD_OPTIONS ?? '').split(' ').filter((each) => each !== '');
    const args = ['build', '--isolation=chroot', '--network=host', '--format=docker', '--file', dockerfile];
    await execute('buildah', [...args, `--build-arg=NODE_IMAGE=${base}`, ...options, '--tag', name, root], {
      maxBuffer: 64 << 20,
    });
    return name;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Podman takes a cgroup hierarchy of version 2 beside those of version 1 for the only one, so it does not see it. */
const withoutHybridCgroups = [
  '--mount',
  'sh',
  '-c',
  'umount /sys/fs/cgroup/unified 2>/dev/null; exec podman "$@"',
  'sh',
];

/** Runs a command of podman to its end; fails when it does. */
export async function podman(...args: readonly string[]): Promise<string> {
  return (await execute('unshare', [...withoutHybridCgroups, ...args])).stdout;
}

/** A container that runs, on the network of this machine. */
export interface Container {
  /** What it has written so far. */
  output(): string;
  /** Its exit status, once it has ended. */
  readonly ended: Promise<number | null>;
  /** Runs a command in it. */
  exec(...command: readonly string[]): Promise<string>;
  /** Ends it by the signal of its image, as an engine does, and by force after so many seconds. */
  stop(patienceSec: number): Promise<void>;
  remove(): Promise<void>;
}

/** Starts an image as docker-compose.yml does: a root that cannot be written, no capabilities, no way to any. */
export function startContainer(image: string, env: Readonly<Record<string, string>>): Container {
  const name = `svc-mqtt-test-${process.pid}`;
  // Without limits of its own it would ask for more open files than a machine of tests may give.
  const limits = ['--cgroups=disabled', '--ulimit=nofile=4096:4096', '--ulimit=nproc=4096:4096'];
  const closed = ['--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges'];
  const writable = ['/tmp', '/data'].map((path) => `--tmpfs=${path}:mode=1777,size=64m`);
  const settings = Object.entries(env).map(([variable, value]) => `--env=${variable}=${value}`);
  const child = spawn(
    'unshare',
    [
      ...withoutHybridCgroups,
      ...['run', '--rm', '--name', name, '--pull=never', '--network=host', '--no-healthcheck'],
      ...[...limits, ...closed, ...writable, ...settings, image],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return {
    output: () => output,
    ended: new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    }),
    exec: (...command) => podman('exec', name, ...command),
    stop: async (patienceSec) => {
      await podman('stop', '--time', String(patienceSec), name);
    },
    remove: async () => {
      await podman('rm', '--force', '--ignore', name);
    },
  };
}
