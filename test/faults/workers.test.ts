import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectNats } from 'nats';
import { expect, test } from 'vitest';
import { call } from '../http/support.js';
import { copyEmbedded } from '../support/embedded-template.js';
import { freePort } from '../support/free-port.js';
import { numbersByClient, type Publisher, readStored, startPublisher } from '../support/load.js';
import { startNatsServer } from '../support/nats-server.js';
import type { RawClient } from '../support/raw-client.js';
import { inCi } from '../support/rounds.js';
import {
  type LaunchedServer,
  launchServer,
  type ServerProcess,
  startServerProcess,
} from '../support/server-process.js';
import { nextCommand, numbers, openSubscriber, subscribeToCommands } from './command-client.js';
import {
  addDevices,
  connected,
  type Gateway,
  isAlive,
  type OnFinished,
  openDatabase,
  publishAndWait,
  startGateway,
  tryConnect,
  until,
} from './gateway.js';
import { processesOf } from './processes.js';

const workers = 2;
const env = { WORKERS: String(workers) };
const clients = 10;
const perClient = inCi(2_000, 400);

const total = (publishers: readonly Publisher[]) =>
  publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);

/** The process of a worker of now. */
function pidOf({ log }: Pick<LaunchedServer, 'log'>, worker: number): number {
  return log.findLast((line) => line.event === 'worker_started' && line.worker === worker)?.pid as number;
}

const pidsOf = (server: Pick<LaunchedServer, 'log'>) => [1, 2].map((worker) => pidOf(server, worker));

async function startWorkers(
  onFinished: OnFinished,
  options: Parameters<typeof startGateway>[1] = {},
): Promise<Gateway> {
  const gateway = await startGateway(onFinished, { ...options, env: { ...env, ...options.env } });
  onFinished(() => expectAllGone(pidsOf(gateway.server)));
  onFinished(async () => {
    await gateway.server.end('SIGKILL');
  });
  return gateway;
}

function expectAllGone(pids: readonly number[]): Promise<void> {
  return until('every worker is gone', async () => {
    const alive = await Promise.all(pids.map(isAlive));
    return !alive.includes(true);
  });
}

/** What `/readyz` says of the listeners; empty when the worker that answers has just died. */
async function listenersDetail({ httpPort }: ServerProcess): Promise<string> {
  const answer = await call(httpPort, 'GET', '/readyz').catch(() => undefined);
  return answer?.json<{ listeners: { detail: string } }>().listeners.detail ?? '';
}

/** Connections of each worker; undefined when the one that answers has just died. */
async function countConnections({ httpPort }: ServerProcess): Promise<Record<string, number> | undefined> {
  const answer = await call(httpPort, 'GET', '/metrics').catch(() => undefined);
  if (answer === undefined) return undefined;
  expect(answer.text.match(/^# TYPE svc_mqtt_connections gauge$/gm)).toHaveLength(1);
  return Object.fromEntries(
    [...answer.text.matchAll(/^svc_mqtt_connections\{transport="tcp",worker="([12])"\} (\d+)$/gm)].map(
      ([, worker, count]) => [worker, Number(count)],
    ),
  );
}

test.for([1, 2] as const)(
  'a worker killed again and again under messages of QoS %i: whatever was acknowledged is stored, in order, and it comes back',
  { timeout: 300_000 },
  async (qos, { onTestFinished }) => {
    const gateway = await startWorkers(onTestFinished);
    const { server } = gateway;
    const devices = await addDevices(server.httpPort, clients);
    const publishers = devices.map((device) =>
      startPublisher({ port: () => server.mqttPort, device, qos, count: perClient, window: 50 }),
    );
    onTestFinished(() => {
      for (const publisher of publishers) publisher.destroy();
    });
    const kills = inCi(6, 3);
    for (let kill = 0; kill < kills; kill += 1) {
      const at = Math.round(((kill + 0.5) * 0.8 * clients * perClient) / kills);
      await until(`${at} messages are acknowledged`, () => total(publishers) >= at);
      const victim = 1 + (kill % workers);
      const ready = () => server.log.filter((l) => l.event === 'worker_ready' && l.worker === victim).length;
      const before = ready();
      process.kill(pidOf(server, victim), 'SIGKILL');
      await until('the other takes all clients', async () => {
        const some = devices[0];
        return some !== undefined && (await tryConnect(server.mqttPort, some).catch(() => undefined)) === 0;
      });
      await until('the dead one is back', () => ready() > before);
    }
    await Promise.all(publishers.map(({ done }) => done));
    expect(server.count('worker_ended')).toBe(kills);
    const present = numbersByClient(
      await readStored(gateway.nats.url),
      publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
    );
    const expected = Array.from({ length: perClient }, (_, number) => number);
    for (const { clientId, acknowledged } of publishers) {
      expect(acknowledged.size).toBe(perClient);
      expect(present.get(clientId)?.firsts).toEqual(expected);
    }
    await until('both are ready', async () => (await listenersDetail(server)).endsWith('2 of 2 workers'));
    expect(await server.end('SIGTERM')).toBe(0);
  },
);

test('a connection of one worker outlives the death of the other, and /metrics has the series of both', async ({
  onTestFinished,
}) => {
  const { server } = await startWorkers(onTestFinished);
  const devices = await addDevices(server.httpPort, 30);
  const open: RawClient[] = [];
  // Whoever has time accepts: the one that stands still takes none.
  for (const [from, to, still] of [
    [0, 10, 1],
    [10, 30, 2],
  ] as const) {
    const pid = pidOf(server, still);
    process.kill(pid, 'SIGSTOP');
    try {
      for (const device of devices.slice(from, to))
        open.push(await connected(onTestFinished, server.mqttPort, device, { clientId: device.id }));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }
  const connections = () => countConnections(server);
  const [first, second] = [20, 10];
  await until('each has told of its own', async () => {
    const now = await connections();
    return now?.[1] === first && now[2] === second;
  });

  process.kill(pidOf(server, 1), 'SIGKILL');
  await until('the dead one is back without its connections', async () => {
    const now = await connections();
    return now?.[1] === 0 && now[2] === second;
  });
  await until(
    'its clients have lost their connection',
    () => open.filter(({ closed }) => closed).length === first,
  );
  const survivors = open.filter(({ closed }) => !closed);
  for (const client of survivors) {
    const device = devices[open.indexOf(client)];
    if (device !== undefined) await publishAndWait(client, device, 'still here');
  }
});

test('a session goes on with the other worker when its own is killed: every command reaches it, in order', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startWorkers(onTestFinished);
  const [device] = await addDevices(server.httpPort, 1);
  if (device === undefined) throw new Error('no device');
  const observer = await connectNats({ servers: nats.url });
  onTestFinished(() => observer.close());
  const open = () => openSubscriber(onTestFinished, server.mqttPort, device);
  let { client } = await open();
  await subscribeToCommands(client, device);
  const each = 100;
  let seen = 0;
  const takeUpTo = async (last: number) => {
    while (seen < last) {
      const { payload, dup } = await nextCommand(client);
      // What was acknowledged a moment before the death may come again, and says so.
      if (Number(payload) <= seen) expect(dup).toBe(true);
      else expect(Number(payload)).toBe(++seen);
    }
  };
  for (let round = 0; round < inCi(4, 2); round += 1) {
    const stream = observer.jetstream();
    for (const payload of numbers(each, 1 + round * each))
      await stream.publish(`cmd.${device.id}.go`, payload);
    await takeUpTo(round * each + each / 2);
    await until('both are ready', async () => (await listenersDetail(server)).endsWith('2 of 2 workers'));
    let holder: string | undefined;
    await until('it is known who has the client', async () => {
      const counts = (await countConnections(server)) ?? {};
      [holder] = Object.keys(counts).filter((worker) => counts[worker] === 1);
      return holder !== undefined;
    });
    process.kill(pidOf(server, Number(holder)), 'SIGKILL');
    await client.waitClosed();
    const back = await open();
    expect(back.sessionPresent).toBe(true);
    client = back.client;
    await takeUpTo((round + 1) * each);
  }
});

test('a connection is shown and ended whichever worker has it', async ({ onTestFinished }) => {
  const { server } = await startWorkers(onTestFinished);
  const devices = await addDevices(server.httpPort, 20);
  const clients = await Promise.all(
    devices.map((device) => connected(onTestFinished, server.mqttPort, device, { clientId: device.id })),
  );
  const ids = new Set<string>();
  await until('every worker has listed its own', async () => {
    const { status, ...page } = await call(server.httpPort, 'GET', '/connections');
    expect(status).toBe(200);
    for (const { id } of page.json<{ connections: { id: string }[] }>().connections) ids.add(id);
    return ids.size === devices.length;
  });
  for (const id of ids) {
    expect((await call(server.httpPort, 'GET', `/connections/${id}`)).status).toBe(200);
    expect((await call(server.httpPort, 'DELETE', `/connections/${id}`)).status).toBe(204);
  }
  await Promise.all(clients.map((client) => client.waitClosed()));
  expect((await call(server.httpPort, 'DELETE', `/connections/${[...ids][0]}`)).status).toBe(404);
});

test('SIGTERM to one worker drains it, and another takes its place; a second signal to the server ends all at once', async ({
  onTestFinished,
}) => {
  const { server } = await startWorkers(onTestFinished);
  const old = pidOf(server, 2);
  process.kill(old, 'SIGTERM');
  await server.waitFor('worker_ended', ({ worker, status }) => worker === 2 && status === 0);
  await until('there is another', () => pidOf(server, 2) !== old);
  await until('it is ready', async () => (await listenersDetail(server)).endsWith('2 of 2 workers'));

  const pids = pidsOf(server);
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  server.signal('SIGTERM');
  await server.waitFor('serve_stopping');
  server.signal('SIGTERM');
  await until('the server has ended', async () => !(await isAlive(server.pid)));
  for (const pid of pids) process.kill(pid, 'SIGCONT');
  expect(await server.ended).toBe(143);
  await expectAllGone(pids);
});

test('SIGTERM as soon as the workers are there ends the server at once', async ({ onTestFinished }) => {
  const nats = await startNatsServer();
  onTestFinished(() => nats.stop());
  const settings = { DATABASE_URL: await openDatabase(onTestFinished), NATS_URL: nats.url, ...env };
  for (const waitMs of [0, 100, 300]) {
    const server = launchServer(settings);
    onTestFinished(() => server.signal('SIGKILL'));
    await server.waitFor('worker_started', ({ worker }) => worker === workers);
    await delay(waitMs);
    const startMs = performance.now();
    server.signal('SIGTERM');
    expect(await server.ended).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(20_000);
    await expectAllGone(pidsOf(server));
  }
});

test('a worker that hangs is killed, and another takes its place', async ({ onTestFinished }) => {
  const { server } = await startWorkers(onTestFinished);
  const hung = pidOf(server, 1);
  process.kill(hung, 'SIGSTOP');
  await until('another takes its place', () => server.count('worker_ready') === workers + 1, 90_000);
  expect(server.log.filter(({ event }) => event === 'worker_ended')).toEqual([
    expect.objectContaining({ worker: 1, pid: hung, signal: 'SIGKILL' }),
  ]);
  expect(server.count('worker_hangs')).toBe(1);
  expect(await server.end('SIGTERM')).toBe(0);
});

test('the process that started them killed: no worker is left', async ({ onTestFinished }) => {
  const { server } = await startWorkers(onTestFinished);
  const pids = pidsOf(server);
  await server.end('SIGKILL');
  await expectAllGone(pids);
});

test('the embedded database and NATS server run once for all workers, come back when they die, and end with them', async ({
  onTestFinished,
}) => {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-workers-'));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }));
  const end = (pid: number) => process.kill(pid, 'SIGKILL');
  onTestFinished(async () => (await processesOf(dataDir)).forEach(end));
  await copyEmbedded(dataDir);
  const natsPort = String(await freePort());
  const server = await startServerProcess({ ...env, DATA_DIR: dataDir, EMBEDDED_NATS_PORT: natsPort });
  onTestFinished(async () => {
    await server.end('SIGKILL');
  });
  const devices = await addDevices(server.httpPort, 8);
  const publishers = devices.map((device) =>
    startPublisher({ port: () => server.mqttPort, device, qos: 1, count: Number.POSITIVE_INFINITY }),
  );
  onTestFinished(() => {
    for (const publisher of publishers) publisher.destroy();
  });
  await until('the load runs', () => total(publishers) > 500);
  const embedded = await processesOf(dataDir);
  expect(embedded).toHaveLength(2);
  embedded.forEach(end);
  end(pidOf(server, 2));
  await until('NATS is back', () => server.count('nats_server_ended') === 1);
  const before = total(publishers);
  await until('messages are stored again', () => total(publishers) > before + 500);
  await until('both are ready', async () => (await listenersDetail(server)).endsWith('2 of 2 workers'));
  for (const publisher of publishers) publisher.finish();
  await Promise.all(publishers.map(({ done }) => done));
  const present = numbersByClient(
    await readStored(`nats://127.0.0.1:${natsPort}`),
    publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
  );
  for (const { clientId, sent } of publishers)
    expect(present.get(clientId)?.firsts).toEqual(Array.from({ length: sent }, (_, number) => number));
  expect(await processesOf(dataDir)).toHaveLength(2);
  expect(await server.end('SIGTERM')).toBe(0);
  expect(await processesOf(dataDir)).toEqual([]);
});

test('a worker that ends at once again and again ends the server with a clear line', async ({
  onTestFinished,
}) => {
  const { server } = await startWorkers(onTestFinished);
  const killed = new Set<number>();
  const hunting = setInterval(() => {
    const pid = pidOf(server, 1);
    if (killed.has(pid)) return;
    killed.add(pid);
    process.kill(pid, 'SIGKILL');
  }, 5);
  onTestFinished(() => clearInterval(hunting));
  expect(await server.ended).toBe(1);
  expect(server.stderr.at(-1)).toBe(
    'svc-mqtt: Worker 1 ended 5 times at once, the last time before it was ready. The log says why',
  );
  expect(server.count('serve_stopped')).toBe(1);
});

test('what keeps one replica from starting is told once, with its exit status', async ({
  onTestFinished,
}) => {
  const databaseUrl = await openDatabase(onTestFinished);
  const natsUrl = `nats://127.0.0.1:${await freePort()}`;
  const start = async (more: Record<string, string>) => {
    const server = launchServer({
      DATABASE_URL: databaseUrl,
      NATS_URL: natsUrl,
      START_WAIT: '0',
      ...env,
      ...more,
    });
    onTestFinished(() => server.signal('SIGKILL'));
    return {
      status: await server.ended,
      last: server.stderr.filter((line) => line.startsWith('svc-mqtt:')),
      server,
    };
  };
  const away = await start({});
  expect(away.status).toBe(1);
  expect(away.last).toHaveLength(1);
  expect(away.last[0]).toContain('NATS');

  const taken = createServer();
  onTestFinished(() => void taken.close());
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as { port: number };
  const noPort = await start({ MQTT_PORT: String(port) });
  expect(noPort.status).toBe(1);
  expect(noPort.last).toEqual([expect.stringContaining(`port ${port}: another program listens there`)]);
  expect(noPort.server.log.some(({ event }) => event === 'worker_started')).toBe(false);

  expect((await start({ WORKERS: '65' })).status).toBe(2);
  expect((await start({ WORKERS: '0' })).status).toBe(2);
});
