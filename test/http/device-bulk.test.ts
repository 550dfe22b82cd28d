import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createApiKey, type Role } from '../../src/db/api-keys.js';
import { listAudit } from '../../src/db/audit-log.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { hashSecret } from '../../src/db/secrets.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openTestDatabase, type TestDatabase, testActor } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

let database: TestDatabase;
let api: RunningHttp;
const log = openTestLog();
const keys = {} as Record<Role, string>;
beforeAll(async () => {
  database = await openTestDatabase('postgres');
  for (const role of ['operator', 'provisioner'] as const)
    keys[role] = (await createApiKey(database.db, testActor, { name: role, role })).key;
  api = await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: openConfig,
    log: log.log,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    readiness: () => allReady,
    view: openIdleFleet(),
    version: '1.2.3',
    policyRisks: async () => [],
    limits: { maxBulkBytes: 524_288 },
  });
});
afterAll(async () => {
  await api?.close();
  await database?.close();
});
beforeEach(() => database.sql('truncate devices, audit_log restart identity'));

const salt = Buffer.alloc(16, 7);
const secret = (text: string) => ({
  secret_salt: salt.toString('hex'),
  secret_hash: hashSecret(salt, Buffer.from(text)).toString('hex'),
});
const post = (path: string, body: object | string, key = keys.operator) =>
  call(api.port, 'POST', path, {
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { authorization: `Bearer ${key}` },
  });
const stored = async () =>
  (await database.sql<{ id: string }>('select id from devices order by id')).map(({ id }) => id);

describe('an export of devices with hashes', () => {
  it('is restored by an import as it was, secrets that are being replaced among it', async () => {
    await addDevices(database.db, testActor, { type: 'sensor', count: 5, metadata: { site: 'lyon' } });
    await database.sql(`update devices set previous_secret_hash = secret_hash, previous_secret_salt = secret_salt,
      previous_secret_until = now() + interval '1 day', previous_secret_until_used = true, revoked_at = now()
      where id = (select min(id) from devices)`);
    const columns = `id, type, metadata, date_trunc('milliseconds', created_at) as created_at, expires_at,
      date_trunc('milliseconds', revoked_at) as revoked_at, secret_hash, secret_salt, previous_secret_hash,
      previous_secret_salt, date_trunc('milliseconds', previous_secret_until) as until, previous_secret_until_used`;
    const read = () => database.sql(`select ${columns} from devices order by id`);
    const before = await read();
    const first = await post('/devices/export', { limit: 3, type: 'sensor', metadata: { site: 'lyon' } });
    expect(first.status).toBe(200);
    const second = await post('/devices/export', {
      limit: 3,
      type: 'sensor',
      metadata: { site: 'lyon' },
      cursor: first.json().next_cursor,
    });
    expect(second.json().next_cursor).toBeNull();
    const pages = [first, second].map((page) => page.json<{ devices: object[] }>().devices);
    const devices = pages.flat();
    expect(devices).toHaveLength(5);
    expect((await post('/devices/export', { type: 'other' })).json().devices).toEqual([]);
    await database.sql('truncate devices');
    const answer = await post('/devices/import', { devices });
    expect(answer.status).toBe(200);
    expect(answer.json()).toMatchObject({ existing: [] });
    expect(answer.json().imported).toHaveLength(5);
    expect(await read()).toEqual(before);
  });

  it('is noted in the audit log, a page an entry, and nobody gets hashes without it', async () => {
    await addDevices(database.db, testActor, { type: 'sensor', count: 3 });
    await database.sql('truncate audit_log');
    const ids = await stored();
    await post('/devices/export', { limit: 2 });
    expect(await listAudit(database.db, { limit: 10 })).toMatchObject([
      {
        actor: 'operator',
        action: 'device.export',
        target: '*',
        details: { count: 2, first: ids[0], last: ids[1] },
      },
    ]);
    await database.sql('alter table audit_log rename to away');
    const answer = await post('/devices/export', {});
    await database.sql('alter table away rename to audit_log');
    expect(answer.status).toBeGreaterThanOrEqual(500);
    expect(answer.text).not.toContain('secret_hash');
  });

  it('is for operators', async () => {
    for (const path of ['/devices/export', '/devices/import'])
      expect((await post(path, {}, keys.provisioner)).json()).toMatchObject({
        status: 403,
        code: 'FORBIDDEN',
      });
  });
});

describe('an import of devices', () => {
  it('that is refused costs no connection of the pool', async () => {
    await addDevices(database.db, testActor, { type: 'sensor', id: 'b' });
    let removed = 0;
    const count = () => {
      removed += 1;
    };
    database.db.pool.on('remove', count);
    onTestFinished(() => void database.db.pool.off('remove', count));
    const devices = [{ id: 'b', type: 'sensor', ...secret('b') }];
    expect((await post('/devices/import', { devices })).json()).toMatchObject({ status: 409 });
    expect(removed).toBe(0);
  });

  it('is all or none, and names each device whose id is taken', async () => {
    await addDevices(database.db, testActor, { type: 'sensor', id: 'b' });
    const devices = ['a', 'b', 'c'].map((id) => ({ id, type: 'sensor', ...secret(id) }));
    const answer = await post('/devices/import', { devices });
    expect(answer.json()).toMatchObject({
      status: 409,
      code: 'DEVICE_EXISTS',
      detail: '1 of 3 devices exist already; nothing was imported',
      suggestion: 'Leave them out, or send skip_existing',
      errors: [{ field: 'devices.1.id', problem: 'exists already' }],
    });
    expect(await stored()).toEqual(['b']);
    const skipping = await post('/devices/import', { devices, skip_existing: true });
    expect(skipping.json()).toMatchObject({ imported: [{ id: 'a' }, { id: 'c' }], existing: ['b'] });
    expect(await stored()).toEqual(['a', 'b', 'c']);
    const entries = await listAudit(database.db, { limit: 2 });
    expect(entries).toMatchObject([
      { action: 'device.import', target: 'c', actor: 'operator' },
      { action: 'device.import', target: 'a', actor: 'operator' },
    ]);
  });

  it.each([
    [{ id: 'a/b' }, 'devices.0.id'],
    [{ id: '' }, 'devices.0.id'],
    [{ type: '\u0007' }, 'devices.0.type'],
    [{ metadata: { 'a b': 'c' } }, 'devices.0.metadata.a b'],
    [{ created_at: 'yesterday' }, 'devices.0.created_at'],
    [{ expires_at: '2027-01-31T12:00:00' }, 'devices.0.expires_at'],
    [{ secret_salt: 'abcd' }, 'devices.0.secret_salt'],
    [{ secret_salt: 'g'.repeat(32) }, 'devices.0.secret_salt'],
    [{ secret_salt: 'a'.repeat(33) }, 'devices.0.secret_salt'],
    [{ secret_hash: 'A'.repeat(64) }, 'devices.0.secret_hash'],
    [{ secret_hash: undefined }, 'secret_hash'],
    [{ previous_secret_hash: 'a'.repeat(64) }, 'devices.0.previous_secret_until'],
    [{ previous_secret_until: '2027-01-31T12:00:00Z' }, 'devices.0.previous_secret_until'],
    [{ secret: 'x' }, 'secret'],
  ])('refuses %j, naming the field', async (fields, field) => {
    const device = { id: 'a', type: 'sensor', ...secret('a'), ...fields };
    const answer = await post('/devices/import', { devices: [device], skip_existing: true });
    expect(answer.json()).toMatchObject({ status: 400, code: 'INPUT_INVALID', errors: [{ field }] });
    expect(await stored()).toEqual([]);
  });

  it('refuses an id that is there twice, too many devices and too long a body', async () => {
    const one = { id: 'a', type: 'sensor', ...secret('a') };
    const twice = await post('/devices/import', { devices: [one, one], skip_existing: true });
    expect(twice.json()).toMatchObject({ status: 400, errors: [{ field: 'devices.1.id' }] });
    expect((await post('/devices/import', { devices: [] })).status).toBe(400);
    const many = await post('/devices/import', { devices: Array.from({ length: 1_001 }, () => one) });
    expect(many.json()).toMatchObject({ status: 400, detail: 'devices must have at most 1000 entries' });
    const long = await post('/devices/import', ' '.repeat(524_289));
    expect(long.json()).toMatchObject({ status: 413, detail: expect.stringContaining('512 KiB') });
    expect((await post('/devices', ' '.repeat(16_385))).json()).toMatchObject({
      status: 413,
      detail: expect.stringContaining('16 KiB'),
    });
    expect(await stored()).toEqual([]);
  });

  it('is answered 429 while as many are under way as there may be, and then again', async () => {
    const send = (id: string) =>
      post('/devices/import', { devices: [{ id, type: 'sensor', ...secret(id) }] });
    const first = await database.db.orm.transaction(async (held) => {
      await held.execute('lock table devices in exclusive mode');
      const waiting = [send('a'), send('b')];
      await expect
        .poll(
          async () =>
            await database.sql(`select from pg_stat_activity where wait_event_type = 'Lock'
              and query like '%insert into "devices"%'`),
          { timeout: 20_000 },
        )
        .toHaveLength(2);
      const third = await send('c');
      expect(third.json()).toMatchObject({ status: 429, code: 'TOO_MANY_REQUESTS' });
      expect(third.headers['retry-after']).toBe('1');
      expect((await post('/devices/export', {})).status).toBe(429);
      return waiting;
    });
    for (const answer of await Promise.all(first)) expect(answer.status).toBe(200);
    expect((await send('c')).status).toBe(200);
  });
});
