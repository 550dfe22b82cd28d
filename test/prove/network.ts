import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';

const run = promisify(execFile);

/** A cluster of three nats-servers, each in a network of its own that a cable joins to the others'. */
export interface CabledCluster {
  readonly urls: readonly string[];
  readonly names: readonly string[];
  readonly version: string;
  /** Nothing arrives over the cable any more, and nobody is told. */
  cut(name: string): Promise<void>;
  mend(name: string): Promise<void>;
  close(): Promise<void>;
}

const names = ['n1', 'n2', 'n3'] as const;
const addressOf = (index: number) => `10.90.0.${index + 1}`;
const ownAddress = '10.90.0.254/24';

/** Why there can be no networks of our own here and what to do, or undefined. */
export async function findNetworkObstacle(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'network namespaces need Linux';
  if (process.getuid?.() !== 0) return 'network namespaces need root: run it as root, in a container perhaps';
  try {
    execFileSync('unshare', ['--net', 'sh', '-c', `${cable('try', '$$')} && ip link add hub type bridge`], {
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    });
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made here: ${String((error as { stderr?: string }).stderr ?? error).trim()}`;
  }
}

/** Call it in a network namespace that is nobody else's (`prove`): its interfaces go with it. */
export async function startCabledCluster(): Promise<CabledCluster> {
  const program = await obtainNatsServer({
    program: process.env.NATS_SERVER_BIN,
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
  const directory = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-cluster-'));
  const children: ChildProcess[] = [];
  await ip('link set lo up');
  await ip('link add hub type bridge');
  await ip(`address add ${ownAddress} dev hub`);
  await ip('link set hub up');
  for (const [index, name] of names.entries()) {
    const file = path.join(directory, `${name}.conf`);
    await writeFile(file, configOf(name, path.join(directory, name)));
    const child = spawn('unshare', ['--net', program.path, '-c', file], { stdio: 'ignore' });
    children.push(child);
    process.once('exit', () => child.kill('SIGKILL'));
    const pid = child.pid as number;
    await untilOwnNetwork(pid);
    await run('sh', ['-c', cable(name, String(pid))]);
    await ip(`link set ${name} master hub up`);
    const inside = (command: string) =>
      run('nsenter', ['--net', '--target', String(pid), 'ip', ...command.split(' ')]);
    await inside('link set lo up');
    await inside(`address add ${addressOf(index)}/24 dev cable`);
    await inside('link set cable up');
  }
  return {
    urls: names.map((_, index) => `nats://${addressOf(index)}:4222`),
    names,
    version: program.version,
    cut: (name) => ip(`link set ${name} down`),
    mend: (name) => ip(`link set ${name} up`),
    async close() {
      await Promise.all(
        children.map(async (child) => {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const exited = once(child, 'exit');
          child.kill('SIGKILL');
          await exited;
        }),
      );
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** One end named like the server here, the other in the network of the process. */
function cable(name: string, pid: string): string {
  return `ip link add ${name} type veth peer name cable netns ${pid}`;
}

/** `unshare` makes the network after it has begun. */
async function untilOwnNetwork(pid: number): Promise<void> {
  const own = (await run('readlink', ['/proc/self/ns/net'])).stdout;
  while ((await run('readlink', [`/proc/${pid}/ns/net`])).stdout === own);
}

async function ip(command: string): Promise<void> {
  await run('ip', command.split(' '));
}

function configOf(name: string, storeDir: string): string {
  const routes = names.map((_, other) => `"nats://${addressOf(other)}:6222"`).join(', ');
  return [
    `server_name: ${name}`,
    'listen: "0.0.0.0:4222"',
    `jetstream { store_dir: ${JSON.stringify(storeDir)} }`,
    `cluster { name: prove, listen: "0.0.0.0:6222", routes: [${routes}] }`,
    '',
  ].join('\n');
}
