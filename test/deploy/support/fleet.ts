import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { obtainNatsServer } from '../../../src/server/forward/embedded/nats-server-program.js';
import type { OnFinished } from '../../faults/gateway.js';
import { freePort } from '../../support/free-port.js';
import type { ComposeFile } from './compose.js';
import { readText, root } from './files.js';

/** What a container would be, as a process of this machine: names of containers become ports of 127.0.0.1. */
export interface Places {
  /** Replaces each `name:port` of the Compose file by its place here. */
  replace(text: string): string;
  /** The port here of a port there. */
  portOf(place: string): number;
}

/** Gives each of the places a free port. */
export async function findPlaces(places: readonly string[]): Promise<Places> {
  const ports = new Map<string, number>();
  for (const place of places) ports.set(place, await freePort());
  const portOf = (place: string) => {
    const port = ports.get(place);
    if (port === undefined) throw new Error(`there is no place for ${place}`);
    return port;
  };
  return {
    portOf,
    replace: (text) =>
      [...ports].reduce((all, [place, port]) => all.replaceAll(place, `127.0.0.1:${port}`), text),
  };
}

/** Starts a program, ends it with the test, and waits until `isReady`. */
export async function startProgram(
  onFinished: OnFinished,
  program: string,
  args: readonly string[],
  isReady: () => Promise<boolean>,
): Promise<ChildProcess> {
  const child = spawn(program, args, { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = `${output}${chunk.toString()}`.slice(-4_000);
    });
  }
  const ended = once(child, 'exit');
  onFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  while (!(await isReady().catch(() => false))) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${program} ended: ${output}`);
    await delay(50);
  }
  return child;
}

export async function answersOk(url: string): Promise<boolean> {
  return (await fetch(url)).ok;
}

/** Starts the three NATS servers of the profile fleet, each as its service says; answers them in that order. */
export async function startFleetNats(
  onFinished: OnFinished,
  { services }: ComposeFile,
  places: Places,
): Promise<ChildProcess[]> {
  const directory = await mkdtemp(join(tmpdir(), 'svc-mqtt-fleet-'));
  onFinished(() => rm(directory, { recursive: true, force: true }));
  const { path: program } = await obtainNatsServer({
    program: process.env.NATS_SERVER_BIN,
    onProgress: () => {},
  });
  const servers = ['nats-1', 'nats-2', 'nats-3'].map(async (name) => {
    const config = join(directory, `${name}.conf`);
    await writeFile(
      config,
      readText('deploy/nats.conf')
        .replace('0.0.0.0:4222', `127.0.0.1:${places.portOf(`${name}:4222`)}`)
        .replace('"/data/', `"${directory}/${name}/`),
    );
    const { entrypoint = [], command = [] } = services[name] ?? {};
    const monitor = places.portOf(`${name}:8222`);
    const args = [...entrypoint.slice(1), ...command].map((arg) =>
      places
        .replace(arg)
        .replace('/etc/nats/nats.conf', config)
        .replace('=8222', `=${monitor}`)
        .replace('0.0.0.0:6222', `127.0.0.1:${places.portOf(`${name}:6222`)}`),
    );
    return startProgram(onFinished, program, args, () => answersOk(`http://127.0.0.1:${monitor}/healthz`));
  });
  return Promise.all(servers);
}

/** Runs the script of a service that runs once, where the image would have its packages; answers its exit status. */
export async function runOnce(
  { services }: ComposeFile,
  name: string,
  places: Places,
): Promise<number | null> {
  const { entrypoint = [], command = [], environment = {} } = services[name] ?? {};
  const [program = '', ...args] = [...entrypoint, ...command];
  const env = Object.fromEntries(
    Object.entries(environment).map(([variable, value]) => [variable, places.replace(value)]),
  );
  const child = spawn(program, args, {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status;
}
