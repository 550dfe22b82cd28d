import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import { setDevice } from '../../src/db/devices/device-changes.js';
import { isExpired, loadCredentials } from '../../src/db/devices/device-credentials.js';
import { addDevices, findDevice, listSortedDevices } from '../../src/db/devices/devices.js';
import { startChangeFeed } from '../../src/db/feed/change-feed.js';
import { toDate } from '../../src/db/schema.js';
import { hasPgbouncer, startPgbouncer } from '../support/pgbouncer.js';
import { openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';

const styles = ['SQL, DMY', 'German', 'Postgres, MDY'];

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase('postgres');
  await setZone('<ONE>-05:30');
});
afterAll(() => database?.close());

const name = async () =>
  (await database.sql<{ name: string }>('select quote_ident(current_database()) as name'))[0]?.name;
const setStyle = async (style: string) =>
  database.sql(`alter database ${await name()} set datestyle = '${style}'`);
/** Styles other than ISO write the name of the zone, which is read only where it is that of the session. */
const setZone = async (zone: string) =>
  database.sql(`alter database ${await name()} set timezone = '${zone}'`);
const endConnections = () =>
  database.sql(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where pid <> pg_backend_pid() and datname = current_database()`,
  );

/** A database whose connections are all made after the style was set. */
async function openWith(style: string, url = database.config.databaseUrl): Promise<Database> {
  await setStyle(style);
  const db = await openDatabase({ ...database.config, databaseUrl: url }, silentLog);
  onTestFinished(() => db.close());
  return db;
}

/** Makes and revokes a device, as nobody who knows a style. */
async function revokeOne(): Promise<string> {
  const [row] = await database.sql<{ id: string }>(
    `insert into devices (id, type, secret_hash, secret_salt) values (gen_random_uuid(), 'sensor',
       decode(repeat('11', 32), 'hex'), decode(repeat('00', 16), 'hex')) returning id`,
  );
  const { id = '' } = row ?? {};
  await database.sql('update devices set revoked_at = now() where id = $1', [id]);
  return id;
}

async function requireRightTimes(db: Database): Promise<void> {
  const startMs = Date.now();
  // A day and a month that can be taken for each other.
  const expiresAt = new Date('2091-02-03T04:05:06.789Z');
  const [device] = await addDevices(db, testActor, { type: 'sensor', expiresAt });
  const { id = '', createdAt } = device ?? {};
  expect(Math.abs((createdAt?.getTime() ?? 0) - startMs)).toBeLessThan(60_000);
  expect(await findDevice(db, id)).toMatchObject({ createdAt, expiresAt });
  const credentials = async () => (await loadCredentials(db, [id]))[0];
  expect(await credentials()).toMatchObject({ expiresAtMs: expiresAt.getTime() });
  await database.sql(`update devices set expires_at = now() - interval '1 second' where id = $1`, [id]);
  const expired = await credentials();
  expect(expired && isExpired(expired)).toBe(true);
  await setDevice(db, testActor, id, { expiresAt });
  await database.sql('delete from devices where id <> $1', [id]);
  const list = { sort: 'expires', descending: true, limit: 1 } as const;
  const [last] = await listSortedDevices(db, list);
  expect(last?.sortKey).toMatch(/^2091-02-03 09:35:06\.789\+05:30$/);
  const ids = (await listSortedDevices(db, { ...list, after: last, limit: 10_000 })).map((each) => each.id);
  expect(ids).not.toContain(last?.id);
}

describe.each(styles)('where the DateStyle of the database is %s', (style) => {
  test('times are what they are', async () => requireRightTimes(await openWith(style)));

  test('times are what they are through a pooler', async ({ skip }) => {
    skip(!hasPgbouncer && process.env.CI === undefined, 'pgbouncer is not installed');
    await setStyle(style);
    const pgbouncer = await startPgbouncer(database.config.databaseUrl ?? '', 2);
    onTestFinished(() => pgbouncer.stop());
    await requireRightTimes(await openWith(style, pgbouncer.url));
  });

  test('what changes is told, also when it becomes another one', async () => {
    const db = await openWith(style);
    const feed = await startChangeFeed(db, silentLog);
    onTestFinished(() => feed.close());
    const told: string[] = [];
    feed.follow('devices', { onChanged: (ids) => told.push(...(ids ?? [])) });
    onTestFinished(async () => void (await setZone('<ONE>-05:30')));
    for (const [index, next] of [...styles, 'ISO, MDY'].entries()) {
      await setStyle(next);
      await setZone(index % 2 === 0 ? '<TWO>-05:30' : '<ONE>-05:30');
      await endConnections();
      const id = await revokeOne();
      await until('it is told', () => told.includes(id));
    }
    await until('the database answers', () => feed.live);
  });
});

test('a change of the server leaves the connections that there are as they are', async () => {
  const db = await openWith('German');
  const style = async () => (await db.pool.query('show datestyle')).rows;
  expect(await style()).toEqual([{ DateStyle: 'ISO, DMY' }]);
  const connected = await db.connect();
  onTestFinished(() => connected.end());
  expect((await connected.query('show datestyle')).rows).toEqual([{ DateStyle: 'ISO, DMY' }]);
});

test('a position that the database cannot read any more is given up, and anything may have changed', async () => {
  let refusals = 1;
  const refuse = (client: pg.Client): pg.Client => {
    const ask = client.query.bind(client) as (text: string, values?: unknown[]) => Promise<unknown>;
    client.query = (async (text: string, values?: unknown[]) => {
      if (refusals > 0 && values?.[0] !== undefined && text.includes('pg_snapshot')) {
        refusals -= 1;
        await ask(`select 'x'::pg_snapshot`);
      }
      return await ask(text, values);
    }) as typeof client.query;
    return client;
  };
  const db: Database = {
    ...database.db,
    connect: async (options) => refuse(await database.db.connect(options)),
  };
  const feed = await startChangeFeed(db, silentLog);
  onTestFinished(() => feed.close());
  const told: unknown[] = [];
  feed.follow('devices', { onChanged: (ids) => told.push(ids) });
  feed.follow('policies', { onChanged: (ids) => told.push(ids) });
  await until('all is told', () => told.length === 2);
  expect(told).toEqual([undefined, undefined]);
  expect([refusals, feed.live]).toEqual([0, true]);
  const id = await revokeOne();
  await until('it goes on', () => told.flat().includes(id));
});

test.each([
  ['2026-01-31 12:00:00.123456+00', '2026-01-31T12:00:00.123Z'],
  ['2026-01-31 12:00:00+05:30', '2026-01-31T06:30:00.000Z'],
  ['1890-01-01 00:00:00-00:19:32', '1890-01-01T00:19:00.000Z'],
  ['0050-06-01 00:00:00+00', '0050-06-01T00:00:00.000Z'],
  ['0001-01-01 00:00:00+00', '0001-01-01T00:00:00.000Z'],
  ['0001-01-01 01:05:21+01:05:21', '0001-01-01T00:00:21.000Z'],
  ['0001-12-31 19:03:58-04:56:02 BC', '0001-01-01T00:00:00.000Z'],
  ['0044-03-15 00:00:00+00 BC', '0001-01-01T00:00:00.000Z'],
  ['-infinity', '0001-01-01T00:00:00.000Z'],
  ['12026-01-31 12:00:00+00', '9999-12-31T23:59:59.999Z'],
  ['infinity', '9999-12-31T23:59:59.999Z'],
])('the time %s is read', (text, iso) => expect(toDate(text).toISOString()).toBe(iso));

test.each([
  '31.01.2026 12:00:00 CET',
  '03/02/2026 12:00:00 UTC',
  'Sat Jan 31 12:00:00 2026 UTC',
  '2026-01-31',
  '',
])('the time %s of another form is refused', (text) => expect(() => toDate(text)).toThrow('DateStyle'));
