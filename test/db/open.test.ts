import net from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDatabase } from '../../src/db/open.js';
import { SvcMqttError } from '../../src/errors.js';
import { startPostgres, type TestPostgres } from '../support/postgres.js';
import { openTestDatabase, silentLog, until } from './databases.js';

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const open = (databaseUrl: string, databaseTimeoutMs = 2_000) =>
  openDatabase({ databaseUrl, dataDir: '', databasePoolSize: 3, databaseTimeoutMs }, silentLog);

async function refusal(databaseUrl: string): Promise<SvcMqttError> {
  const result = await open(databaseUrl, 700).catch((error: unknown) => error);
  if (result instanceof SvcMqttError) return result;
  throw new Error(`no SvcMqttError: ${String(result)}`);
}

function changed(change: (url: URL) => void): string {
  const url = new URL(server.url);
  change(url);
  return url.href;
}

describe('a database that cannot be opened is told in one line with where and what to do', () => {
  test('wrong password', async () => {
    const error = await refusal(changed((url) => (url.password = 'WrongWrong')));
    expect(error.code).toBe('DATABASE_REFUSED');
    expect(error.toLine()).toContain(`postgres://127.0.0.1:${server.port}/postgres`);
    expect(error.toLine()).toContain('password');
    expect(error.toLine()).not.toContain('WrongWrong');
  });

  test('no password', async () => {
    const error = await refusal(changed((url) => (url.password = '')));
    expect(error.code).toBe('DATABASE_REFUSED');
    expect(error.toLine()).toContain('password');
  });

  test('no such database', async () => {
    const error = await refusal(changed((url) => (url.pathname = '/nowhere')));
    expect(error.code).toBe('DATABASE_REFUSED');
    expect(error.toLine()).toContain('"nowhere"');
    expect(error.toLine()).toContain('createdb');
  });

  test('nobody listens', async () => {
    const error = await refusal('postgres://u:Secret99@127.0.0.1:1/d');
    expect(error.code).toBe('DATABASE_UNREACHABLE');
    expect(error.toLine()).toContain('postgres://127.0.0.1:1/d');
    expect(error.toLine()).not.toContain('Secret99');
  });

  test('no such host', async () => {
    const error = await refusal('postgres://u:Secret99@no-such-host.invalid/d');
    expect(error.code).toBe('DATABASE_UNREACHABLE');
    expect(error.toLine()).toContain('no-such-host.invalid');
  });

  test('someone listens and says nothing', async () => {
    const silent = net.createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as net.AddressInfo;
    const error = await refusal(`postgres://u:Secret99@127.0.0.1:${port}/d`);
    expect(error.code).toBe('DATABASE_UNREACHABLE');
    silent.close();
  });

  test('TLS is required and not offered', async () => {
    const error = await refusal(changed((url) => url.searchParams.set('sslmode', 'require')));
    expect(error.code).toBe('DATABASE_UNREACHABLE');
    expect(error.toLine()).toContain('SSL');
  });

  test('a certificate file is missing', async () => {
    const error = await refusal(
      changed((url) => (url.search = '?sslmode=verify-full&sslrootcert=/no/such/ca.pem')),
    );
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.toLine()).toContain('/no/such/ca.pem');
  });
});

test.each(['disable', 'prefer', 'allow'])('sslmode=%s reaches a server without TLS', async (mode) => {
  const db = await open(changed((url) => url.searchParams.set('sslmode', mode)));
  expect((await db.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  await db.close();
});

test('a DSN with a socket directory and a search_path', async () => {
  const db = await open(
    `host=${server.socketDirectory} port=${server.port} user=postgres search_path=pg_catalog`,
  );
  expect((await db.pool.query('show search_path')).rows).toEqual([{ search_path: 'pg_catalog' }]);
  await db.close();
});

test('a query that takes too long is given up and the pool stays usable', async () => {
  const db = await open(server.url, 300);
  await expect(db.pool.query('select pg_sleep(20)')).rejects.toThrow(/timeout/i);
  const results = await Promise.all(Array.from({ length: 5 }, () => db.pool.query('select 1 as one')));
  expect(results.map((result) => result.rows[0].one)).toEqual([1, 1, 1, 1, 1]);
  await db.close();
});

test('the pool is bounded, and closing is idempotent', async () => {
  const db = await open(server.url);
  const clients = await Promise.all([1, 2, 3].map(() => db.pool.connect()));
  await expect(db.pool.connect()).rejects.toThrow(/timeout/i);
  for (const client of clients) client.release();
  await Promise.all([db.close(), db.close()]);
});

test('connections that the server ends do not end the process', async () => {
  const database = await openTestDatabase('postgres', { adminUrl: server.url });
  await Promise.all([1, 2, 3].map(() => database.db.pool.query('select pg_sleep(0.05)')));
  expect(database.db.pool.idleCount).toBeGreaterThan(0);
  await database.sql(
    'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()',
  );
  await until('they are gone', () => database.db.pool.totalCount === 0);
  expect((await database.db.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  await database.close();
});
