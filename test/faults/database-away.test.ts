import { beforeAll, expect, test } from 'vitest';
import { readStored } from '../support/load.js';
import { createDatabase, startPostgres, type TestPostgres, withClient } from '../support/postgres.js';
import { inCi } from '../support/rounds.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import {
  addDevice,
  addDevices,
  connected,
  type Gateway,
  publishAndWait,
  startGateway,
  tryConnect,
  until,
} from './gateway.js';

/** The promise is 5 s; beyond this the test does not wait. */
const backWithinMs = 15_000;

const later = undoAfterAll();
let postgres: TestPostgres;
let databaseUrl: string;
let gateway: Gateway;

beforeAll(async () => {
  postgres = await startPostgres();
  later(() => postgres.stop());
  databaseUrl = await createDatabase(postgres.url);
  gateway = await startGateway(later, { databaseUrl });
});

const absences = [
  { how: 'killed', leave: () => postgres.halt('kill'), come: () => postgres.start() },
  { how: 'frozen', leave: () => postgres.pause(), come: () => postgres.resume() },
  { how: 'ended', leave: () => postgres.halt(), come: () => postgres.start() },
];

test.for(absences.slice(0, inCi(3, 2)))(
  'PostgreSQL $how: known devices work on, unknown ones are told to come back, and its return mends everything',
  async ({ how, leave, come }, { onTestFinished }) => {
    const { server } = gateway;
    const port = server.mqttPort;
    const connect = (device: { id: string; password: string }) => connected(onTestFinished, port, device);
    const ready = async () => (await server.readiness()).status;
    const [live, seen, revoked, unseen, revokedMeanwhile, deletedMeanwhile, ...more] = await addDevices(
      server.httpPort,
      7,
    );
    const [alsoSeen] = more;
    if (!live || !seen || !revoked || !unseen || !revokedMeanwhile || !deletedMeanwhile || !alsoSeen)
      throw new Error('no devices');
    const liveClient = await connect(live);
    const revokedMeanwhileClient = await connect(revokedMeanwhile);
    const deletedMeanwhileClient = await connect(deletedMeanwhile);
    const revokedClient = await connect(revoked);
    for (const device of [seen, alsoSeen]) expect(await tryConnect(port, device)).toBe(0);
    await withClient(databaseUrl, (client) =>
      client.query('update devices set revoked_at = now() where id = $1', [revoked.id]),
    );
    await revokedClient.waitClosed();
    expect(await tryConnect(port, revoked)).toBe(5);
    expect(await ready()).toBe(200);

    // What fails here must not take those that follow with it.
    onTestFinished(() => postgres.resume());
    await leave();
    // At once, before the server can have noticed.
    expect(await tryConnect(port, seen)).toBe(0);
    expect(await tryConnect(port, revoked)).toBe(5);
    await publishAndWait(liveClient, live, `at once, ${how}`, 1);
    expect(await tryConnect(port, unseen)).toBe(3);
    await until('readiness tells it', async () => (await ready()) === 503);
    expect(await server.readiness()).toMatchObject({ database: 'failed', nats: 'ok', listeners: 'ok' });

    for (const device of [seen, alsoSeen]) expect(await tryConnect(port, device)).toBe(0);
    expect(await tryConnect(port, { ...seen, password: 'wrong' })).toBe(4);
    expect(await tryConnect(port, revoked)).toBe(5);
    expect(await tryConnect(port, unseen)).toBe(3);
    expect(await tryConnect(port, { id: 'nobody', password: 'x' })).toBe(3);
    await publishAndWait(liveClient, live, `while away, ${how}`, 2);
    const refused = await fetch(`http://127.0.0.1:${server.httpPort}/devices`, {
      method: 'POST',
      body: '{"type":"sensor"}',
    });
    expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'DATABASE_UNREACHABLE' }]);
    expect((await fetch(`http://127.0.0.1:${server.httpPort}/healthz`)).status).toBe(200);
    expect([revokedMeanwhileClient.closed, deletedMeanwhileClient.closed]).toEqual([false, false]);

    // The server stands still while others find the database back and change it: it cannot hear their notifications.
    server.signal('SIGSTOP');
    try {
      await come();
      await withClient(databaseUrl, async (client) => {
        await client.query('update devices set revoked_at = now() where id = $1', [revokedMeanwhile.id]);
        await client.query('delete from devices where id = $1', [deletedMeanwhile.id]);
      });
    } finally {
      server.signal('SIGCONT');
    }
    await until(
      'a device never seen connects',
      async () => (await tryConnect(port, unseen)) === 0,
      backWithinMs,
    );
    await revokedMeanwhileClient.waitClosed(backWithinMs);
    await deletedMeanwhileClient.waitClosed(backWithinMs);
    expect(await tryConnect(port, revokedMeanwhile)).toBe(5);
    expect(await tryConnect(port, deletedMeanwhile)).toBe(4);
    await until('readiness tells it', async () => (await ready()) === 200, backWithinMs);
    await publishAndWait(liveClient, live, `after, ${how}`, 3);
    expect(liveClient.closed).toBe(false);

    const stored = (await readStored(gateway.nats.url)).filter(({ subject }) => subject === `raw.${live.id}`);
    expect(stored.map(({ payload }) => payload)).toEqual([
      `at once, ${how}`,
      `while away, ${how}`,
      `after, ${how}`,
    ]);
    expect(server.count('connection_failed')).toBe(0);
  },
);

test('a CONNECT right after a restart waits for a database that does not answer for a while', async ({
  onTestFinished,
}) => {
  const own = await startGateway((undo) => onTestFinished(undo), {
    databaseUrl,
    env: { DATABASE_TIMEOUT_MS: '2000', CONNECT_TIMEOUT_SEC: '120' },
  });
  const [first, second] = await addDevices(own.server.httpPort, 2);
  if (!first || !second) throw new Error('no devices');
  await own.server.end();
  await own.restart();
  const { server } = own;
  postgres.pause();
  let connecting: Promise<number | undefined>[];
  let refused = 0;
  try {
    connecting = [first, second].map(async (device) => {
      const code = await tryConnect(server.mqttPort, device);
      if (code !== 0) refused += 1;
      return code;
    });
    await server.waitFor('database_away');
    expect(refused).toBe(0);
  } finally {
    postgres.resume();
  }
  expect(await Promise.all(connecting)).toEqual([0, 0]);
});

test('a fleet that reconnects while PostgreSQL is away gets in, and the log is not flooded', async ({
  onTestFinished,
}) => {
  const { server } = gateway;
  const devices = await addDevices(server.httpPort, 100);
  for (const device of devices) expect(await tryConnect(server.mqttPort, device)).toBe(0);
  await postgres.halt();
  onTestFinished(async () => {
    await postgres.start();
  });
  await until('readiness tells it', async () => (await server.readiness()).database === 'failed');
  const linesBefore = server.log.length;
  for (let round = 0; round < 3; round += 1) {
    const codes = await Promise.all(devices.map((device) => tryConnect(server.mqttPort, device)));
    expect(new Set(codes)).toEqual(new Set([0]));
  }
  const strangers = await Promise.all(
    Array.from({ length: 300 }, (_, n) => tryConnect(server.mqttPort, { id: `nobody${n}`, password: 'x' })),
  );
  expect(new Set(strangers)).toEqual(new Set([3]));
  expect(server.log.length - linesBefore).toBeLessThan(200);
});

test('a database that answers and lets nobody look a device up counts as away, until it does again', async ({
  onTestFinished,
}) => {
  const own = await startGateway((undo) => onTestFinished(undo), {
    databaseUrl,
    env: { DATABASE_TIMEOUT_MS: '500', CONNECT_TIMEOUT_SEC: '2' },
  });
  const device = await addDevice(own.server.httpPort);
  await own.server.end();
  // One that remembers no device has to find out by itself when they can be looked up again.
  await own.restart();
  const { server } = own;
  const database = async () => (await server.readiness()).database;
  const up = async () =>
    /^svc_mqtt_database_up(?:\{.*\})? (\d)/m.exec(
      await (await fetch(`http://127.0.0.1:${server.httpPort}/metrics`)).text(),
    )?.[1];
  await withClient(databaseUrl, async (holder) => {
    await holder.query('begin');
    await holder.query('lock table devices in access exclusive mode');
    expect(await tryConnect(server.mqttPort, device)).toBe(3);
    await until('readiness tells it', async () => (await database()) === 'failed', backWithinMs);
    expect(await up()).toBe('0');
    expect(await server.waitFor('devices_not_readable')).toMatchObject({
      level: 40,
      reason: expect.stringContaining('DATABASE_TIMEOUT_MS'),
    });
    expect(server.count('database_away')).toBe(0);
    await holder.query('rollback');
  });
  await server.waitFor('devices_readable');
  expect([await database(), await up()]).toEqual(['ok', '1']);
  expect(await tryConnect(server.mqttPort, device)).toBe(0);
  expect(server.count('devices_not_readable')).toBe(1);
});
