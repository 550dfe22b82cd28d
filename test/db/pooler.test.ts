import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import { revokeDevices } from '../../src/db/devices/device-revocation.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { startChangeFeed } from '../../src/db/feed/change-feed.js';
import { migrate } from '../../src/db/migrate.js';
import { countReplicas } from '../../src/db/replicas.js';
import { fakeIo } from '../cli/support.js';
import { hasPgbouncer, startPgbouncer, type TestPgbouncer } from '../support/pgbouncer.js';
import { withClient } from '../support/postgres.js';
import { openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';

const missing = !hasPgbouncer && process.env.CI === undefined;

it('pgbouncer is installed', ({ skip }) => {
  skip(missing, 'pgbouncer is not installed: apt-get install pgbouncer');
});

const poolSize = 4;

describe.skipIf(missing)('through a pooler by transaction', () => {
  let database: TestDatabase;
  let pgbouncer: TestPgbouncer;
  let db: Database;

  beforeAll(async () => {
    database = await openTestDatabase('postgres', { migrated: false });
    pgbouncer = await startPgbouncer(database.config.databaseUrl ?? '', poolSize);
    db = await openDatabase({ ...database.config, databaseUrl: pgbouncer.url }, silentLog);
    // As the Go service left it, so that the conversion is tried as well.
    await database.sql(
      `create table devices (id text, device_type text, mqtt_user text, mqtt_password text, created_at timestamptz)`,
    );
    await database.sql(`insert into devices values ('old', 'pump', 'old', 'secret', now())`);
    expect((await migrate(db)).converted).toBe(1);
  });
  afterAll(async () => {
    await db?.close();
    await pgbouncer?.stop();
    await database?.close();
  });

  /** What each server connection has, asked by somebody else. */
  async function readServerConnections(): Promise<unknown[]> {
    const clients: pg.Client[] = [];
    const ask = async (taken: number): Promise<unknown[]> => {
      if (taken === poolSize) return [];
      return await withClient(pgbouncer.url, async (client) => {
        clients.push(client);
        // A transaction keeps its server connection, so that the next one gets another.
        await client.query('begin');
        const { rows } = await client.query(
          `select current_setting('statement_timeout') as statement_timeout, current_setting('lock_timeout') as lock_timeout,
             current_setting('search_path') as search_path,
             (select count(*)::int from pg_listening_channels()) as channels,
             (select count(*)::int from pg_prepared_statements) as statements,
             (select count(*)::int from pg_locks where locktype = 'advisory') as locks`,
        );
        return [...rows, ...(await ask(taken + 1))];
      });
    };
    return await ask(0);
  }

  test('nothing is left on connections that others get', async () => {
    const heard: string[] = [];
    const feed = await startChangeFeed(db, silentLog);
    onTestFinished(() => feed.close());
    feed.follow('devices', { onChanged: (ids = []) => heard.push(...ids) });
    expect(db.pooled).toBe(true);
    const devices = await addDevices(db, testActor, { type: 'sensor', count: 20 });
    await Promise.all(devices.map(({ id }) => revokeDevices(db, testActor, [id])));
    await until('all are told', () => devices.every(({ id }) => heard.includes(id)));
    await database.sql('delete from devices where id = $1', ['old']);
    await until('the deletion', () => heard.includes('old'));
    expect(await readServerConnections()).toEqual(
      Array.from({ length: poolSize }, () => ({
        statement_timeout: '0',
        lock_timeout: '0',
        search_path: '"$user", public',
        channels: 0,
        statements: 0,
        locks: 0,
      })),
    );
  });

  test('replicas cannot be counted by their connections', async () => {
    expect(await countReplicas(db)).toBeUndefined();
  });

  test('the doctor says so, and what bounds the time of queries', async () => {
    const examine = async () => {
      const io = fakeIo({ env: { DATABASE_URL: pgbouncer.url, NATS_URL: 'nats://127.0.0.1:1' } });
      await runProgram(['doctor', '--json'], io);
      const { checks } = JSON.parse(io.out()) as { checks: { check: string; status: string }[] };
      return checks.filter(({ check }) => check === 'pooler');
    };
    expect(await examine()).toMatchObject([{ check: 'pooler', status: 'warning' }]);
    const name = new URL(pgbouncer.url).pathname.slice(1);
    await database.sql(`alter database ${name} set statement_timeout = '30s'`);
    await database.sql(
      `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = '${name}'`,
    );
    // The pooler may give out a connection of before once more.
    await until('the pooler has others', async () => (await examine()).length === 1);
    expect(await examine()).toMatchObject([{ check: 'pooler', status: 'ok' }]);
  });
});

test('a connection to PostgreSQL itself is told from one through a pooler', async () => {
  const database = await openTestDatabase('postgres');
  onTestFinished(() => database.close());
  expect(database.db.pooled).toBe(false);
  const { rows } = await database.db.pool.query('show statement_timeout');
  expect(rows).toEqual([{ statement_timeout: '30s' }]);
});
