import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ChangeFeed, startChangeFeed } from '../../src/db/change-feed.js';
import { addDevices } from '../../src/db/devices.js';
import { openDatabase } from '../../src/db/open.js';
import { SvcMqttError } from '../../src/errors.js';
import { startNetwork, throughNetwork } from '../support/network.js';
import { kinds, openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';
import { databaseProcesses } from './processes.js';

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

let heard: string[];
let anyChanged: number;
let policyChanges: number;
let lives: number;
let aways: number;
beforeEach(() => {
  heard = [];
  anyChanged = 0;
  policyChanges = 0;
  lives = 0;
  aways = 0;
});

async function follow(database: TestDatabase, db = database.db): Promise<ChangeFeed> {
  const feed = await startChangeFeed(db, silentLog, {
    onLive: () => (lives += 1),
    onAway: () => (aways += 1),
    onChanged: (ids) => heard.push(...ids),
    onAnyChanged: () => (anyChanged += 1),
    onPoliciesChanged: () => (policyChanges += 1),
    onSweep() {},
  });
  releases.push(() => feed.close());
  return feed;
}

async function open(kind: (typeof kinds)[number]): Promise<TestDatabase> {
  const database = await openTestDatabase(kind);
  releases.push(() => database.close());
  return database;
}

const withoutTriggers = async (database: TestDatabase, statement: string) => {
  await database.sql('alter table devices disable trigger user');
  await database.sql(statement);
  await database.sql('alter table devices enable trigger user');
};

test.each(kinds)(
  'a notification and, when that is missed, the sweep tell every change in %s',
  async (kind) => {
    const database = await open(kind);
    const [first, second, third] = (
      await addDevices(database.db, testActor, { type: 'sensor', count: 3 })
    ).map(({ id }) => id);
    await follow(database);
    expect(lives).toBe(1);
    // No sweep can see that a row is gone: this is the notification.
    await database.sql('delete from devices where id = $1', [first]);
    await until('the deletion', () => heard.includes(first ?? ''));
    // And here is no notification.
    await withoutTriggers(
      database,
      `update devices set updated_at = clock_timestamp() where id = '${second}'`,
    );
    await until('the change', () => heard.includes(second ?? ''));
    // Each is told once more at most: by the other of the two.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(heard.length).toBeLessThanOrEqual(3);
    expect(heard).not.toContain(third);
    await database.sql('truncate devices');
    await until('all', () => anyChanged > 0);
  },
);

test.each(kinds)(
  'a notification and, when that is missed, the sweep tell a change of the policies in %s',
  async (kind) => {
    const database = await open(kind);
    const { db, sql } = database;
    await follow(database);
    const heardAfter = async (statement: string) => {
      const before = policyChanges;
      await sql(statement);
      await until(statement, () => policyChanges > before);
    };
    await heardAfter(`insert into policies (device_type, publish, subscribe) values ('a', '{}', '{}')`);
    await sql('alter table policies disable trigger policies_notify');
    // The sweep tells what was notified a second time; that must be over before its own news can be told apart.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    await heardAfter(`insert into policies (device_type, publish, subscribe) values ('b', '{}', '{}')`);
    await heardAfter(`update policies set publish_rate = 5 where device_type = 'a'`);
    await heardAfter(`delete from policies where device_type = 'a'`);
    expect(await db.pool.query('select 1 from policies')).toMatchObject({ rowCount: 1 });
  },
);

test('a bulk change is told as one', async () => {
  const database = await open('postgres');
  await addDevices(database.db, testActor, { type: 'sensor', count: 12_000 });
  await follow(database);
  await withoutTriggers(database, 'update devices set updated_at = clock_timestamp()');
  await until('all', () => anyChanged > 0);
  expect(heard).toEqual([]);
});

test('devices that are added wake nobody', async () => {
  const database = await open('postgres');
  await follow(database);
  await addDevices(database.db, testActor, { type: 'sensor', count: 20_000 });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect({ heard, anyChanged }).toEqual({ heard: [], anyChanged: 0 });
});

test('a connection that the server ends is replaced, and what happened meanwhile is told', async () => {
  const database = await open('postgres');
  const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
  const feed = await follow(database);
  await database.sql(
    `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()`,
  );
  await database.sql(`update devices set revoked_at = now() where id = $1`, [device?.id]);
  await until('live again', () => lives >= 2 && feed.live);
  await until('the change', () => heard.includes(device?.id ?? ''));
  // The next connection was made at once: the database was never away.
  expect(aways).toBe(0);
});

test('the death of the embedded database is survived, and what happened meanwhile is told', async () => {
  const database = await open('embedded');
  const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
  const feed = await follow(database);
  for (const pid of databaseProcesses(database.config.dataDir)) process.kill(pid, 'SIGKILL');
  await until('away', () => aways === 1);
  await until('live again', () => feed.live);
  expect(lives).toBeGreaterThan(1);
  await database.sql('delete from devices where id = $1', [device?.id]);
  await until('the change', () => heard.includes(device?.id ?? ''));
});

test('a failed start says why', async () => {
  const database = await openTestDatabase('postgres', { migrated: false });
  releases.push(() => database.close());
  const error = await follow(database).catch((thrown: unknown) => thrown);
  expect(error instanceof SvcMqttError && error.code).toBe('DATABASE_SCHEMA');
});

describe('a network that swallows everything', () => {
  test('is noticed, and all is well after its return', async () => {
    const database = await open('postgres');
    const url = database.config.databaseUrl ?? '';
    const network = await startNetwork(Number(new URL(url).port));
    releases.push(async () => network.close());
    const db = await openDatabase(
      { ...database.config, databaseUrl: throughNetwork(url, network), databaseTimeoutMs: 1_500 },
      silentLog,
    );
    releases.push(() => db.close());
    const feed = await follow(database, db);
    network.swallow(true);
    await until('away', () => !feed.live && aways === 1);
    // Long enough for the waits between attempts to have reached their longest.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    network.swallow(false);
    await until('live', () => feed.live);
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    await database.sql('delete from devices where id = $1', [device?.id]);
    await until('the change', () => heard.includes(device?.id ?? ''));
  });
});
