import { rm } from 'node:fs/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { embeddedDirectory } from '../support/embedded-template.js';
import type { Credentials } from '../support/load.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import type { RawClient } from '../support/raw-client.js';
import { subscribePacket } from '../support/raw-client.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import {
  addDevice,
  connectDevice,
  connected,
  openDatabase,
  publishAndWait,
  tryConnect,
  until,
} from './gateway.js';

/** The promise is about a second; beyond this the test does not wait. */
const withinMs = 30_000;

type Later = (release: () => Promise<void> | void) => void;

/** The replicas on one database, each of which must behave alike. */
const fleets = {
  async 'PostgreSQL, two replicas'(nats: TestNatsServer, later: Later) {
    const env = { DATABASE_URL: await openDatabase(later), NATS_URL: nats.url };
    return await Promise.all([startServerProcess(env), startServerProcess(env)]);
  },
  async 'embedded PGlite'(nats: TestNatsServer, later: Later) {
    const dataDir = await embeddedDirectory();
    later(() => rm(dataDir, { recursive: true, force: true }));
    return [await startServerProcess({ DATA_DIR: dataDir, NATS_URL: nats.url })];
  },
};

// Each has a device of its own, and most of the time goes by waiting.
describe.concurrent.each(Object.keys(fleets) as (keyof typeof fleets)[])('%s', (name) => {
  const later = undoAfterAll();
  let replicas: readonly ServerProcess[] = [];
  beforeAll(async () => {
    const nats = await startNatsServer();
    later(() => nats.stop());
    replicas = await fleets[name](nats, later);
    for (const replica of replicas) {
      later(async () => {
        await replica.end();
      });
    }
  });

  const first = () => {
    const [replica] = replicas;
    if (replica === undefined) throw new Error('no server');
    return replica;
  };
  async function ask(method: string, route: string, body: object = {}): Promise<Record<string, unknown>> {
    const url = `http://127.0.0.1:${first().httpPort}/devices/${route}`;
    const answer = await fetch(url, { method, ...(method === 'GET' ? {} : { body: JSON.stringify(body) }) });
    if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  }
  const rotate = async (device: Credentials, request: object): Promise<Credentials> => {
    const rotated = await ask('POST', `${device.id}/rotate`, request);
    return { id: device.id, password: String(rotated.mqtt_password) };
  };
  const codes = (device: Credentials) =>
    Promise.all(replicas.map((replica) => tryConnect(replica.mqttPort, device)));
  const all = <T>(value: T): T[] => replicas.map(() => value);
  const isOpen = async (client: RawClient, device: Credentials) =>
    publishAndWait(client, device, 'still here');

  test('with a grace both secrets work; then the old one and its connections end, and no others', async ({
    onTestFinished,
  }) => {
    const open = (who: Credentials, clientId: string) =>
      Promise.all(
        replicas.map((replica, index) =>
          connected(onTestFinished, replica.mqttPort, who, { clientId: `${clientId}-${index}` }),
        ),
      );
    /** What has to be done before the grace is over. */
    const rotateAndUseBoth = async (graceSec: number) => {
      const old = await addDevice(first().httpPort);
      const before = await open(old, 'before');
      const renewed = await rotate(old, { grace_seconds: graceSec });
      const during = await open(old, 'during');
      // Another replica hears of it a moment later.
      await until('every replica knows it', async () => (await codes(renewed)).every((code) => code === 0));
      const after = await open(renewed, 'after');
      for (const client of [...before, ...during]) await isOpen(client, old);
      expect(await codes(renewed)).toEqual(all(0));
      return { old, before, renewed, during, after };
    };
    // A machine that is busy needs longer for it.
    const { old, before, renewed, during, after } = await rotateAndUseBoth(10).catch(() =>
      rotateAndUseBoth(60),
    );

    await Promise.all([...before, ...during].map((client) => client.waitClosed(60_000 + withinMs)));
    for (const client of after) await isOpen(client, renewed);
    expect(await codes(old)).toEqual(all(4));
    expect(await codes(renewed)).toEqual(all(0));
    expect(await ask('GET', old.id)).toMatchObject({ previous_secret_until: null });
  });

  test('the session of a connection that ends with the grace waits for the device', async ({
    onTestFinished,
  }) => {
    const old = await addDevice(first().httpPort);
    const session = { clientId: 'kept', clean: false };
    const client = await connected(onTestFinished, first().mqttPort, old, session);
    client.send(subscribePacket(1, [[`cmd/${old.id}/#`, 1]]));
    expect((await client.next()).type).toBe(9);
    const renewed = await rotate(old, { grace_seconds: 1 });
    await client.waitClosed(withinMs);
    const back = await connectDevice(first().mqttPort, renewed, session);
    onTestFinished(() => back.client.destroy());
    expect(back.code).toBe(0);
    expect(back.sessionPresent).toBe(true);
  });

  test('until used: the first login with the new secret ends the old one everywhere', async ({
    onTestFinished,
  }) => {
    const old = await addDevice(first().httpPort);
    const clients = await Promise.all(
      replicas.map((replica, index) =>
        connected(onTestFinished, replica.mqttPort, old, { clientId: `old-${index}` }),
      ),
    );
    await until(
      'the login is written',
      async () => (await ask('GET', old.id)).last_secret_used === 'current',
    );
    const renewed = await rotate(old, { grace_seconds: 86_400, until_used: true });
    expect(await ask('GET', old.id)).toMatchObject({
      last_secret_used: 'previous',
      previous_secret_until_used: true,
    });
    for (const client of clients) await isOpen(client, old);
    expect(await codes(old)).toEqual(all(0));

    const used = await connected(onTestFinished, first().mqttPort, renewed, { clientId: 'new' });
    // The replica that saw it does not wait for the database.
    expect(await tryConnect(first().mqttPort, old)).toBe(4);
    await Promise.all(clients.map((client) => client.waitClosed(withinMs)));
    await until('the old secret is refused everywhere', async () =>
      (await codes(old)).every((code) => code === 4),
    );
    await isOpen(used, renewed);
    await until('the use is shown', async () => (await ask('GET', old.id)).last_secret_used === 'current');
    expect(await ask('GET', old.id)).toMatchObject({
      previous_secret_until: null,
      previous_secret_until_used: false,
    });
  });

  test('without a grace the old secret and its connections end at once', async ({ onTestFinished }) => {
    const old = await addDevice(first().httpPort);
    const clients = await Promise.all(
      replicas.map((replica, index) =>
        connected(onTestFinished, replica.mqttPort, old, { clientId: `c-${index}` }),
      ),
    );
    const renewed = await rotate(old, {});
    await Promise.all(clients.map((client) => client.waitClosed(withinMs)));
    expect(await codes(old)).toEqual(all(4));
    expect(await codes(renewed)).toEqual(all(0));
  });

  test('a device that expires loses its connections, and has them back with another expiry', async ({
    onTestFinished,
  }) => {
    const device = await addDevice(first().httpPort);
    const open = () =>
      Promise.all(
        replicas.map((replica, index) =>
          connected(onTestFinished, replica.mqttPort, device, { clientId: `c-${index}` }),
        ),
      );
    const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1_000).toISOString();
    const clients = await open();
    await ask('PATCH', device.id, { expires_at: inSeconds(3_600) });
    for (const client of clients) await isOpen(client, device);
    const expiresAt = inSeconds(8);
    const closedAtMs = clients.map(async (client) => {
      await client.waitClosed(withinMs);
      return Date.now();
    });
    await ask('PATCH', device.id, { expires_at: expiresAt });
    for (const atMs of await Promise.all(closedAtMs))
      expect(atMs).toBeGreaterThanOrEqual(Date.parse(expiresAt));
    expect(await codes(device)).toEqual(all(5));

    await ask('PATCH', device.id, { expires_at: null });
    await until('it is let in', async () => (await codes(device)).every((code) => code === 0));
    const again = await open();
    for (const client of again) await isOpen(client, device);
  });

  test('a revoked device is let in again once it is enabled', async () => {
    const device = await addDevice(first().httpPort);
    await fetch(`http://127.0.0.1:${first().httpPort}/devices/${device.id}`, { method: 'DELETE' });
    await until('it is refused', async () => (await codes(device)).every((code) => code === 5));
    await ask('POST', `${device.id}/enable`);
    await until('it is let in', async () => (await codes(device)).every((code) => code === 0));
  });
});
