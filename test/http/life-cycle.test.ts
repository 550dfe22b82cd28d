import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { kinds, openTestDatabase, type TestDatabase } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

type Json = Record<string, unknown>;

describe.each(kinds)('the life of a device over HTTP, on %s', (kind) => {
  const { log, lines } = openTestLog();
  let database: TestDatabase;
  let api: RunningHttp;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
    api = await startHttp({
      db: database.db,
      feed: await database.feed(),
      config: openConfig,
      log,
      readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
      readiness: () => allReady,
      view: openIdleFleet(),
      version: '1.2.3',
      policyRisks: async () => [],
    });
  });
  afterAll(async () => {
    await api?.close();
    await database?.close();
  });

  const send = (method: string, path: string, body?: Json) =>
    call(api.port, method, path, body === undefined ? {} : { body: JSON.stringify(body) });
  const add = async (fields: Json) =>
    (await send('POST', '/devices', { type: 'sensor', ...fields })).json<Json>();
  const secretOf = async (id: unknown, password: unknown) => {
    const [credentials] = await loadCredentials(database.db, [String(id)]);
    return credentials && matchSecret(credentials, Buffer.from(String(password)));
  };
  const audit = async (id: unknown) =>
    database.sql('select action, actor_kind, address, details from audit_log where target = $1 order by id', [
      id,
    ]);

  it('begins with an id, an expiry and metadata, where they are given', async () => {
    const plain = await add({});
    expect(Object.keys(plain)).toEqual(['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at']);
    const wanted = {
      id: 'My-1',
      expires_at: '2099-01-31T13:00:00+01:00',
      metadata: { site: 'lyon', rack: '7' },
    };
    const device = await add(wanted);
    const stored = { ...wanted, expires_at: '2099-01-31T12:00:00.000Z' };
    expect(device).toMatchObject(stored);
    expect((await send('GET', '/devices/My-1')).json()).toMatchObject({
      ...stored,
      last_secret_used: null,
      previous_secret_until: null,
      previous_secret_until_used: false,
    });
    expect(await send('POST', '/devices', { type: 'sensor', id: 'My-1' })).toMatchObject({ status: 409 });
    expect(await audit('My-1')).toEqual([
      {
        action: 'device.add',
        actor_kind: 'local',
        address: '127.0.0.1',
        details: { type: 'sensor', expires_at: stored.expires_at, metadata: wanted.metadata },
      },
    ]);
  });

  it('goes on with other metadata and another expiry', async () => {
    const { id } = await add({ metadata: { a: '1', b: '2' } });
    const path = `/devices/${id}`;
    const changed = await send('PATCH', path, {
      metadata: { b: null, c: 'ü' },
      expires_at: '2099-01-31T12:00:00Z',
    });
    expect(changed).toMatchObject({ status: 200 });
    expect(changed.json()).toMatchObject({
      metadata: { a: '1', c: 'ü' },
      expires_at: '2099-01-31T12:00:00.000Z',
    });
    expect((await send('GET', path)).json()).toEqual({ ...changed.json<object>(), ledger: null });
    expect((await send('PATCH', path, {})).json()).toEqual(changed.json());
    expect((await send('PATCH', path, { expires_at: null })).json()).toMatchObject({
      expires_at: null,
      metadata: { a: '1', c: 'ü' },
    });
    for (const [body, field] of [
      [{ type: 'other' }, 'type'],
      [{ expires_at: '2020-01-31T12:00:00Z' }, 'expires_at'],
      [{ expires_at: 5 }, 'expires_at'],
      [{ metadata: { 'a b': 'c' } }, 'metadata.a b'],
      [{ metadata: { a: 'b\u0000' } }, 'metadata.a'],
      [{ metadata: { a: 1 } }, 'metadata.a'],
    ] as const) {
      const answer = await send('PATCH', path, body);
      expect(answer.status, JSON.stringify(body)).toBe(400);
      expect(answer.json<{ detail: string }>().detail).toContain(field);
    }
    expect((await audit(id)).map(({ action }) => action)).toEqual(['device.add', 'device.set', 'device.set']);
    expect((await send('PATCH', '/devices/nobody', {})).status).toBe(404);
  });

  it('has its secret replaced, at once or with a grace', async () => {
    const { id, mqtt_password: first } = await add({});
    const graceful = (
      await send('POST', `/devices/${id}/rotate`, { grace_seconds: 3_600, until_used: true })
    ).json<Json>();
    expect(graceful).toEqual({
      id,
      type: 'sensor',
      mqtt_user: id,
      mqtt_password: expect.stringMatching(/^[a-z2-7]{32}$/),
      previous_secret_until: expect.any(String),
      previous_secret_until_used: true,
    });
    expect(Date.parse(String(graceful.previous_secret_until)) - Date.now()).toBeGreaterThan(3_500_000);
    expect(await secretOf(id, first)).toBe('previous');
    expect(await secretOf(id, graceful.mqtt_password)).toBe('current');
    const sudden = (await send('POST', `/devices/${id}/rotate`)).json<Json>();
    expect(sudden).toMatchObject({ previous_secret_until: null, previous_secret_until_used: false });
    expect(await secretOf(id, first)).toBeUndefined();
    expect(await secretOf(id, graceful.mqtt_password)).toBeUndefined();
    expect(await secretOf(id, sudden.mqtt_password)).toBe('current');
    expect(JSON.stringify([lines, await audit(id)])).not.toContain(String(sudden.mqtt_password));
    expect((await audit(id)).map(({ action }) => action)).toEqual([
      'device.add',
      'device.rotate',
      'device.rotate',
    ]);
    for (const body of [
      { grace_seconds: 0 },
      { grace_seconds: 31_536_001 },
      { until_used: true },
      { grace: '1d' },
    ]) {
      expect((await send('POST', `/devices/${id}/rotate`, body)).status, JSON.stringify(body)).toBe(400);
    }
    expect(await secretOf(id, sudden.mqtt_password)).toBe('current');
    expect((await send('POST', '/devices/nobody/rotate')).status).toBe(404);
  });

  it('tells the field that keeps it from being changed', async () => {
    const { id } = await add({
      metadata: Object.fromEntries(Array.from({ length: 32 }, (_, at) => [`k${at}`, 'v'])),
    });
    for (const [method, path, body, field, problem] of [
      ['PATCH', '', { metadata: { 'bad key': 'x' } }, 'metadata.bad key', /^has a key that may contain only/],
      ['PATCH', '', { metadata: { k1: '\u0007' } }, 'metadata.k1', /^must not contain control characters$/],
      ['PATCH', '', { metadata: { one: 'more' } }, 'metadata', /^must not have more than 32 entries$/],
      ['POST', '/rotate', { until_used: true }, 'until_used', /^needs a grace/],
    ] as const) {
      const answer = await send(method, `/devices/${id}${path}`, body);
      expect(answer.json()).toMatchObject({
        ...{ status: 400, code: 'INPUT_INVALID' },
        errors: [{ field, problem: expect.stringMatching(problem) }],
      });
    }
  });

  it('is interrupted by a revocation that can be ended', async () => {
    const { id } = await add({});
    expect((await send('DELETE', `/devices/${id}`)).status).toBe(204);
    const enabled = await send('POST', `/devices/${id}/enable`);
    expect(enabled).toMatchObject({ status: 200 });
    expect(enabled.json()).toMatchObject({ id, revoked_at: null });
    expect((await send('POST', `/devices/${id}/enable`)).status).toBe(200);
    expect((await audit(id)).map(({ action }) => action)).toEqual([
      'device.add',
      'device.revoke',
      'device.enable',
    ]);
    expect((await send('POST', '/devices/nobody/enable')).status).toBe(404);
  });

  it('ends for good by a removal, revoked or not, which leaves the id free', async () => {
    for (const revokes of [false, true]) {
      await add({ id: 'gone', metadata: { a: 'b' } });
      if (revokes) await send('DELETE', '/devices/gone');
      expect(await send('POST', '/devices/gone/remove')).toMatchObject({ status: 204, text: '' });
      expect((await send('GET', '/devices/gone')).status).toBe(404);
    }
    const again = await send('POST', '/devices/gone/remove');
    expect(again).toMatchObject({ status: 404 });
    expect(again.json()).toMatchObject({ code: 'DEVICE_NOT_FOUND' });
    const actions = (await audit('gone')).map(({ action }) => action);
    expect(actions).toEqual(['device.add', 'device.remove', 'device.add', 'device.revoke', 'device.remove']);
    expect(lines.filter(({ event }) => event === 'device_removed')).toHaveLength(2);
    expect(await add({ id: 'gone' })).toMatchObject({ id: 'gone' });
  });

  it('is not removed while a row of another table refers to it', async () => {
    await add({ id: 'held' });
    await database.sql('create table pumps (device text references devices (id))');
    await database.sql(`insert into pumps values ('held')`);
    const refused = await send('POST', '/devices/held/remove');
    expect(refused.status).toBe(409);
    expect(refused.json()).toMatchObject({
      code: 'DEVICE_IN_USE',
      title: 'The device is in use',
      detail: expect.stringContaining('table pumps'),
      suggestion: expect.stringContaining('Revoke it instead'),
    });
    await database.sql('drop table pumps');
    expect((await send('POST', '/devices/held/remove')).status).toBe(204);
  });

  it('can be changed and shown when SQL has written metadata that is no text', async () => {
    await add({ id: 'odd' });
    await database.sql(
      `update devices set metadata = '{"a": {"b": [1]}, "n": 5, "s": "x"}' where id = 'odd'`,
    );
    const metadata = { a: '{"b":[1]}', n: '5', s: 'x' };
    const shown = await send('PATCH', '/devices/odd', { expires_at: '2099-01-31T12:00:00Z' });
    expect([shown.status, shown.json()]).toMatchObject([200, { id: 'odd', metadata }]);
    expect((await send('GET', '/devices/odd')).json()).toMatchObject({ metadata });
    const [exported] = (await send('POST', '/devices/export', { type: 'sensor', limit: 1000 }))
      .json<{ devices: Json[] }>()
      .devices.filter(({ id }) => id === 'odd');
    expect(exported).toMatchObject({ metadata });
    const refused = await send('PATCH', '/devices/odd', { metadata: { s: 'y', n: '6' } });
    const errors = [{ field: 'metadata.a', problem: 'must be a string' }];
    expect([refused.status, refused.json()]).toMatchObject([400, { errors }]);
    const mended = await send('PATCH', '/devices/odd', { metadata: { a: null, n: '6' } });
    expect([mended.status, mended.json()]).toMatchObject([200, { metadata: { n: '6', s: 'x' } }]);
  });

  it('can be found by its metadata and by its state', async () => {
    const list = async (query: string) =>
      (await send('GET', `/devices?type=found&${query}`))
        .json<{ devices: { id: string }[] }>()
        .devices.map(({ id }) => id);
    for (const [id, site] of [
      ['f1', 'lyon'],
      ['f2', 'lyon'],
      ['f3', 'a=b c'],
    ] as const) {
      await add({ id, type: 'found', metadata: { site, floor: id } });
    }
    expect(await list('metadata=site=lyon')).toEqual(['f1', 'f2']);
    expect(await list('metadata=site=lyon&metadata=floor%3Df2')).toEqual(['f2']);
    expect(await list(`metadata=${encodeURIComponent('site=a=b c')}`)).toEqual(['f3']);
    expect(await list('metadata=site=')).toEqual([]);
    expect(await list('metadata=site=lyon&metadata=site=lyon')).toEqual(['f1', 'f2']);
    await database.sql(`update devices set expires_at = now() - interval '1 second' where id = 'f1'`);
    expect(await list('state=expired')).toEqual(['f1']);
    expect(await list('state=active')).toEqual(['f2', 'f3']);
    expect(await list('state=all')).toEqual(['f1', 'f2', 'f3']);
  });
});
