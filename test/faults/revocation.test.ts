import { rm } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/command.js';
import { embeddedDirectory } from '../support/embedded-template.js';
import { type Credentials, numbersByClient, readStored, startPublisher } from '../support/load.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, connected, openDatabase, publishAndWait, tryConnect, until } from './gateway.js';

/** The promise is a second; beyond this the test does not wait. */
const withinMs = 15_000;

/** Ways to take a device's right to connect away. */
const ways = ['the command line', 'the API', 'SQL UPDATE', 'SQL DELETE'] as const;

interface Fleet {
  readonly replicas: readonly ServerProcess[];
  /** Settings by which the command line finds the database. */
  readonly env: Record<string, string>;
  /** How psql would connect. */
  readonly connection: pg.ClientConfig;
}

const databases = {
  async 'PostgreSQL, two replicas'(nats: TestNatsServer, later: Later): Promise<Fleet> {
    const env = { DATABASE_URL: await openDatabase(later), NATS_URL: nats.url };
    const replicas = await Promise.all([startServerProcess(env), startServerProcess(env)]);
    for (const replica of replicas) later(() => endQuietly(replica));
    return { replicas, env, connection: { connectionString: env.DATABASE_URL } };
  },
  async 'embedded PGlite'(nats: TestNatsServer, later: Later): Promise<Fleet> {
    const dataDir = await embeddedDirectory();
    later(() => rm(dataDir, { recursive: true, force: true }));
    const env = { DATA_DIR: dataDir, NATS_URL: nats.url };
    const replica = await startServerProcess(env);
    // In an orderly way, so that the database's process ends too.
    later(async () => {
      await replica.end();
    });
    const connection = { host: path.join(dataDir, 'database'), user: 'postgres', database: 'postgres' };
    return { replicas: [replica], env, connection };
  },
};

type Later = (release: () => Promise<void> | void) => void;

async function endQuietly(replica: ServerProcess): Promise<void> {
  await replica.end();
}

describe.each(Object.keys(databases) as (keyof typeof databases)[])('%s', (name) => {
  const later = undoAfterAll();
  let nats: TestNatsServer;
  let fleet: Fleet;
  beforeAll(async () => {
    nats = await startNatsServer();
    later(() => nats.stop());
    fleet = await databases[name](nats, later);
  });

  async function sql(text: string, id: string): Promise<void> {
    const client = new pg.Client(fleet.connection);
    await client.connect();
    try {
      await client.query(text, [id]);
    } finally {
      await client.end();
    }
  }

  async function takeAway(way: (typeof ways)[number], { id }: Credentials): Promise<void> {
    switch (way) {
      case 'the command line': {
        const { status, stderr } = await runCommand(['device', 'revoke', id, '--yes'], fleet.env);
        if (status !== 0) throw new Error(stderr);
        return;
      }
      case 'the API': {
        const url = `http://127.0.0.1:${fleet.replicas[0]?.httpPort}/devices/${id}`;
        expect((await fetch(url, { method: 'DELETE' })).status).toBe(204);
        return;
      }
      case 'SQL UPDATE':
        return sql('update devices set revoked_at = now() where id = $1', id);
      case 'SQL DELETE':
        return sql('delete from devices where id = $1', id);
    }
  }

  test.for(ways)(
    '%s ends every connection of the device, and its will is not published',
    async (way, { onTestFinished, annotate }) => {
      const [first] = fleet.replicas;
      if (first === undefined) throw new Error('no server');
      const device = await addDevice(first.httpPort);
      const other = await addDevice(first.httpPort);
      const open = (replica: ServerProcess, who: Credentials, clientId: string) =>
        connected(onTestFinished, replica.mqttPort, who, {
          clientId,
          will: { topic: `raw/${who.id}/will`, payload: 'will', qos: 1 },
        });
      const clients = await Promise.all(
        fleet.replicas.flatMap((replica, index) =>
          // A client id has one connection in the fleet.
          ['one', 'two'].map((id) => open(replica, device, `${id}-${index}`)),
        ),
      );
      const others = await Promise.all(
        fleet.replicas.map((replica, index) => open(replica, other, `one-${index}`)),
      );

      const startedMs = performance.now();
      const closed = Promise.all(
        clients.map(async (client) => {
          await client.waitClosed(60_000);
          return performance.now();
        }),
      );
      await takeAway(way, device);
      const commandMs = performance.now() - startedMs;
      const last = Math.max(...(await closed)) - startedMs;
      await annotate(
        `the last connection ended ${Math.round(last)} ms after the beginning of the command, which took ${Math.round(commandMs)} ms`,
      );
      expect(last - commandMs).toBeLessThan(withinMs);

      for (const replica of fleet.replicas)
        expect(await tryConnect(replica.mqttPort, device)).toBe(way === 'SQL DELETE' ? 4 : 5);
      // Wills would have been stored before what is published now.
      for (const [index, client] of others.entries()) await publishAndWait(client, other, `other ${index}`);
      const stored = (await readStored(nats.url)).map(({ subject, payload }) => `${subject} ${payload}`);
      expect(stored).not.toContain(`raw.${device.id} will`);
      for (const index of others.keys()) expect(stored).toContain(`raw.${other.id} other ${index}`);
    },
  );

  test.for([
    ['SQL UPDATE', 'update api_keys set revoked_at = now() where id = $1'],
    ['SQL DELETE', 'delete from api_keys where id = $1'],
  ] as const)('%s of an API key ends its streams of events on every replica', async (way, { annotate }) => {
    const [, statement] = way;
    const make = async (name: string) => {
      const made = await runCommand(
        ['api-key', 'create', '--name', name, '--role', 'viewer', '--json'],
        fleet.env,
      );
      return JSON.parse(made.stdout) as { id: string; key: string };
    };
    // Without another one the API would be open to this machine when the key is deleted.
    await make('other');
    const { id, key } = await make('watcher');
    const ask = (replica: ServerProcess, path: string) =>
      fetch(`http://127.0.0.1:${replica.httpPort}${path}`, { headers: { authorization: `Bearer ${key}` } });
    const streams = await Promise.all(fleet.replicas.map((replica) => ask(replica, '/events')));
    expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200));
    const ended = Promise.all(streams.map((stream) => stream.text().catch(() => undefined)));
    await sql(statement, id);
    const startedMs = performance.now();
    await ended;
    const tookMs = performance.now() - startedMs;
    await annotate(`the last stream ended ${Math.round(tookMs)} ms after the change`);
    expect(tookMs).toBeLessThan(withinMs);
    for (const replica of fleet.replicas) expect((await ask(replica, '/stats')).status).toBe(401);
    await sql('delete from api_keys where id <> $1', '');
    for (const { httpPort } of fleet.replicas) {
      await until('it is open again', async () => (await fetch(`http://127.0.0.1:${httpPort}/stats`)).ok);
    }
  });

  test('another secret, written by SQL, ends the connections; the old secret is of no use any more', async ({
    onTestFinished,
  }) => {
    const [first] = fleet.replicas;
    if (first === undefined) throw new Error('no server');
    const device = await addDevice(first.httpPort);
    const clients = await Promise.all(
      fleet.replicas.map((replica, index) =>
        connected(onTestFinished, replica.mqttPort, device, { clientId: `c-${index}` }),
      ),
    );
    await sql(
      `update devices set secret_salt = decode(repeat('00', 16), 'hex'),
         secret_hash = sha256(decode(repeat('00', 16), 'hex') || convert_to('another', 'UTF8')) where id = $1`,
      device.id,
    );
    await Promise.all(clients.map((client) => client.waitClosed(withinMs)));
    for (const replica of fleet.replicas) {
      expect(await tryConnect(replica.mqttPort, device)).toBe(4);
      expect(await tryConnect(replica.mqttPort, { ...device, password: 'another' })).toBe(0);
    }
  });
});

describe('messages on their way when a device is revoked', () => {
  test('stay unacknowledged or are stored: whatever was acknowledged is there', async ({
    onTestFinished,
  }) => {
    const nats = await startNatsServer();
    onTestFinished(() => nats.stop());
    const fleet = await databases['PostgreSQL, two replicas'](nats, onTestFinished);

    const [replica] = fleet.replicas;
    if (replica === undefined) throw new Error('no server');
    const device = await addDevice(replica.httpPort);
    const publisher = startPublisher({
      port: () => replica.mqttPort,
      device,
      qos: 1,
      count: Number.POSITIVE_INFINITY,
    });
    onTestFinished(() => publisher.destroy());

    await until('the load runs', () => publisher.acknowledged.size > 1_000);
    await fetch(`http://127.0.0.1:${replica.httpPort}/devices/${device.id}`, { method: 'DELETE' });
    await until('it cannot connect any more', () => publisher.refusals.includes(5));
    publisher.destroy();
    const stored = numbersByClient(await readStored(nats.url), [
      { clientId: publisher.clientId, deviceId: device.id },
    ]).get(publisher.clientId);
    const present = new Set(stored?.firsts);
    expect([...publisher.acknowledged].filter((number) => !present.has(number))).toEqual([]);
  });
});
