import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { listDevices } from '../../src/db/devices/devices.js';
import { migrate, readMigrationStatus } from '../../src/db/migrate.js';
import { SvcMqttError } from '../../src/errors.js';
import type { Progress } from '../../src/progress.js';
import { startPostgres, type TestPostgres } from '../support/postgres.js';
import { inCi } from '../support/rounds.js';
import { type Kind, openTestDatabase, type TestDatabase, until } from './databases.js';
import { startWorker } from './processes.js';

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

let database: TestDatabase;
afterEach(() => database?.close());

/** The table as GORM makes it, with whatever type of id and further columns. */
async function oldDatabase(kind: Kind = 'postgres', columns = 'id text primary key', more = '') {
  database = await openTestDatabase(kind, {
    migrated: false,
    ...(kind === 'postgres' ? { adminUrl: server.url } : {}),
  });
  await database.sql(
    `create table devices (${columns}, device_type text, mqtt_user text, mqtt_password text, created_at timestamptz ${more})`,
  );
  await database.sql('create index idx_devices_mqtt_user on devices (mqtt_user)');
  return database;
}

interface OldDevice {
  id: string;
  type: string;
  password: string;
  createdAt: Date;
}

async function fill({ sql }: TestDatabase, count: number): Promise<OldDevice[]> {
  const start = Date.UTC(2024, 0, 1);
  const devices = Array.from({ length: count }, (_, index) => ({
    id: createHash('sha256').update(String(index)).digest('hex').slice(0, 16),
    type: `type-${index % 7}`,
    password: `pw-${index}-${randomBytes(12).toString('base64')}é`,
    createdAt: new Date(start + index * 1_000),
  }));
  await sql(
    `insert into devices (id, device_type, mqtt_user, mqtt_password, created_at)
     select id, type, id, password, at from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as d (id, type, password, at)`,
    [
      devices.map((device) => device.id),
      devices.map((device) => device.type),
      devices.map((device) => device.password),
      devices.map((device) => device.createdAt.toISOString()),
    ],
  );
  return devices;
}

async function expectConverted({ db }: TestDatabase, devices: readonly OldDevice[]): Promise<void> {
  const credentials = new Map(
    (
      await loadCredentials(
        db,
        devices.map((device) => device.id),
      )
    ).map((row) => [row.id, row]),
  );
  expect(credentials.size).toBe(devices.length);
  const listed = new Map<string, Date>();
  for (let after: string | undefined; ; ) {
    const page = await listDevices(db, { after, state: 'all', limit: 10_000 });
    for (const device of page) listed.set(device.id, device.createdAt);
    after = page.at(-1)?.id;
    if (page.length < 10_000) break;
  }
  const wrong = devices.filter((device) => {
    const row = credentials.get(device.id);
    return (
      row === undefined ||
      row.type !== device.type ||
      row.revokedAtMs !== undefined ||
      matchSecret(row, Buffer.from(device.password)) !== 'current' ||
      matchSecret(row, Buffer.from(`${device.password}x`)) !== undefined ||
      listed.get(device.id)?.getTime() !== device.createdAt.getTime()
    );
  });
  expect(wrong).toEqual([]);
  expect(new Set([...credentials.values()].map((row) => row.secretSalt.toString('hex'))).size).toBe(
    devices.length,
  );
}

/** Whether any file of the database's tables holds the text. */
function isOnDisk(text: string): boolean {
  const needle = Buffer.from(text);
  const base = path.join(server.dataDirectory, 'base');
  return readdirSync(base).some((directory) =>
    readdirSync(path.join(base, directory)).some((file) => {
      try {
        return readFileSync(path.join(base, directory, file)).includes(needle);
      } catch {
        return false;
      }
    }),
  );
}

test.each(['postgres', 'embedded'] as const)(
  'every device keeps its id, type, age and password in %s',
  async (kind) => {
    const old = await oldDatabase(kind);
    const devices = await fill(old, 1_000);
    expect(await readMigrationStatus(old.db)).toMatchObject({ applied: [], legacy: { devices: 1_000 } });
    const result = await migrate(old.db);
    expect(result.converted).toBe(1_000);
    await expectConverted(old, devices);
    expect(await readMigrationStatus(old.db)).toMatchObject({ pending: [], legacy: undefined });
    expect(await migrate(old.db)).toEqual({ applied: [], converted: 0, warnings: [] });
  },
);

test('reading the status changes nothing', async () => {
  const old = await oldDatabase();
  await fill(old, 10);
  const before = await old.sql('select * from devices order by id');
  await readMigrationStatus(old.db);
  expect(await old.sql('select * from devices order by id')).toEqual(before);
});

test('many devices are converted, with progress, and no password stays in any table file', async () => {
  const old = await oldDatabase();
  const count = inCi(100_000, 20_000);
  const devices = await fill(old, count);
  const passwords = devices.map((device) => device.password);
  // Statistics hold samples of the passwords, as they do in a database that has been used.
  await old.sql('analyze devices');
  const [statistics] = await old.sql<{ sample: string }>(
    `select (histogram_bounds::text::text[])[50] as sample from pg_stats where tablename = 'devices' and attname = 'mqtt_password'`,
  );
  expect(passwords).toContain(statistics?.sample);
  const samples = [passwords[count - 1] ?? '', statistics?.sample ?? ''];
  await old.sql('checkpoint');
  expect(samples.map(isOnDisk)).toEqual([true, true]);
  const progress: Progress[] = [];
  expect((await migrate(old.db, { onProgress: (step) => progress.push(step) })).converted).toBe(count);
  await old.sql('checkpoint');
  expect(samples.map(isOnDisk)).toEqual([false, false]);
  const steps = progress.filter(({ step }) => step === 'converting devices');
  expect(steps.length).toBeGreaterThan(inCi(5, 1));
  expect(steps.at(-1)).toMatchObject({ done: count, total: count });
  await expectConverted(old, devices);
});

describe('interrupted, it has changed nothing and can run again', () => {
  const interruptions: [string, (kill: () => void) => Promise<void>][] = [
    ['the process is killed', async (kill) => kill()],
    [
      'its connections are ended',
      async () => {
        await database.sql(
          'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()',
        );
      },
    ],
    [
      'the server is killed',
      async () => {
        await server.halt('kill');
        await server.start();
      },
    ],
  ];
  test.each(interruptions.slice(0, inCi(3, 1)))('when %s', async (_, interrupt) => {
    const old = await oldDatabase();
    const count = 50_000;
    const devices = await fill(old, count);
    await old.sql('checkpoint');
    for (const moment of ['locking', 'applying', 'converting']) {
      const worker = startWorker(old.config, 0);
      await until(moment, () => worker.progress.some((line) => line.includes(moment)));
      await interrupt(() => worker.child.kill('SIGKILL'));
      expect(await worker.ended).not.toBe(0);
      const unconverted = async () =>
        (await old.sql('select count(*)::int as n from devices where mqtt_password is not null'))[0];
      await until('the old table is whole', () =>
        unconverted().then(
          (row) => row?.n === count,
          () => false,
        ),
      );
    }
    expect((await migrate(old.db)).converted).toBe(count);
    await expectConverted(old, devices);
  });
});

test('a conversion whose statistics could not be cleared says so, and the next migration does it', async () => {
  const old = await oldDatabase();
  const devices = await fill(old, 1_000);
  await old.sql('analyze devices');
  // Whoever uses the table of statistics keeps it from being rewritten.
  const other = await old.db.connect();
  await other.query('begin');
  await other.query('lock table pg_catalog.pg_statistic in access share mode');
  const steps: string[] = [];
  expect((await migrate(old.db, { onProgress: ({ step }) => steps.push(step) })).converted).toBe(1_000);
  expect(steps.at(-1)).toContain('vacuum full pg_catalog.pg_statistic');
  await other.end();
  const again: string[] = [];
  await migrate(old.db, { onProgress: ({ step }) => again.push(step) });
  expect(again.length).toBeGreaterThan(0);
  await migrate(old.db, { onProgress: ({ step }) => expect(step).toBe('nothing') });
  await expectConverted(old, devices);
});

test('several replicas that start at once convert it once', async () => {
  const old = await oldDatabase();
  const devices = await fill(old, 5_000);
  const workers = [1, 2, 3].map(() => startWorker(old.config, 0));
  const results = await Promise.all(workers.map((worker) => worker.done));
  expect(results.map((result) => result.converted).sort()).toEqual([0, 0, 5_000]);
  await expectConverted(old, devices);
});

test.each([
  ['varchar', 'id varchar(64) primary key', 'abc-DEF_123'],
  ['uuid', 'id uuid primary key default gen_random_uuid()', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff'],
])('an id of type %s is kept', async (_, column, id) => {
  const old = await oldDatabase('postgres', column, ', updated_at timestamptz, deleted_at timestamptz');
  await old.sql(`insert into devices values ('${id}', 't', '${id}', 'pässword', now())`);
  expect((await migrate(old.db)).converted).toBe(1);
  const [row] = await loadCredentials(old.db, [id]);
  expect(row !== undefined && matchSecret(row, Buffer.from('pässword'))).toBe('current');
});

test('what GORM had deleted softly is revoked, and a missing date is set', async () => {
  const old = await oldDatabase('postgres', 'id text primary key', ', deleted_at timestamptz');
  await old.sql(`insert into devices values ('gone', 't', 'gone', 'p', null, '2024-05-05T00:00:00Z')`);
  await old.sql(`insert into devices values ('here', 't', 'here', 'p', null, null)`);
  await migrate(old.db);
  const devices = await listDevices(old.db, { state: 'all', limit: 10 });
  expect(devices.map((device) => [device.id, device.revokedAt?.toISOString() ?? null])).toEqual([
    ['gone', '2024-05-05T00:00:00.000Z'],
    ['here', null],
  ]);
  expect(devices[1]?.createdAt.getTime()).toBeGreaterThan(Date.now() - 60_000);
});

test("Go's zero time is none, neither of the making of a device nor of its deletion", async () => {
  const old = await oldDatabase('postgres', 'id text primary key', ', deleted_at timestamp');
  await old.sql(`alter database ${await databaseName(old)} set timezone = 'Europe/Vienna'`);
  await old.sql(
    `insert into devices values ('a', 't', 'a', 'p', '0001-01-01Z', '0001-01-01'), ('b', 't', 'b', 'p', '2024-05-05Z', '2024-06-06 12:00')`,
  );
  await migrate(old.db);
  const [a, b] = await listDevices(old.db, { state: 'all', limit: 10 });
  expect(a?.revokedAt).toBeNull();
  expect(a?.createdAt.getTime()).toBeGreaterThan(Date.now() - 60_000);
  expect(b?.createdAt.toISOString()).toBe('2024-05-05T00:00:00.000Z');
  expect(b?.revokedAt?.toISOString()).toBe('2024-06-06T10:00:00.000Z');
});

const databaseName = async ({ sql }: TestDatabase) =>
  (await sql<{ name: string }>('select quote_ident(current_database()) as name'))[0]?.name;

/** What the status says, and the migration, which changes nothing. */
async function refusalOf({ db, sql }: TestDatabase): Promise<string> {
  const before = await sql('select * from devices');
  const { problem, advice } = (await readMigrationStatus(db)).legacy ?? {};
  const error = await migrate(db).catch((thrown: unknown) => thrown);
  if (!(error instanceof SvcMqttError)) throw new Error('it was converted');
  expect(error.code).toBe('DATABASE_SCHEMA');
  expect(error.message).toBe(problem);
  expect(error.toLine()).toContain(advice);
  expect(error.toLine()).toContain('nothing was changed');
  expect(await sql('select * from devices')).toEqual(before);
  return error.toLine();
}

/** The statements of SQL that a line gives. */
const statementsIn = (line: string) => [...line.matchAll(/`([^`]*)`/g)];

test.each(['postgres', 'embedded'] as const)(
  'columns that would be lost in %s are named, and kept and dropped as it is said',
  async (kind) => {
    const old = await oldDatabase(
      kind,
      undefined,
      `, location text, "Customer" int, "order" int, enabled boolean`,
    );
    await old.sql(`insert into devices values ('a', 't', 'a', 'p', now(), 'graz', 7, 1, false)`);
    const line = await refusalOf(old);
    expect(line).toMatch(/would be lost: "location", "Customer", "order", "enabled"/);
    for (const [, statement = ''] of statementsIn(line)) await old.sql(statement);
    expect((await migrate(old.db)).converted).toBe(1);
    expect(await old.sql('select * from devices_more')).toEqual([
      { id: 'a', location: 'graz', Customer: 7, order: 1, enabled: false },
    ]);
  },
);

test('a deletion that GORM notes as a number is refused, and converted as it is said', async () => {
  const old = await oldDatabase('postgres', undefined, ', deleted_at bigint not null default 0');
  await old.sql(
    `insert into devices values ('a', 't', 'a', 'p', now(), 1700000000), ('b', 't', 'b', 'p', now(), 0)`,
  );
  const line = await refusalOf(old);
  expect(line).toMatch(/deleted_at .* is no time/);
  for (const [, statement = ''] of statementsIn(line)) await old.sql(statement);
  await migrate(old.db);
  const devices = await listDevices(old.db, { state: 'all', limit: 10 });
  expect(devices.map((device) => device.revokedAt?.getTime() ?? null)).toEqual([1_700_000_000_000, null]);
});

test.each([
  ['created_at', 'bigint using 0'],
  ['mqtt_password', `bytea using ''::bytea`],
  ['device_type', 'int using 1'],
])('a column %s of type %s is refused', async (column, type) => {
  const old = await oldDatabase();
  await old.sql(`alter table devices alter ${column} type ${type}`);
  expect(await refusalOf(old)).toMatch(new RegExp(`${column} .* is no (text|time)`));
});

test.each(['view', 'materialized view'])('a %s in place of the table is refused', async (kind) => {
  const old = await oldDatabase();
  await fill(old, 3);
  await old.sql(`alter table devices rename to things; create ${kind} devices as select * from things`);
  expect(await refusalOf(old)).toMatch(/view.*only a table/);
});

test('a row that the Go service is writing is waited for and converted', async () => {
  const old = await oldDatabase();
  await fill(old, 10);
  const writer = await old.db.connect();
  await writer.query('begin');
  await writer.query(`insert into devices values ('late', 't', 'late', 'p', now())`);
  const steps: string[] = [];
  const migrated = migrate(old.db, {
    onProgress: ({ step }) => {
      steps.push(step);
      if (step.startsWith('locking')) void writer.query('commit').then(() => writer.end());
    },
  });
  expect((await migrated).converted).toBe(11);
});

describe('rows that cannot be converted are named, and nothing is changed', () => {
  test.each([
    [`('a/b', 't', 'a/b', 'p')`, /"a\/b".*topic/],
    [`('#', 't', '#', 'p')`, /"#".*topic/],
    [`('a.b', 't', 'a.b', 'p')`, /"a\.b".*topic/],
    [`('a.b', 't', 'a.b', 'p')`, /"a\.b".*topic/],
    [`('a b', 't', 'a b', 'p')`, /"a b".*topic/],
    [`('', 't', '', 'p')`, /"".*topic/],
    [`(repeat('x', 200), 't', repeat('x', 200), 'p')`, /"x{80}".*topic/],
    [`('d1', 't', 'other', 'p')`, /"d1".*mqtt_user/],
    [`('d1', 't', null, 'p')`, /"d1".*mqtt_user/],
    [`('d1', 't', 'd1', '')`, /"d1".*password/],
    [`('d1', 't', 'd1', null)`, /"d1".*password/],
    [`('d1', '', 'd1', 'p')`, /"d1".*device_type/],
    [`('d1', null, 'd1', 'p')`, /"d1".*device_type/],
    [`('d1', repeat('t', 129), 'd1', 'p')`, /"d1".*128/],
    [`('d1', E'a\\nb', 'd1', 'p')`, /"d1".*control/],
    [`('d1', 't', 'd1', 'p'), ('d1', 't', 'd1', 'q')`, /2 rows.*"d1".*another/],
    [`(null, 't', null, 'p')`, /no id/],
  ])('%s', async (values, reason) => {
    const old = await oldDatabase('postgres', 'id text');
    await old.sql(`insert into devices values ('good', 't', 'good', 'SecretOfTheGood')`);
    await old.sql(`insert into devices (id, device_type, mqtt_user, mqtt_password) values ${values}`);
    const before = await old.sql('select * from devices order by id, mqtt_password');
    const status = await readMigrationStatus(old.db);
    expect(status.legacy?.problem).toMatch(reason);
    const error = await migrate(old.db).catch((thrown: unknown) => thrown);
    if (!(error instanceof SvcMqttError)) throw new Error('it was converted');
    expect(error.code).toBe('DATABASE_SCHEMA');
    expect(error.toLine()).toMatch(reason);
    expect(error.toLine()).toContain('nothing was changed');
    expect(error.toLine()).not.toContain('SecretOfTheGood');
    expect(await old.sql('select * from devices order by id, mqtt_password')).toEqual(before);
  });

  test('with a few named of many', async () => {
    const old = await oldDatabase();
    await old.sql(
      `insert into devices select 'a/' || n, 't', 'a/' || n, 'p' from generate_series(1, 1000) as n`,
    );
    const error = await migrate(old.db).catch((thrown: unknown) => thrown);
    if (!(error instanceof SvcMqttError)) throw new Error('it was converted');
    expect(error.toLine()).toMatch(/^1000 rows .* and 995 more/);
    expect(error.toLine().length).toBeLessThan(700);
  });

  test('and so is a table that others depend on', async () => {
    const old = await oldDatabase();
    await fill(old, 3);
    await old.sql('create view gadgets as select id from devices');
    const error = await migrate(old.db).catch((thrown: unknown) => thrown);
    if (!(error instanceof SvcMqttError)) throw new Error('it was converted');
    expect(error.code).toBe('DATABASE_SCHEMA');
    expect(error.toLine()).toMatch(/depend/);
    expect(await old.sql('select count(*)::int as n from gadgets')).toEqual([{ n: 3 }]);
  });
});
