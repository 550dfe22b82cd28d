import { type IncomingMessage, request } from 'node:http';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createApiKey, parseApiKey, type Role, revokeApiKey } from '../../src/db/api-keys.js';
import { type HttpConfig, type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { kinds, openTestDatabase, type TestDatabase } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { startPostgres } from '../support/postgres.js';
import { type Answer, allReady, call, openConfig, openTestLog } from './support.js';

interface AuditPage {
  entries: Record<string, unknown>[];
  next_cursor: string | null;
}

interface Faults {
  errors?: { field: string }[];
}

const cli = { kind: 'cli', name: 'tester' } as const;
const token = 'a-token-of-enough-length';

/** Starts the API on a database, with a log of its own. */
async function startApi(database: TestDatabase, config: Partial<HttpConfig> = {}) {
  const { log, lines } = openTestLog();
  const api = await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: { ...openConfig, ...config },
    log,
    readiness: () => allReady,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    view: openIdleFleet(),
    version: '1.2.3',
    policyRisks: async () => [],
  });
  return { api, lines };
}

const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });
const get = (api: RunningHttp, path: string, key?: string) =>
  call(api.port, 'GET', path, key === undefined ? {} : bearer(key));

/** Opens a stream of events, answered once its head is there. */
function openStream(port: number, key?: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const shown = key === undefined ? {} : bearer(key);
    const outgoing = request({ port, host: '127.0.0.1', path: '/events', agent: false, ...shown }, resolve);
    outgoing.on('error', reject);
    outgoing.end();
  });
}

describe.each(kinds)('with keys in %s, the API', (kind) => {
  let database: TestDatabase;
  let api: RunningHttp;
  let lines: Record<string, unknown>[];
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate api_keys, audit_log, devices'));
  afterEach(() => api?.close());
  afterAll(() => database?.close());

  const start = async (config: Partial<HttpConfig> = {}) => {
    ({ api, lines } = await startApi(database, config));
  };
  const create = async (name: string, role: Role) =>
    (await createApiKey(database.db, cli, { name, role })).key;
  const expectRefused = (answer: Answer, detail: RegExp) => {
    expect(answer.json()).toMatchObject({
      status: 401,
      code: 'UNAUTHENTICATED',
      detail: expect.stringMatching(detail),
    });
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="svc-mqtt", error="invalid_token"');
  };

  it('asks a key of this machine, too, as soon as there is one, and even when it is gone again', async () => {
    await start();
    expect((await get(api, '/devices')).status).toBe(200);
    const made = await call(api.port, 'POST', '/api-keys', { body: '{"name":"first","role":"operator"}' });
    expect(made.status).toBe(201);
    const { key } = made.json<{ key: string }>();
    await expect.poll(async () => (await get(api, '/devices')).status).toBe(401);
    const refused = await get(api, '/devices');
    expect(refused.json()).toMatchObject({ detail: expect.stringContaining('svc-mqtt api-key create') });
    expect(refused.headers['www-authenticate']).toBe('Bearer realm="svc-mqtt"');
    expect((await get(api, '/devices', key)).status).toBe(200);
    for (const path of ['/healthz', '/openapi.json', '/docs/index.html']) {
      expect((await get(api, path)).status).toBe(200);
    }
    expect(lines.filter(({ event }) => event === 'api_keys_required')).toHaveLength(1);

    expect((await call(api.port, 'DELETE', '/api-keys/first', bearer(key))).status).toBe(204);
    expectRefused(await get(api, '/devices', key), /^The key "first" is revoked$/);
    expect((await get(api, '/devices')).status).toBe(401);
    await database.sql('delete from api_keys');
    await expect.poll(async () => (await get(api, '/devices')).status).toBe(200);
  });

  it('shows an enroller what this key has added, and nothing else', async () => {
    const [one, two, viewer] = [
      await create('one', 'enroller'),
      await create('two', 'enroller'),
      await create('three', 'viewer'),
    ];
    await start();
    const add = (id: string, key: string) =>
      call(api.port, 'POST', '/devices', { ...bearer(key), body: JSON.stringify({ type: 'sensor', id }) });
    const added = await add('mine', one);
    expect(added.status).toBe(200);
    expect(added.json()).toMatchObject({ id: 'mine', mqtt_password: expect.any(String) });
    expect((await add('other', two)).status).toBe(200);
    expect((await add('none', viewer)).status).toBe(403);

    const shown = await get(api, '/devices/mine', one);
    expect(shown.json()).toMatchObject({ id: 'mine', last_seen_at: null });
    expect((await get(api, '/devices/mine', viewer)).json()).toEqual(shown.json());
    const [other, nobody] = [await get(api, '/devices/other', one), await get(api, '/devices/nobody', one)];
    expect(other.status).toBe(404);
    expect(other.text.replace('other', 'nobody')).toBe(nobody.text);
    for (const path of [
      '/devices',
      '/devices?type=sensor',
      '/connections',
      '/events',
      '/metrics',
      '/stats',
    ]) {
      expect((await get(api, path, one)).status, path).toBe(403);
    }
    for (const [method, path] of [
      ['DELETE', '/devices/mine'],
      ['PATCH', '/devices/mine'],
      ['POST', '/devices/mine/rotate'],
      ['POST', '/devices/mine/enable'],
      ['POST', '/devices/mine/remove'],
    ] as const) {
      expect((await call(api.port, method, path, { ...bearer(one), body: '{}' })).status, path).toBe(403);
    }
    // A later key of the name is another key.
    await revokeApiKey(database.db, cli, 'one');
    expect((await get(api, '/devices/mine', await create('one', 'enroller'))).status).toBe(404);
  });

  it('wins over API_ALLOW_UNAUTHENTICATED, and says so', async () => {
    await create('ci', 'viewer');
    await start({ apiAllowUnauthenticated: true });
    expect((await get(api, '/devices')).status).toBe(401);
    expect(lines.map(({ event }) => event)).toContain('http_unauthenticated_ignored');
  });

  it('refuses a key that was revoked elsewhere, has expired or is deleted, within seconds', async () => {
    await start();
    const [revoked, expired, deleted] = [
      await create('a', 'viewer'),
      await create('b', 'viewer'),
      await create('c', 'viewer'),
    ];
    for (const key of [revoked, expired, deleted]) expect((await get(api, '/devices', key)).status).toBe(200);
    await revokeApiKey(database.db, cli, 'a');
    await database.sql("update api_keys set expires_at = now() - interval '1 second' where name = 'b'");
    await database.sql("delete from api_keys where name = 'c'");
    const statusOf = async (key: string) => (await get(api, '/devices', key)).status;
    for (const key of [revoked, expired, deleted]) {
      await expect.poll(() => statusOf(key)).toBe(401);
    }
    expectRefused(await get(api, '/devices', revoked), /^The key "a" is revoked$/);
    expectRefused(await get(api, '/devices', expired), /^The key "b" has expired$/);
    expectRefused(await get(api, '/devices', deleted), /^The key or token is not valid here$/);
  });

  it.each([
    'update api_keys set revoked_at = now()',
    "delete from api_keys where name = 'a'",
    'truncate api_keys',
  ])('refuses a key after %s however short a time ago it was used', async (statement) => {
    await start({ apiToken: token });
    const key = await create('a', 'viewer');
    // For the server no time passes.
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    expect((await get(api, '/stats', key)).status).toBe(200);
    await database.sql(statement);
    await expect.poll(async () => (await get(api, '/stats', key)).status).toBe(401);
  });

  it('lets a key expire at its time', async () => {
    await start();
    const expiresAt = new Date(Date.now() + 3_000);
    const { key } = await createApiKey(database.db, cli, { name: 'short', role: 'viewer', expiresAt });
    expect((await get(api, '/devices', key)).status).toBe(200);
    await expect.poll(async () => (await get(api, '/devices', key)).status).toBe(401);
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAt.getTime());
  });

  it('ends a stream of events when its key is revoked, and no other', async () => {
    // Before the start: a server without keys lets everyone here in until it is told of the first one.
    const [gone, stays] = [await create('gone', 'viewer'), await create('stays', 'viewer')];
    await start();
    const streams = [await openStream(api.port, gone), await openStream(api.port, stays)] as const;
    const closed = { gone: false, stays: false };
    const watch = (stream: IncomingMessage, name: 'gone' | 'stays') =>
      stream
        .on('error', () => {})
        .on('close', () => {
          closed[name] = true;
        })
        .resume();
    watch(streams[0], 'gone');
    watch(streams[1], 'stays');
    await revokeApiKey(database.db, cli, 'gone');
    await expect.poll(() => closed.gone, { timeout: 30_000 }).toBe(true);
    expect(closed.stays).toBe(false);
    streams[1].destroy();
  });

  it('ends a stream of events that was opened without a key as soon as keys are required', async () => {
    await start();
    const stream = await openStream(api.port);
    let closed = false;
    stream
      .on('error', () => {})
      .on('close', () => {
        closed = true;
      })
      .resume();
    await create('first', 'viewer');
    await expect.poll(() => closed, { timeout: 30_000 }).toBe(true);
  });

  it('notes who did what from where, and shows it a page at a time', async () => {
    const key = await create('ops', 'operator');
    await start({ apiToken: token });
    const post = (name: string, credential: string) =>
      call(api.port, 'POST', '/api-keys', {
        body: JSON.stringify({ name, role: 'viewer' }),
        ...bearer(credential),
      });
    expect((await post('by-key', key)).status).toBe(201);
    expect((await post('by-token', token)).status).toBe(201);
    expect((await post('by-key', key)).json()).toMatchObject({ status: 409, code: 'API_KEY_EXISTS' });
    expect((await call(api.port, 'DELETE', '/api-keys/by-key', bearer(key))).status).toBe(204);
    const entries: Record<string, unknown>[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const path: string = `/audit?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const page: AuditPage = (await get(api, path, key)).json();
      expect(page.entries.length).toBeLessThanOrEqual(2);
      entries.push(...page.entries);
      cursor = page.next_cursor;
    }
    const address = '127.0.0.1';
    expect(entries).toMatchObject([
      { action: 'api-key.revoke', target: 'by-key', actor_kind: 'api-key', actor: 'ops', address },
      { action: 'api-key.create', target: 'by-token', actor_kind: 'api-token', actor: 'API_TOKEN', address },
      { action: 'api-key.create', target: 'by-key', actor_kind: 'api-key', actor: 'ops', address },
      { action: 'api-key.create', target: 'ops', actor_kind: 'cli', actor: 'tester', address: null },
    ]);
    const list = (await get(api, '/api-keys?limit=1', key)).json<{
      api_keys: Record<string, unknown>[];
      next_cursor: string;
    }>();
    expect(list.api_keys).toMatchObject([{ name: 'by-token', role: 'viewer', last_used_at: null }]);
    const rest = (await get(api, `/api-keys?limit=1&cursor=${list.next_cursor}`, key)).json();
    expect(rest).toMatchObject({ api_keys: [{ name: 'ops' }], next_cursor: null });
    await expect
      .poll(async () => database.sql('select name from api_keys where last_used_at is not null'))
      .toEqual([{ name: 'ops' }]);
  });

  it('shows an IPv4 address as such where it listens to IPv6 as well', async () => {
    await start({ listenAddr: ':0' });
    expect((await call(api.port, 'POST', '/devices', { body: '{"type":"sensor"}' })).status).toBe(200);
    const made = await call(api.port, 'POST', '/claims', { body: '{"type":"sensor"}' });
    const { claim } = made.json<{ claim: string }>();
    const redeemed = await call(api.port, 'POST', '/claims/redeem', { body: JSON.stringify({ claim }) });
    expect(redeemed.status).toBe(200);
    const { entries } = (await get(api, '/audit')).json<AuditPage>();
    expect(entries).toHaveLength(3);
    for (const entry of entries) expect(entry.address).toBe('127.0.0.1');
    await expect.poll(() => lines.filter(({ event }) => event === 'http_request').length).toBe(4);
    const addresses = new Set(lines.flatMap(({ remoteAddress }) => remoteAddress ?? []));
    expect([...addresses]).toEqual(['127.0.0.1']);
  });

  it('lets no secret out into logs, answers, the audit log or the list', async () => {
    const key = await create('ops', 'operator');
    const secret = parseApiKey(key)?.secret ?? '';
    await start({ apiToken: token });
    const made = await call(api.port, 'POST', '/api-keys', {
      body: '{"name":"new","role":"viewer"}',
      ...bearer(key),
    });
    const newSecret = parseApiKey(made.json<{ key: string }>().key)?.secret ?? '';
    expect(newSecret).toHaveLength(32);
    const answers = [
      await get(api, '/api-keys?state=all', key),
      await get(api, '/audit', key),
      await get(api, `/devices/${key}`, key),
      await get(api, `/nothing/${key}?key=${key}`, key),
      await call(api.port, 'DELETE', `/api-keys/${key}`, bearer(key)),
      await call(api.port, 'POST', '/api-keys', { body: `{"name":"${key}","role":"x"}`, ...bearer(key) }),
      await get(api, '/devices', `${key}x`),
      await get(api, '/devices', `${token}x`),
      await get(api, '/devices', key.replace(secret, newSecret)),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 404, 404, 404, 400, 401, 401, 401]);
    const logged = JSON.stringify(lines);
    expect(logged).toContain('api_attempt_failed');
    const shown = logged + answers.map(({ text, headers }) => text + JSON.stringify(headers)).join();
    for (const one of [secret, newSecret, token]) expect(shown).not.toContain(one);
    expect(answers[4]?.json()).toMatchObject({ code: 'API_KEY_NOT_FOUND' });
  });

  it('slows down who guesses, and nobody who has a key', async () => {
    const key = await create('ci', 'viewer');
    await start({ apiToken: token });
    expect((await get(api, '/devices', key)).status).toBe(200);
    const statuses: number[] = [];
    for (let guess = 0; guess < 15; guess += 1)
      statuses.push((await get(api, '/devices', `guess${guess}`)).status);
    expect(statuses.slice(0, 10)).toEqual(Array(10).fill(401));
    expect(statuses.at(-1)).toBe(429);
    const limited = await get(api, '/devices', 'guess');
    expect(limited.json()).toMatchObject({ status: 429, code: 'TOO_MANY_REQUESTS' });
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0);
    // The token may be of a person's choice, so the right one must not tell itself apart now.
    expect((await get(api, '/devices', token)).status).toBe(429);
    expect((await get(api, '/devices', key)).status).toBe(200);
    expect((await get(api, '/devices')).status).toBe(401);
    expect((await get(api, '/healthz')).status).toBe(200);
    expect(lines.map(({ event }) => event)).toContain('api_attempts_limited');
  });

  it('refuses times that the calendar or the database does not have, naming the field', async () => {
    const key = await create('ops', 'operator');
    await start();
    for (const time of ['2027-12-31T23:59:60Z', '0000-01-01T00:00:00Z', '2027-02-30T00:00:00Z', 'soon']) {
      const post = (path: string, body: object) =>
        call(api.port, 'POST', path, { body: JSON.stringify({ ...body, expires_at: time }), ...bearer(key) });
      const answers = [
        await get(api, `/audit?since=${time}`, key),
        await post('/api-keys', { name: 'new', role: 'viewer' }),
        await post('/claims', { type: 'sensor' }),
      ];
      const fields = answers.map((answer) => [answer.status, answer.json<Faults>().errors?.[0]?.field]);
      expect([time, ...fields]).toEqual([time, [400, 'since'], [400, 'expires_at'], [400, 'expires_at']]);
    }
  });

  it('counts no right key as an attempt, nor many requests at once with one that it does not know yet', async () => {
    const keys = await Promise.all(Array.from({ length: 25 }, (_, index) => create(`k${index}`, 'viewer')));
    await start();
    for (const key of keys) expect((await get(api, '/devices', key)).status).toBe(200);
    const unknown = await create('new', 'viewer');
    const answers = await Promise.all(keys.map(() => get(api, '/devices', unknown)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  });

  it('bounds the requests of one key, and of that key only', async () => {
    const [busy, idle] = [await create('busy', 'viewer'), await create('idle', 'viewer')];
    await start({ apiRequestsPerSecond: 5 });
    const answers = await Promise.all(Array.from({ length: 40 }, () => get(api, '/devices', busy)));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]?.json()).toMatchObject({
      detail: expect.stringMatching(/^The key "busy" .* 5 requests/),
    });
    expect(refused[0]?.headers['retry-after']).toBe('1');
    expect((await get(api, '/devices', idle)).status).toBe(200);
    await expect.poll(async () => (await get(api, '/devices', busy)).status).toBe(200);
  });
});

describe('while PostgreSQL is away, the API', () => {
  const releases: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  it('knows the keys it knew, and the token; another key has to wait', async () => {
    const server = await startPostgres();
    releases.push(() => server.stop());
    const database = await openTestDatabase('postgres', { adminUrl: server.url, timeoutMs: 2_000 });
    releases.push(() => database.close());
    const { api } = await startApi(database, { apiToken: token });
    releases.push(() => api.close());
    const known = (await createApiKey(database.db, cli, { name: 'known', role: 'viewer' })).key;
    expect((await get(api, '/stats', known)).status).toBe(200);
    for (const [name, leave, comeBack] of [
      ['frozen', async () => server.pause(), async () => server.resume()],
      ['ended', () => server.halt(), () => server.start()],
    ] as const) {
      const other = (await createApiKey(database.db, cli, { name, role: 'viewer' })).key;
      await leave();
      expect((await get(api, '/stats', known)).status).toBe(200);
      expect((await get(api, '/stats', token)).status).toBe(200);
      const waiting = await get(api, '/stats', other);
      expect(waiting.json()).toMatchObject({ status: 503, code: 'DATABASE_UNREACHABLE' });
      expect(Number(waiting.headers['retry-after'])).toBeGreaterThan(0);
      expect((await get(api, '/stats')).status).toBe(401);
      await comeBack();
      await expect
        .poll(async () => (await get(api, '/devices', known)).status, { timeout: 20_000 })
        .toBe(200);
      await expect.poll(async () => (await get(api, '/stats', other)).status, { timeout: 20_000 }).toBe(200);
    }
  });
});
