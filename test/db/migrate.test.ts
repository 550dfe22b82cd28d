import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import type { Config } from '../../src/config.js';
import { migrate, readMigrationStatus } from '../../src/db/migrate.js';
import { SvcMqttError } from '../../src/errors.js';
import { openLog } from '../../src/log.js';
import { bringSchemaUpToDate } from '../../src/server/start/start-database.js';
import { type Kind, kinds, openTestDatabase, type TestDatabase } from './databases.js';
import { startWorker } from './processes.js';

let database: TestDatabase | undefined;
afterEach(async () => {
  await database?.close();
  database = undefined;
});
async function emptyDatabase(kind: Kind): Promise<TestDatabase> {
  database = await openTestDatabase(kind, { migrated: false });
  return database;
}

const journal = JSON.parse(
  readFileSync(new URL('../../drizzle/meta/_journal.json', import.meta.url), 'utf8'),
) as {
  entries: { tag: string }[];
};
const names = journal.entries.map((entry) => entry.tag);

describe.each(kinds)('migrations in %s', (kind) => {
  test('are pending, then applied, then nothing is left to do; a newer schema is refused', async () => {
    const { db, sql } = await emptyDatabase(kind);
    const status = { newer: false, legacy: undefined };
    expect(await readMigrationStatus(db)).toEqual({ ...status, applied: [], pending: names });
    expect(await readMigrationStatus(db)).toEqual({ ...status, applied: [], pending: names });
    expect(await migrate(db)).toEqual({ applied: names, converted: 0, warnings: [] });
    expect(await readMigrationStatus(db)).toEqual({ ...status, applied: names, pending: [] });
    expect(await migrate(db)).toEqual({ applied: [], converted: 0, warnings: [] });

    await sql(`insert into svc_mqtt_migrations (hash, created_at) values ('x', 4102444800000)`);
    const newer = await readMigrationStatus(db);
    expect(newer.newer).toBe(true);
    const error = await migrate(db).catch((thrown: unknown) => thrown);
    if (!(error instanceof SvcMqttError)) throw new Error('it was migrated');
    expect(error.code).toBe('DATABASE_SCHEMA');
    expect(error.toLine()).toMatch(/newer.*2100-01-01/);
  });
});

test('migrations raced by several processes are applied once', async () => {
  const { config, sql } = await emptyDatabase('postgres');
  const workers = Array.from({ length: 4 }, () => startWorker(config, 1));
  const results = await Promise.all(workers.map((worker) => worker.done));
  expect(results.map((result) => result.applied).sort()).toEqual([0, 0, 0, names.length]);
  expect(await Promise.all(workers.map((worker) => worker.ended))).toEqual([0, 0, 0, 0]);
  expect(await sql('select count(*)::int as n from devices')).toEqual([{ n: 4 }]);
  expect(await sql('select count(*)::int as n from svc_mqtt_migrations')).toEqual([{ n: names.length }]);
});

test('a replica says that it waits for another', async () => {
  const { db } = await emptyDatabase('postgres');
  const other = await db.connect();
  await other.query('begin');
  await other.query('select pg_advisory_xact_lock(5312479610287)');
  const steps: string[] = [];
  const migrated = migrate(db, {
    onProgress: ({ step }) => {
      steps.push(step);
      // What it waits for ends only now that it has said so.
      if (steps.length === 1) void other.end();
    },
  });
  expect((await migrated).applied).toEqual(names);
  expect(steps[0]).toContain('another replica');
});

test('a table of that name that is somebody else is left alone', async () => {
  const { db, sql } = await emptyDatabase('postgres');
  await sql('create table devices (id int, colour text)');
  const error = await migrate(db).catch((thrown: unknown) => thrown);
  if (!(error instanceof SvcMqttError)) throw new Error('it was migrated');
  expect(error.code).toBe('DATABASE_SCHEMA');
  expect(error.toLine()).toContain('devices');
  expect(await sql('select * from devices')).toEqual([]);
  expect((await readMigrationStatus(db)).applied).toEqual([]);
});

test('a user without the right is told so', async () => {
  const { db, sql, config } = await emptyDatabase('postgres');
  const role = `guest_${new URL(config.databaseUrl ?? '').pathname.slice(-8)}`;
  await sql(`create role ${role}`);
  await sql(`alter database ${new URL(config.databaseUrl ?? '').pathname.slice(1)} set role = ${role}`);
  const error = await migrate(db).catch((thrown: unknown) => thrown);
  if (!(error instanceof SvcMqttError)) throw new Error('it was migrated');
  expect(error.code).toBe('DATABASE_REFUSED');
});

test('a database that answers no more is not waited for without end', async () => {
  database = await openTestDatabase('postgres', { timeoutMs: 1_000 });
  const { db } = database;
  const other = await db.connect();
  await other.query('begin');
  await other.query('lock table svc_mqtt_migrations in access exclusive mode');
  for (const ask of [migrate, readMigrationStatus]) {
    await expect(ask(db)).rejects.toMatchObject({
      code: 'DATABASE_UNREACHABLE',
      message: expect.stringContaining('DATABASE_TIMEOUT_MS'),
    });
  }
  await other.end();
  expect(await migrate(db)).toEqual({ applied: [], converted: 0, warnings: [] });
});

test('a server logs what the database warns of', async () => {
  const { config, db, sql } = await emptyDatabase('postgres');
  await sql('create schema svc_mqtt; create view svc_mqtt.device as select 1 as x');
  const lines: string[] = [];
  const log = openLog({
    level: 'info',
    format: 'json',
    destination: { write: (line) => void lines.push(line) },
  });
  await bringSchemaUpToDate({ ...config, migrate: true } as Config, db, log);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { event: 'schema_migrated', level: 30 },
    {
      event: 'schema_incomplete',
      level: 40,
      reason: expect.stringMatching(/schema svc_mqtt.*docs\/sql\.md/),
    },
  ]);
});
