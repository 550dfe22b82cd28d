import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  connect,
  DiscardPolicy,
  type NatsConnection,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamState,
} from 'nats';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';
import { findFreePort, progress, type Scope, startChild, stopChild, waitForOutput } from '../scope.js';
import type { NatsAccess } from './system.js';

/** A nats-server with JetStream of one run, and its store in a directory of its own. */
export interface NatsServer {
  readonly url: string;
  /** It is another one after a restart. */
  readonly pid: number;
  readonly mqttPort: number;
  /** Of its HTTP monitoring. */
  readonly monitoringUrl: string;
  /** Ends it by the signal and starts it on the same store. Answers how long it took until it was ready, milliseconds. */
  restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<number>;
  /** Ends it and removes its store. */
  stop(): Promise<void>;
}

let program: Promise<string> | undefined;
let servers = 0;

function obtainProgram(): Promise<string> {
  program ??= obtainNatsServer({ program: process.env.NATS_SERVER_BIN, onProgress: progress }).then(
    (found) => found.path,
  );
  return program;
}

export async function readNatsVersion(): Promise<string> {
  const { stdout } = await promisify(execFile)(await obtainProgram(), ['--version']);
  return stdout.trim().replace(/^nats-server:\s*v?/, '');
}

export async function startNats(
  scope: Scope,
  options: {
    mqtt?: boolean;
    syncAlways?: boolean;
    /** Of a cluster: which it is, and the ports of all. */
    cluster?: { readonly index: number; readonly ports: readonly number[] };
  } = {},
): Promise<NatsServer> {
  const command = await obtainProgram();
  servers += 1;
  const directory = path.join(scope.directory, `nats-${servers}`);
  mkdirSync(directory);
  const port = await findFreePort();
  const mqttPort = options.mqtt === true ? await findFreePort() : 0;
  const monitoringPort = await findFreePort();
  const config = path.join(directory, 'nats.conf');
  writeFileSync(
    config,
    [
      `listen: "127.0.0.1:${port}"`,
      `http: "127.0.0.1:${monitoringPort}"`,
      `server_name: "bench${options.cluster?.index ?? ''}"`,
      `jetstream { store_dir: ${JSON.stringify(path.join(directory, 'store'))}${options.syncAlways === true ? ', sync_interval: always' : ''} }`,
      ...describeCluster(options.cluster),
      ...(mqttPort === 0 ? [] : [`mqtt { listen: "127.0.0.1:${mqttPort}" }`]),
    ].join('\n'),
  );
  const start = async () => {
    const started = startChild(command, ['-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    await waitForOutput(
      started,
      'stderr',
      (text) => text.includes('Server is ready') || undefined,
      'nats-server',
    );
    return started;
  };
  let child = await start();
  const stop = scope.add(async () => {
    await stopChild(child);
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    url: `nats://127.0.0.1:${port}`,
    get pid() {
      return child.pid as number;
    },
    mqttPort,
    monitoringUrl: `http://127.0.0.1:${monitoringPort}`,
    async restart(signal) {
      const ended = once(child, 'exit');
      child.kill(signal);
      await ended;
      const fromMs = performance.now();
      child = await start();
      return performance.now() - fromMs;
    },
    stop,
  };
}

function describeCluster(cluster: { index: number; ports: readonly number[] } | undefined): string[] {
  if (cluster === undefined) return [];
  const { index, ports } = cluster;
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
  return [`cluster { name: bench, listen: "127.0.0.1:${ports[index]}", routes: [${routes}] }`];
}

/** Three servers in a cluster, each of which syncs before it answers. */
export async function startNatsCluster(scope: Scope): Promise<NatsServer[]> {
  const ports = [await findFreePort(), await findFreePort(), await findFreePort()];
  return await Promise.all(
    ports.map((_port, index) => startNats(scope, { syncAlways: true, cluster: { index, ports } })),
  );
}

export async function withNats<T>(url: string, work: (connection: NatsConnection) => Promise<T>): Promise<T> {
  const connection = await connect({ servers: url });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

const clusterReadyWithinMs = 60_000;

/** The stream RAW as the gateway creates it; in a cluster as soon as that can. */
export async function createRawStream(
  url: string,
  { replicas = 1, batches = false }: { replicas?: 1 | 3; batches?: boolean } = {},
): Promise<void> {
  await withNats(url, async (connection) => {
    const endMs = performance.now() + clusterReadyWithinMs;
    for (;;) {
      try {
        await addRawStream(connection, replicas, batches);
        return;
      } catch (error) {
        if (replicas === 1 || performance.now() > endMs) throw error;
        await delay(250);
      }
    }
  });
}

async function addRawStream(connection: NatsConnection, replicas: 1 | 3, batches: boolean): Promise<void> {
  const manager = await connection.jetstreamManager({ timeout: 5_000 });
  await manager.streams.add({
    num_replicas: replicas,
    ...(batches ? { allow_atomic: true } : {}),
    name: 'RAW',
    subjects: ['raw.>'],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
  });
}

/** One whose messages every server of it may be asked for. */
export async function createDirectStream(url: string, config: Partial<StreamConfig>): Promise<void> {
  await withNats(url, async (connection) => {
    const manager = await connection.jetstreamManager({ timeout: 5_000 });
    await manager.streams.add({ ...config, storage: StorageType.File, allow_direct: true });
  });
}

/** How to reach what `createRawStream` made. */
export function rawStreamOf(server: NatsServer): NatsAccess {
  const { url, monitoringUrl, restart } = server;
  return {
    url,
    get pid() {
      return server.pid;
    },
    monitoringUrl,
    stream: 'RAW',
    subjectOf: (id) => `raw.${id}`,
    restart,
  };
}

/** Messages that the server has received from all its clients. */
export async function readReceivedMessages(monitoringUrl: string): Promise<number> {
  const response = await fetch(`${monitoringUrl}/varz`, { signal: AbortSignal.timeout(10_000) });
  return ((await response.json()) as { in_msgs: number }).in_msgs;
}

async function readStreamState(url: string, stream: string): Promise<StreamState> {
  return await withNats(url, async (connection) => {
    const manager = await connection.jetstreamManager({ checkAPI: false, timeout: 30_000 });
    return (await manager.streams.info(stream)).state;
  });
}

export async function readStreamMessages(url: string, stream: string): Promise<number> {
  return (await readStreamState(url, stream)).messages;
}

/** All messages that it ever had. */
export async function readLastSequence(url: string, stream: string): Promise<number> {
  return (await readStreamState(url, stream)).last_seq;
}

/** What JetStream says that it uses, bytes. */
export async function readStorageBytes(monitoringUrl: string): Promise<number> {
  const response = await fetch(`${monitoringUrl}/jsz`, { signal: AbortSignal.timeout(30_000) });
  return ((await response.json()) as { storage: number }).storage;
}
