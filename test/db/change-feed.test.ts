import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ChangeFeed, startChangeFeed } from '../../src/db/change-feed.js';
import { pruneChanges, readChanges } from '../../src/db/change-log.js';
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
/** What was told, in order. */
let told: string[];
let anyChanged: number;
let policyChanges: number;
let lives: number;
let aways: number;
beforeEach(() => {
  heard = [];
  told = [];
  anyChanged = 0;
  policyChanges = 0;
  lives = 0;
  aways = 0;
});

async function follow(database: TestDatabase, db = database.db): Promise<ChangeFeed> {
  const feed = await startChangeFeed(db, silentLog, {
    onLive() {
      lives += 1;
      told.push('live');
    },
    onAway: () => (aways += 1),
    onChanged(ids) {
      heard.push(...ids);
      told.push(...ids);
    },
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

const revoke = (where: string) => `update devices set revoked_at = now() where ${where}`;

test.each(kinds)('every change is told, each once more at most, in %s', async (kind) => {
  const database = await open(kind);
  const [first, second, third] = (await addDevices(database.db, testActor, { type: 'sensor', count: 3 })).map(
    ({ id }) => id,
  );
  await follow(database);
  expect(lives).toBe(1);
  await database.sql('delete from devices where id = $1', [first]);
  await until('the deletion', () => heard.includes(first ?? ''));
  await database.sql(revoke(`id = '${second}'`));
  await until('the change', () => heard.includes(second ?? ''));
  // Once by the notification and once by the sweep.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(heard.length).toBeLessThanOrEqual(4);
  expect(heard).not.toContain(third);
  await database.sql('truncate devices');
  await until('all', () => anyChanged > 0);
});

describe('without notifications', () => {
  /** The feed asks for notifications of channels that nobody notifies. */
  const followDeaf = async (database: TestDatabase) => {
    await database.sql(`create schema deaf`);
    await database.sql(
      `create function deaf.pg_notify(text, text) returns void language sql as 'select pg_catalog.pg_notify(''deaf'', $2)'`,
    );
    await database.sql('alter function devices_notify() set search_path = deaf, pg_catalog, pg_temp');
    return await follow(database);
  };

  test.each([
    ['deletion', (id: string) => `delete from devices where id = '${id}'`],
    ['revocation', (id: string) => revoke(`id = '${id}'`)],
    ['renaming', (id: string) => `update devices set id = 'x' || id where id = '${id}'`],
  ])('a %s is told once, when its transaction commits', async (_, statement) => {
    const database = await open('postgres');
    const devices = await addDevices(database.db, testActor, { type: 'sensor', count: 3 });
    const [slow = '', quick = '', undone = ''] = devices.map(({ id }) => id);
    await followDeaf(database);
    const [one, other] = [await database.db.connect(), await database.db.connect()];
    releases.push(
      () => one.end(),
      () => other.end(),
    );
    await one.query('begin');
    await one.query(`savepoint s; ${statement(slow)}; release savepoint s`);
    await other.query('begin');
    await other.query(statement(undone));
    await database.sql(statement(quick));
    await until('the quick one', () => heard.includes(quick));
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(heard).not.toContain(slow);
    await one.query('commit');
    await other.query('rollback');
    await until('the slow one', () => heard.includes(slow));
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(heard.filter((id) => id === slow || id === quick)).toEqual([quick, slow]);
    expect(heard).not.toContain(undone);
  });

  test('a bulk change is told as one', async () => {
    const database = await open('postgres');
    await addDevices(database.db, testActor, { type: 'sensor', count: 12_000 });
    await followDeaf(database);
    await database.sql(revoke('true'));
    await until('all', () => anyChanged > 0);
    expect(heard).toEqual([]);
  });

  test('a connection that the server ends is replaced without being away, and goes on where it was', async () => {
    const database = await open('postgres');
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    const feed = await followDeaf(database);
    // In one transaction, so that no sweep comes between.
    const [row] = await database.sql<{ ended: boolean }>(
      `with removed as (delete from devices where id = $1)
       select bool_and(pg_terminate_backend(pid)) as ended from pg_stat_activity
       where pid <> pg_backend_pid() and datname = current_database()`,
      [device?.id],
    );
    expect(row).toEqual({ ended: true });
    await until('live again', () => lives >= 2 && feed.live);
    expect({ told, aways }).toEqual({ told: ['live', device?.id, 'live'], aways: 0 });
  });
});

test('what was read long ago is deleted, and nothing else', async () => {
  const database = await open('postgres');
  const { db, sql } = database;
  const ask = <R extends pg.QueryResultRow>(text: string, values: unknown[]) =>
    db.pool.query<R>(text, values);
  await addDevices(db, testActor, { type: 'sensor', count: 6_000 });
  await sql(revoke('true'));
  const { position } = await readChanges(ask, undefined);
  const open1 = await db.connect();
  releases.push(() => open1.end());
  await open1.query('begin');
  await open1.query(`update devices set revoked_at = null where id = (select min(id) from devices)`);
  await sql(`delete from devices where id = (select max(id) from devices)`);
  const later = await readChanges(ask, position);
  expect(later.ids).toHaveLength(1);
  expect(await pruneChanges(db, later.position)).toBe(true);
  expect(await pruneChanges(db, later.position)).toBe(false);
  await open1.query('commit');
  const last = await readChanges(ask, later.position);
  expect(last.ids).toHaveLength(1);
  expect(last.ids).not.toEqual(later.ids);
  // A position that is as old as that, or from another server's future, is no longer good.
  expect(await readChanges(ask, { ...last.position, at: '2000-01-01' })).toMatchObject({ ids: undefined });
  const ahead = { ...last.position, snapshot: '4000000000:4000000000:' };
  expect(await readChanges(ask, ahead)).toMatchObject({ ids: undefined });
});

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

test('devices that are added wake nobody', async () => {
  const database = await open('postgres');
  await follow(database);
  await addDevices(database.db, testActor, { type: 'sensor', count: 20_000 });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect({ heard, anyChanged }).toEqual({ heard: [], anyChanged: 0 });
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
