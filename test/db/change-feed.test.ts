import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { markApiKeyUsed } from '../../src/db/api-keys.js';
import { openDatabase } from '../../src/db/connection/open.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { type ChangeFeed, startChangeFeed } from '../../src/db/feed/change-feed.js';
import { pruneChanges, readChanges } from '../../src/db/feed/change-log.js';
import { followedTables } from '../../src/db/feed/followed-tables.js';
import { SvcMqttError } from '../../src/errors.js';
import { startNetwork, throughNetwork } from '../support/network.js';
import { kinds, openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';
import { databaseProcesses } from './processes.js';

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

/** Devices of which a change was told. */
let heard: string[];
/** What was told of devices, in order. */
let told: string[];
let anyChanged: number;
/** How often changes of the other tables were told. */
let changes: Record<'policies' | 'api_keys', number>;
let lives: number;
let aways: number;
let sweeps: number;
beforeEach(() => {
  heard = [];
  told = [];
  anyChanged = 0;
  changes = { policies: 0, api_keys: 0 };
  lives = 0;
  aways = 0;
  sweeps = 0;
});

async function follow(database: TestDatabase, db = database.db): Promise<ChangeFeed> {
  const feed = await startChangeFeed(db, silentLog);
  feed.follow('devices', {
    onLive() {
      lives += 1;
      told.push('live');
    },
    onAway: () => (aways += 1),
    onChanged(ids) {
      if (ids === undefined) anyChanged += 1;
      heard.push(...(ids ?? []));
      told.push(...(ids ?? []));
    },
    onSweep: () => (sweeps += 1),
  });
  for (const table of ['policies', 'api_keys'] as const) {
    feed.follow(table, { onChanged: () => (changes[table] += 1) });
  }
  releases.push(() => feed.close());
  return feed;
}

/** What was committed before has been read by a sweep: the second of two began after it. */
async function swept(): Promise<void> {
  const before = sweeps;
  await until('two sweeps', () => sweeps >= before + 2);
}

async function open(kind: (typeof kinds)[number]): Promise<TestDatabase> {
  const database = await openTestDatabase(kind);
  releases.push(() => database.close());
  return database;
}

/** Has the triggers notify a channel that nobody asks for. */
async function makeDeaf(database: TestDatabase, triggerFunction: string): Promise<void> {
  await database.sql('create schema if not exists deaf');
  await database.sql(
    `create or replace function deaf.pg_notify(text, text) returns void language sql as 'select pg_catalog.pg_notify(''deaf'', $2)'`,
  );
  await database.sql(`alter function ${triggerFunction}() set search_path = deaf, pg_catalog, pg_temp`);
}

const revoke = (where: string) => `update devices set revoked_at = now() where ${where}`;

describe('without notifications', () => {
  const followDeaf = async (database: TestDatabase) => {
    await makeDeaf(database, 'devices_notify');
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
    await swept();
    expect(heard).not.toContain(slow);
    await one.query('commit');
    await other.query('rollback');
    await until('the slow one', () => heard.includes(slow));
    await swept();
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
       select bool_or(pg_terminate_backend(pid)) as ended from pg_stat_activity
       where pid <> pg_backend_pid() and datname = current_database()`,
      [device?.id],
    );
    expect(row).toEqual({ ended: true });
    await until('live again', () => lives >= 1 && feed.live);
    expect({ told, aways }).toEqual({ told: [device?.id, 'live'], aways: 0 });
  });
});

test('what was read long ago is deleted, and nothing else', async () => {
  const database = await open('postgres');
  const { db, sql } = database;
  const ask = <R extends pg.QueryResultRow>(text: string, values: unknown[]) =>
    db.pool.query<R>(text, values);
  await addDevices(db, testActor, { type: 'sensor', count: 6_000 });
  await sql(revoke('true'));
  await sql('delete from policies');
  // A transaction that is open in any database of the server keeps what is newer than it.
  const [made] = await sql<{ id: string }>('select pg_current_xact_id()::text as id');
  await until('all that was open before has ended', async () => {
    const [now] = await sql<{ isPast: boolean }>(
      'select pg_snapshot_xmin(pg_current_snapshot()) > $1::xid8 as "isPast"',
      [made?.id],
    );
    return now?.isPast === true;
  });
  const { position } = await readChanges(ask, undefined);
  const open1 = await db.connect();
  releases.push(() => open1.end());
  await open1.query('begin');
  await open1.query(`update devices set revoked_at = null where id = (select min(id) from devices)`);
  await sql(`delete from devices where id = (select max(id) from devices)`);
  await sql('delete from api_keys');
  const later = await readChanges(ask, position);
  expect(later.changed.get('devices')).toHaveLength(1);
  expect(await pruneChanges(db, later.position)).toBe(true);
  expect(await pruneChanges(db, later.position)).toBe(false);
  await open1.query('commit');
  const last = await readChanges(ask, later.position);
  expect(last.changed.get('devices')).toHaveLength(1);
  expect(last.changed).not.toEqual(later.changed);
  expect(await sql('select 1 from table_changes')).toHaveLength(1);
  // A position that is as old as that, or from another server's future, is no longer good.
  const anything = new Map([...followedTables].map((table) => [table, undefined]));
  expect((await readChanges(ask, { ...last.position, at: 0 })).changed).toEqual(anything);
  const ahead = { ...last.position, snapshot: '4000000000:4000000000:' };
  expect((await readChanges(ask, ahead)).changed).toEqual(anything);
  expect((await readChanges(ask, last.position)).changed).toEqual(new Map());
});

describe.each(kinds)('in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(() => database?.close());
  beforeEach(async () => {
    await database.sql('truncate devices, policies, api_keys');
    await follow(database);
  });

  test('every change is told, each once more at most', async () => {
    const [first, second, third] = (
      await addDevices(database.db, testActor, { type: 'sensor', count: 3 })
    ).map(({ id }) => id);
    await database.sql('delete from devices where id = $1', [first]);
    await until('the deletion', () => heard.includes(first ?? ''));
    await database.sql(revoke(`id = '${second}'`));
    await until('the change', () => heard.includes(second ?? ''));
    // Once by the notification and once by the sweep.
    await swept();
    expect(heard.length).toBeLessThanOrEqual(4);
    expect(heard).not.toContain(third);
    await database.sql('truncate devices');
    await until('all', () => anyChanged > 0);
  });

  const key = `'viewer', sha256('x'), '0123456789abcdef'`;

  test.each([
    [
      'policies',
      [
        `insert into policies (device_type, publish, subscribe) values ('a', '{}', '{}')`,
        `update policies set publish_rate = 5 where device_type = 'a'`,
        `delete from policies where device_type = 'a'`,
      ],
    ],
    [
      'api_keys',
      [
        `insert into api_keys (id, name, role, secret_hash, secret_salt) values ('a', 'a', ${key}), ('b', 'b', ${key})`,
        `update api_keys set revoked_at = now() where id = 'a'`,
        `update api_keys set expires_at = now(), role = 'enroller'`,
        `delete from api_keys where id = 'a'`,
        'truncate api_keys',
      ],
    ],
  ] as const)(
    'a change of %s is told by a notification and, when that is missed, the sweep',
    async (table, statements) => {
      const told = async (statement: string) => {
        const before = changes[table];
        await database.sql(statement);
        await until(statement, () => changes[table] > before);
      };
      for (const statement of statements) await told(statement);
      await makeDeaf(database, 'table_notify');
      onTestFinished(async () => {
        await database.sql('alter function table_notify() set search_path = pg_catalog, pg_temp');
      });
      for (const statement of statements) {
        // What was notified is told a second time by the sweep.
        await swept();
        await told(statement);
      }
      expect(changes).toMatchObject(table === 'policies' ? { api_keys: 0 } : { policies: 0 });
    },
  );

  test('that a key was used is no change', async () => {
    await database.sql(
      `insert into api_keys (id, name, role, secret_hash, secret_salt) values ('a', 'a', ${key})`,
    );
    await until('the key', () => changes.api_keys > 0);
    await swept();
    const before = changes.api_keys;
    await markApiKeyUsed(database.db, 'a');
    await swept();
    expect(changes.api_keys).toBe(before);
  });
});

test('devices that are added wake nobody', async () => {
  const database = await open('postgres');
  await follow(database);
  await addDevices(database.db, testActor, { type: 'sensor', count: 20_000 });
  await swept();
  expect({ heard, anyChanged }).toEqual({ heard: [], anyChanged: 0 });
});

test('the death of the embedded database is survived, and what happened meanwhile is told', async () => {
  const database = await open('embedded');
  const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
  const feed = await follow(database);
  for (const pid of databaseProcesses(database.config.dataDir)) process.kill(pid, 'SIGKILL');
  await until('away', () => aways === 1);
  await until('live again', () => feed.live);
  expect(lives).toBeGreaterThan(0);
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
    const tried = network.connections;
    await until('it tries again and again', () => network.connections >= tried + 2);
    network.swallow(false);
    await until('live', () => feed.live);
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    await database.sql('delete from devices where id = $1', [device?.id]);
    await until('the change', () => heard.includes(device?.id ?? ''));
  });
});
