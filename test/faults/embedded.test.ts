import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { copyEmbedded } from '../support/embedded-template.js';
import { freePort } from '../support/free-port.js';
import {
  type Credentials,
  numbersByClient,
  type Publisher,
  readStored,
  startPublisher,
} from '../support/load.js';
import { inCi } from '../support/rounds.js';
import { launchServer, type ServerProcess, startServerProcess } from '../support/server-process.js';
import { addDevices, type OnFinished, tryConnect, until } from './gateway.js';
import { processesOf } from './processes.js';

/** A server with embedded PGlite and nats-server, as `npm start` runs it, with load on it. */
interface Embedded {
  readonly dataDir: string;
  readonly natsUrl: string;
  readonly server: ServerProcess;
  readonly devices: readonly Credentials[];
  readonly publishers: readonly Publisher[];
  /** Starts it again on the same data and ports. */
  restart(): Promise<void>;
}

/** An empty data directory, and the settings of a server in it; whatever runs there ends with the test. */
async function openDataDir(
  onFinished: OnFinished,
): Promise<{ dataDir: string; natsPort: number; env: Record<string, string> }> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'svc mqtt embedded-'));
  onFinished(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }));
  onFinished(async () => {
    for (const pid of await processesOf(dataDir)) kill(pid);
    await until('every process is gone', async () => (await processesOf(dataDir)).length === 0);
  });
  const natsPort = await freePort();
  return { dataDir, natsPort, env: { DATA_DIR: dataDir, EMBEDDED_NATS_PORT: String(natsPort) } };
}

async function startEmbedded(onFinished: OnFinished): Promise<Embedded> {
  const { dataDir, natsPort, env: given } = await openDataDir(onFinished);
  await copyEmbedded(dataDir);
  let env = given;
  let server = await startServerProcess(env, { group: true });
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  env = { ...env, MQTT_PORT: String(server.mqttPort), LISTEN_ADDR: `127.0.0.1:${server.httpPort}` };
  const devices = await addDevices(server.httpPort, 5);
  const publishers = devices.map((device) =>
    startPublisher({ port: () => server.mqttPort, device, qos: 1, count: Number.POSITIVE_INFINITY }),
  );
  onFinished(() => {
    for (const publisher of publishers) publisher.destroy();
  });
  await until('the load runs', () => total(publishers) > inCi(2_000, 500));
  return {
    dataDir,
    natsUrl: `nats://127.0.0.1:${natsPort}`,
    get server() {
      return server;
    },
    devices,
    publishers,
    async restart() {
      server = await startServerProcess(env, { group: true });
    },
  };
}

const total = (publishers: readonly Publisher[]) =>
  publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}

/** The load goes on to its end, and everything is there. */
async function expectNothingLost({ publishers, natsUrl, devices, server }: Embedded): Promise<void> {
  const before = total(publishers);
  await until('messages are acknowledged again', () => total(publishers) > before + 500);
  for (const publisher of publishers) publisher.finish();
  await Promise.all(publishers.map(({ done }) => done));
  const numbers = numbersByClient(
    await readStored(natsUrl),
    publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
  );
  for (const { clientId, sent } of publishers)
    expect(numbers.get(clientId)?.firsts).toEqual(Array.from({ length: sent }, (_, number) => number));
  for (const device of devices) expect(await tryConnect(server.mqttPort, device)).toBe(0);
  await until('all is well', async () => (await server.readiness()).status === 200);
}

/** An orderly end leaves no process of the data directory. */
async function expectCleanEnd({ server, dataDir }: Pick<Embedded, 'server' | 'dataDir'>): Promise<void> {
  expect(await server.end('SIGTERM')).toBe(0);
  expect(await processesOf(dataDir)).toEqual([]);
}

describe('the embedded database and NATS server', { timeout: 300_000 }, () => {
  test('Ctrl-C, which reaches the whole process group: orderly, no process left, all there at the next start', async ({
    onTestFinished,
  }) => {
    const embedded = await startEmbedded(onTestFinished);
    const { server } = embedded;
    process.kill(-server.pid, 'SIGINT');
    expect(await server.ended).toBe(0);
    expect([server.count('serve_stopped'), server.count('drain_incomplete')]).toEqual([1, 0]);
    expect(await processesOf(embedded.dataDir)).toEqual([]);
    await embedded.restart();
    await expectNothingLost(embedded);
    await expectCleanEnd(embedded);
  });

  test('the server killed, twice: the next start finds what was left running, and everything is there', async ({
    onTestFinished,
  }) => {
    const embedded = await startEmbedded(onTestFinished);
    for (let time = 0; time < 2; time += 1) {
      await embedded.server.end('SIGKILL');
      await embedded.restart();
      const before = total(embedded.publishers);
      await until('messages are acknowledged', () => total(embedded.publishers) > before + 500);
    }
    await expectNothingLost(embedded);
    await expectCleanEnd(embedded);
  });

  test('says in /readyz that what it acknowledges is on the disk', async ({ onTestFinished }) => {
    const { env } = await openDataDir(onTestFinished);
    const server = await startServerProcess({ ...env, ACK_LEVEL: 'synced' }, { group: true });
    onTestFinished(async () => {
      await server.end('SIGKILL');
    });
    const answer = await fetch(`http://127.0.0.1:${server.httpPort}/readyz`);
    const { storage } = (await answer.json()) as { storage: unknown };
    expect(storage).toEqual({
      status: 'ok',
      detail:
        'synced: on 1 server, synced to disk before the answer (the embedded NATS server has sync_interval: always)',
    });
  });

  test('every process killed at once, as when a container ends: everything is there', async ({
    onTestFinished,
  }) => {
    const embedded = await startEmbedded(onTestFinished);
    const others = await processesOf(embedded.dataDir);
    expect(others.length).toBeGreaterThanOrEqual(2);
    for (const pid of [embedded.server.pid, ...others]) kill(pid);
    await embedded.server.ended;
    await until('they are gone', async () => (await processesOf(embedded.dataDir)).length === 0);
    await embedded.restart();
    await expectNothingLost(embedded);
    await expectCleanEnd(embedded);
  });

  test('the database process and nats-server killed under a server that goes on: both come back', async ({
    onTestFinished,
  }) => {
    const embedded = await startEmbedded(onTestFinished);
    const { server, dataDir, publishers } = embedded;
    for (const pid of await processesOf(dataDir)) kill(pid);
    await until('readiness tells it', async () => (await server.readiness()).status === 503);
    await until('all is well again', async () => (await server.readiness()).status === 200);
    await expectNothingLost(embedded);
    expect(publishers.map(({ disconnects }) => disconnects)).toEqual(publishers.map(() => 0));
    await expectCleanEnd(embedded);
  });

  test('the server killed while it creates its database: the next start creates it anew', async ({
    onTestFinished,
  }) => {
    const { dataDir, env } = await openDataDir(onTestFinished);
    const first = launchServer(env, { group: true });
    onTestFinished(() => first.signal('SIGKILL'));
    await first.waitFor('embedded_database_creating');
    for (const pid of [first.pid, ...(await processesOf(dataDir))]) kill(pid);
    await until('they are gone', async () => (await processesOf(dataDir)).length === 0);
    const server = await startServerProcess(env, { group: true });
    const [device] = await addDevices(server.httpPort, 1);
    expect(device === undefined ? undefined : await tryConnect(server.mqttPort, device)).toBe(0);
    await expectCleanEnd({ server, dataDir });
  });

  test('a signal while the server creates its database ends it in order, with nothing left running', async ({
    onTestFinished,
  }) => {
    const { dataDir, env } = await openDataDir(onTestFinished);
    const server = launchServer(env, { group: true });
    onTestFinished(() => server.signal('SIGKILL'));
    await server.waitFor('embedded_database_creating');
    process.kill(-server.pid, 'SIGINT');
    expect(await server.ended).toBe(0);
    expect(await processesOf(dataDir)).toEqual([]);
  });

  test.for([false, true])(
    'a signal while the process of the database hangs, its files begun: %o, ends the server',
    async (begun, { onTestFinished }) => {
      const { dataDir, env } = await openDataDir(onTestFinished);
      const server = launchServer(env, { group: true });
      onTestFinished(() => server.signal('SIGKILL'));
      if (begun) await server.waitFor('embedded_database_creating');
      await until('its process is there', async () => (await processesOf(`${dataDir}/database`)).length > 0);
      for (const pid of await processesOf(`${dataDir}/database`)) process.kill(pid, 'SIGSTOP');
      await delay(2_000);
      expect(server.log.some(({ event }) => event === 'schema_migrated')).toBe(false);
      server.signal('SIGTERM');
      expect(await Promise.race([server.ended, delay(30_000, 'in vain')])).toBe(0);
      expect(await processesOf(dataDir)).toEqual([]);
    },
  );

  test('a signal while the server gets its nats-server ends it, with nothing left running', async ({
    onTestFinished,
  }) => {
    const { dataDir, env } = await openDataDir(onTestFinished);
    await copyEmbedded(dataDir);
    // It takes the request and says nothing.
    const mirror = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    onTestFinished(() => void mirror.close());
    await once(mirror, 'listening');
    const { port } = mirror.address() as AddressInfo;
    const server = launchServer(
      {
        ...env,
        NATS_SERVER_BIN: '',
        NATS_SERVER_DOWNLOAD_URL: `http://127.0.0.1:${port}`,
        PATH: path.dirname(process.execPath),
        HOME: path.join(dataDir, 'home'),
        XDG_CACHE_HOME: path.join(dataDir, 'cache'),
      },
      { group: true },
    );
    onTestFinished(() => server.signal('SIGKILL'));
    await once(mirror, 'connection');
    server.signal('SIGTERM');
    expect(await Promise.race([server.ended, delay(10_000, 'in vain')])).toBe(0);
    expect(await processesOf(dataDir)).toEqual([]);
  });
});
