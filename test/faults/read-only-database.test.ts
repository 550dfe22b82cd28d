import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../cli/support.js';
import { call as callApi } from '../http/support.js';
import { createDatabase, startPostgres, type TestPostgres, withClient } from '../support/postgres.js';
import { launchServer } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { type Gateway, startGateway, tryConnect, until } from './gateway.js';

const doctorsWords = /takes no changes.*Name the primary server in DATABASE_URL/;

describe.each([
  {
    how: 'is set to read-only',
    begin: (postgres: TestPostgres) =>
      withClient(postgres.url, async (client) => {
        await client.query('alter system set default_transaction_read_only = on');
        await client.query('select pg_reload_conf()');
      }),
    end: (postgres: TestPostgres) =>
      withClient(postgres.url, async (client) => {
        await client.query('alter system reset default_transaction_read_only');
        await client.query('select pg_reload_conf()');
      }),
  },
  {
    how: 'is made a standby',
    async begin(postgres: TestPostgres) {
      await postgres.halt();
      await writeFile(path.join(postgres.dataDirectory, 'standby.signal'), '');
      await postgres.start();
    },
    end: (postgres: TestPostgres) =>
      withClient(postgres.url, async (client) => {
        await client.query('select pg_promote()');
      }),
  },
])('a database that $how', ({ begin, end }) => {
  const later = undoAfterAll();
  let postgres: TestPostgres;
  let gateway: Gateway;
  let emptyUrl: string;
  let key: string;
  let claim: string;
  let devices: { id: string; password: string }[];

  const call = async (method: string, route: string, options: { key?: string; body?: object } = {}) => {
    // Each on a connection of its own: one that was kept may be closed by the server just then, when the machine is busy.
    const answer = await callApi(gateway.server.httpPort, method, route, {
      headers: options.key === undefined ? {} : { authorization: `Bearer ${options.key}` },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    });
    return { status: answer.status, body: answer.text === '' ? {} : JSON.parse(answer.text) };
  };
  const databaseDetail = async () => (await call('GET', '/readyz')).body.database.detail as string;

  beforeAll(async () => {
    postgres = await startPostgres();
    later(() => postgres.stop());
    emptyUrl = await createDatabase(postgres.url);
    gateway = await startGateway(later, { databaseUrl: await createDatabase(postgres.url) });
    key = (await call('POST', '/api-keys', { body: { name: 'ops', role: 'operator' } })).body.key;
    claim = (await call('POST', '/claims', { key, body: { type: 'pump' } })).body.claim;
    devices = [];
    for (let n = 0; n < 3; n += 1) {
      const { body } = await call('POST', '/devices', { key, body: { type: 'sensor' } });
      devices.push({ id: body.id, password: body.mqtt_password });
    }
    await begin(postgres);
    await until('it is told', async () => (await databaseDetail()).includes('takes no changes'));
  });

  test('lets devices log in, also of a server that starts meanwhile, and is told as what it is', async () => {
    const [seen, unseen] = devices;
    if (!seen || !unseen) throw new Error('no devices');
    expect(await tryConnect(gateway.server.mqttPort, seen)).toBe(0);
    await gateway.server.end();
    await gateway.restart();
    expect(gateway.server.count('database_read_only')).toBe(1);
    for (const device of [seen, unseen]) expect(await tryConnect(gateway.server.mqttPort, device)).toBe(0);
    expect(await tryConnect(gateway.server.mqttPort, { ...seen, password: 'wrong' })).toBe(4);
    const ready = await call('GET', '/readyz');
    expect([ready.status, ready.body.database.status]).toEqual([200, 'ok']);
    expect(ready.body.database.detail).toContain('takes no changes');
    expect((await call('GET', '/stats', { key })).body.database.detail).toContain('takes no changes');
  });

  test('refuses by name what the API would change, and answers the rest', async () => {
    const id = devices[0]?.id ?? '';
    const refused: [string, string, object?][] = [
      ['POST', '/devices', { type: 'sensor' }],
      ['PATCH', `/devices/${id}`, { metadata: { a: 'b' } }],
      ['POST', `/devices/${id}/rotate`],
      ['POST', `/devices/${id}/enable`],
      ['DELETE', `/devices/${id}`],
      ['PUT', '/policies/pump', { publish: ['raw/{id}'], subscribe: [] }],
      ['POST', '/claims', { type: 'pump' }],
      ['POST', '/api-keys', { name: 'other', role: 'viewer' }],
      ['POST', '/claims/redeem', { claim }],
    ];
    for (const [method, route, body] of refused) {
      const answer = await call(method, route, { key, ...(body === undefined ? {} : { body }) });
      expect([route, answer.status, answer.body.code]).toEqual([route, 503, 'DATABASE_READ_ONLY']);
      expect(answer.body.detail).toContain('takes no changes');
    }
    // That the use of a key cannot be written keeps nobody from being looked up.
    for (let request = 0; request < 5; request += 1) {
      expect((await call('GET', `/devices/${id}`, { key })).status).toBe(200);
      expect(
        (await call('GET', '/devices', { key: `svcmqtt_${'a'.repeat(16)}_${'b'.repeat(32)}` })).status,
      ).toBe(401);
    }
  });

  test('is named by the commands', { timeout: 300_000 }, async () => {
    const id = devices[0]?.id ?? '';
    const env = { DATABASE_URL: gateway.databaseUrl };
    const commands: [string[], string?][] = [
      [['device', 'add', '--type', 'sensor']],
      [['device', 'import', '-'], 'id,type,secret\na1,sensor,0123456789abcdef0123456789abcdef\n'],
      [['device', 'revoke', id, '--yes']],
      [['policy', 'set', 'pump', '--publish', 'raw/{id}']],
      [['api-key', 'create', '--name', 'another', '--role', 'viewer']],
    ];
    for (const [args, input] of commands) {
      const { status, stdout, stderr } = await runCli(args, env, input);
      expect([args.join(' '), status, stdout]).toEqual([args.join(' '), 1, '']);
      expect(stderr).toMatch(doctorsWords);
    }
    expect((await runCli(['device', 'list'], env)).status).toBe(0);
    expect((await runCli(['migrate'], env)).status).toBe(0);
    expect((await runCli(['doctor', '--no-message'], env)).stdout).toMatch(/takes no changes/);
  });

  test('whose schema is not up to date is refused by name', async () => {
    const migrated = await runCli(['migrate'], { DATABASE_URL: emptyUrl });
    expect([migrated.status, migrated.stderr]).toEqual([1, expect.stringMatching(doctorsWords)]);
    const server = launchServer({ DATABASE_URL: emptyUrl, NATS_URL: gateway.nats.url });
    expect(await server.ended).toBe(1);
    expect(server.stderr.at(-1)).toMatch(doctorsWords);
  });

  test('is used again when it takes changes', async () => {
    await end(postgres);
    await until('it is told', async () => (await databaseDetail()) === 'answers');
    const { status, body } = await call('POST', '/devices', { key, body: { type: 'sensor' } });
    expect(status).toBe(200);
    expect(await tryConnect(gateway.server.mqttPort, { id: body.id, password: body.mqtt_password })).toBe(0);
    // A revocation by plain SQL is heard of again.
    await withClient(gateway.databaseUrl, (client) =>
      client.query('update devices set revoked_at = now() where id = $1', [body.id]),
    );
    await until(
      'the device is refused',
      async () =>
        (await tryConnect(gateway.server.mqttPort, { id: body.id, password: body.mqtt_password })) === 5,
    );
  });
});
