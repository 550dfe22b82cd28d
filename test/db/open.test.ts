import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import { SvcMqttError } from '../../src/errors.js';
import { startPostgres, type TestPostgres, withClient } from '../support/postgres.js';
import { openTestDatabase, silentLog, until } from './databases.js';

let server: TestPostgres;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const open = (databaseUrl: string, databaseTimeoutMs = 2_000) =>
  openDatabase({ databaseUrl, dataDir: '', databasePoolSize: 3, databaseTimeoutMs }, silentLog);

async function refusal(databaseUrl: string, timeoutMs = 20_000): Promise<SvcMqttError> {
  const result = await open(databaseUrl, timeoutMs).catch((error: unknown) => error);
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
    const error = await refusal(`postgres://u:Secret99@127.0.0.1:${port}/d`, 700);
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
  const db = await open(server.url, 2_000);
  await expect(db.pool.query('select pg_sleep(20)')).rejects.toThrow(/timeout/i);
  const results = await Promise.all(Array.from({ length: 5 }, () => db.pool.query('select 1 as one')));
  expect(results.map((result) => result.rows[0].one)).toEqual([1, 1, 1, 1, 1]);
  await db.close();
});

test('a query that is given up ends in the server too, so that a locked table uses up no connections', async () => {
  const db = await open(server.url, 2_000);
  await withClient(server.url, async (client) => {
    await client.query('create table locked (id int)');
    await client.query('begin');
    await client.query('lock table locked');
    const busy = async () => {
      const { rows } = await client.query(
        `select count(*)::int as count from pg_stat_activity where query like 'select from locked%'`,
      );
      return rows[0].count as number;
    };
    for (let round = 0; round < 4; round += 1) {
      const queries = Array.from({ length: 3 }, () => db.pool.query('select from locked'));
      const outcomes = await Promise.allSettled(queries);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    }
    // 12 were begun.
    await until('they have ended', async () => (await busy()) <= 3);
    await client.query('rollback');
    await client.query('drop table locked');
  });
  await db.close();
});

test('what is reserved does not wait for others, and is closed with the rest', async () => {
  const db = await open(server.url, 20_000);
  const reserved = db.reserve(1);
  const slow = Array.from({ length: 6 }, () => db.pool.query('select pg_sleep(1)').then(() => 'slow'));
  const first = await Promise.race([...slow, reserved.pool.query('select 1').then(() => 'reserved')]);
  expect(first).toBe('reserved');
  await Promise.all(slow);
  await db.close();
  await expect(reserved.pool.query('select 1')).rejects.toThrow();
});

test('the pool is bounded, and closing is idempotent', async () => {
  const db = await open(server.url);
  const clients = await Promise.all([1, 2, 3].map(() => db.pool.connect()));
  await expect(db.pool.connect()).rejects.toThrow(/timeout/i);
  for (const client of clients) client.release();
  await Promise.all([db.close(), db.close()]);
});

test('a connection that the server ends in the middle of a transaction does not end the process', async () => {
  const database = await openTestDatabase('postgres', { adminUrl: server.url });
  const client = await database.db.pool.connect();
  await client.query('begin');
  await database.sql(
    'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()',
  );
  await until('it is noticed', () =>
    client.query('select 1').then(
      () => false,
      () => true,
    ),
  );
  client.release(true);
  expect((await database.db.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  await database.close();
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

describe.skipIf(spawnSync('openssl', ['version']).error !== undefined)(
  'with a server that offers TLS',
  () => {
    let secure: TestPostgres;
    let certificate: string;
    beforeAll(async () => {
      secure = await startPostgres();
      certificate = path.join(secure.dataDirectory, 'server.crt');
      const key = path.join(secure.dataDirectory, 'server.key');
      execFileSync(
        'openssl',
        [
          ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
          ...['-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certificate],
        ],
        { stdio: 'ignore' },
      );
      const owner = statSync(secure.dataDirectory);
      for (const file of [key, certificate]) {
        chownSync(file, owner.uid, owner.gid);
        chmodSync(file, 0o600);
      }
      await withClient(secure.url, async (client) => {
        await client.query('alter system set ssl = on');
        await client.query('select pg_reload_conf()');
      });
      await until('TLS is on', () =>
        withClient(secure.url, async (client) => (await client.query('show ssl')).rows[0].ssl === 'on'),
      );
    });
    afterAll(() => secure?.stop());

    const secureUrl = (host: string, mode: string, rootCertificate?: string) => {
      const url = new URL(secure.url);
      url.hostname = host;
      url.searchParams.set('sslmode', mode);
      if (rootCertificate !== undefined) url.searchParams.set('sslrootcert', rootCertificate);
      return url.href;
    };

    test.each([
      ['disable', '127.0.0.1', false, false],
      ['prefer', '127.0.0.1', false, true],
      ['require', '127.0.0.1', false, true],
      ['require', '127.0.0.1', true, true],
      ['verify-ca', '127.0.0.1', true, true],
      ['verify-full', 'localhost', true, true],
    ])('sslmode=%s to %s is let in', async (mode, host, withCertificate, encrypted) => {
      const db = await open(secureUrl(host, mode, withCertificate ? certificate : undefined));
      const { rows } = await db.pool.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
      await db.close();
      expect(rows).toEqual([{ ssl: encrypted }]);
    });

    let reloads = 0;
    /** Has the server take connections from 127.0.0.1 and localhost as pg_hba.conf then says. */
    const setServer = async (ssl: string, kind: string, leastTls = 'TLSv1.2') => {
      const rules = ['127.0.0.1/32', '::1/128'].map((from) => `${kind} all all ${from} scram-sha-256`);
      const file = path.join(secure.dataDirectory, 'pg_hba.conf');
      writeFileSync(file, ['local all all trust', ...rules, ''].join('\n'));
      const ask = async (text: string) => {
        const { port, socketDirectory: host } = secure;
        const client = new pg.Client({ host, port, user: 'postgres', database: 'postgres' });
        await client.connect();
        try {
          return (await client.query(text)).rows;
        } finally {
          await client.end();
        }
      };
      // What is reloaded last is seen when the rest holds as well.
      const seen = 1_000_000 + ++reloads;
      await ask(`alter system set ssl = ${ssl}`);
      await ask(`alter system set ssl_min_protocol_version = '${leastTls}'`);
      await ask(`alter system set log_min_duration_statement = ${seen}`);
      await ask('select pg_reload_conf()');
      await until('the server has it', async () => {
        const [row] = await ask(
          `select current_setting('ssl') as ssl, setting::int as seen from pg_settings where name = 'log_min_duration_statement'`,
        );
        return row.ssl === ssl && row.seen === seen;
      });
    };
    afterEach(async () => {
      if (reloads > 0) await setServer('on', 'host');
    });

    /** As libpq does: encrypted or not, or refused. */
    const outcomes = [
      ['on', 'host', { disable: false, allow: false, prefer: true, require: true, 'verify-full': true }],
      ['on', 'hostssl', { disable: 0, allow: true, prefer: true, require: true, 'verify-full': true }],
      ['on', 'hostnossl', { disable: false, allow: false, prefer: false, require: 0, 'verify-full': 0 }],
      ['off', 'host', { disable: false, allow: false, prefer: false, require: 0, 'verify-full': 0 }],
      ['off', 'hostssl', { disable: 0, allow: 0, prefer: 0, require: 0, 'verify-full': 0 }],
    ] as const;
    const failedHandshake = { disable: false, allow: false, prefer: false, require: 0, 'verify-full': 0 };

    const isEncrypted = async (db: Database) => {
      const { rows } = await db.pool.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
      return rows[0]?.ssl as boolean;
    };

    test.each([
      ...outcomes.map(([ssl, kind, expected]) => ({ ssl, kind, leastTls: 'TLSv1.2', expected })),
      { ssl: 'on', kind: 'host', leastTls: 'TLSv1.3', expected: failedHandshake },
    ])('TLS $ssl, $leastTls, and a $kind rule: each mode as in libpq', async (server) => {
      const { ssl, kind, leastTls, expected } = server;
      await setServer(ssl, kind, leastTls);
      const found: Record<string, boolean | number> = {};
      for (const mode of Object.keys(expected)) {
        const url = secureUrl('localhost', mode, mode === 'verify-full' ? certificate : undefined);
        const db = await open(`${url}&ssl_max_protocol_version=TLSv1.2`, 20_000).catch(() => undefined);
        found[mode] = db === undefined ? 0 : await isEncrypted(db);
        await db?.close();
      }
      expect(found).toEqual(expected);
    });

    test.each(['allow', 'prefer'] as const)('sslmode=%s is decided for each connection', async (mode) => {
      const db = await open(secureUrl('127.0.0.1', mode), 20_000);
      try {
        for (const [ssl, kind, expected] of [...outcomes.slice(0, 4), ...outcomes.slice(0, 4).reverse()]) {
          await setServer(ssl, kind);
          db.dropIdleConnections();
          await until('they are gone', () => db.pool.totalCount === 0);
          expect([ssl, kind, await isEncrypted(db)]).toEqual([ssl, kind, expected[mode]]);
          const client = await db.connect();
          const many = await client.query(`select repeat('x', 3000000) as long`);
          expect(many.rows[0].long).toHaveLength(3_000_000);
          expect((await client.query('select length($1)', ['y'.repeat(3_000_000)])).rows).toEqual([
            { length: 3_000_000 },
          ]);
          await client.end();
        }
      } finally {
        await db.close();
      }
    });

    test.each([
      ['verify-ca', 'localhost', false],
      ['verify-full', 'localhost', false],
      ['verify-full', '127.0.0.1', true],
    ])('sslmode=%s to %s is refused, saying what to correct', async (mode, host, withCertificate) => {
      const error = await refusal(secureUrl(host, mode, withCertificate ? certificate : undefined));
      expect(error.code).toBe('DATABASE_UNREACHABLE');
      expect(error.toLine()).toContain('sslrootcert');
    });

    test('sslrootcert=system verifies the server without an sslmode, too', async () => {
      const url = new URL(secure.url);
      url.hostname = 'localhost';
      url.searchParams.set('sslrootcert', 'system');
      const error = await refusal(url.href);
      expect(error.code).toBe('DATABASE_UNREACHABLE');
      expect(error.toLine()).toContain('certificate');
    });
  },
);
