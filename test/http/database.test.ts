import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { type ChangeFeed, startChangeFeed } from '../../src/db/feed/change-feed.js';
import { migrate } from '../../src/db/migrate.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { borrowPostgres, createDatabase, startPostgres } from '../support/postgres.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

interface Page {
  devices: { id: string }[];
  next_cursor: string | null;
}

const { log, lines } = openTestLog();

/** Opens a database with the current schema and starts the API on it. */
async function startOn(config: {
  databaseUrl: string | undefined;
  dataDir: string;
  databaseTimeoutMs?: number;
}) {
  const db = await openDatabase({ databasePoolSize: 4, databaseTimeoutMs: 5_000, ...config }, log);
  await migrate(db);
  const feed = await startChangeFeed(db, log);
  const api = await startHttp({
    db,
    feed,
    config: openConfig,
    log,
    readiness: () => allReady,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    view: openIdleFleet(),
    version: '1.2.3',
    policyRisks: async () => [],
  });
  return { db, feed, api };
}

const openers = {
  async embedded() {
    const dataDir = await mkdtemp(join(tmpdir(), 'svc-mqtt-http-'));
    const opened = await startOn({ databaseUrl: undefined, dataDir });
    return { ...opened, release: () => rm(dataDir, { recursive: true, force: true }) };
  },
  async postgres() {
    const server = await borrowPostgres();
    const opened = await startOn({ databaseUrl: await createDatabase(server.url), dataDir: '/nonexistent' });
    return { ...opened, release: server.release };
  },
};

describe.each(['embedded', 'postgres'] as const)('on the database %s, the API', (kind) => {
  let db: Database;
  let api: RunningHttp;
  let feed: ChangeFeed;
  let release: (() => Promise<void>) | undefined;

  beforeAll(async () => {
    ({ db, feed, api, release } = await openers[kind]());
  });
  afterAll(async () => {
    await api?.close();
    await feed?.close();
    await db?.close();
    await release?.();
  });

  const post = (type: string) => call(api.port, 'POST', '/devices', { body: JSON.stringify({ type }) });

  it('adds a device whose password is kept as a hash and in no log line', async () => {
    const device = (await post('sensor ä 😀')).json<Record<string, string>>();
    expect(Object.keys(device)).toEqual(['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at']);
    expect(device).toMatchObject({ type: 'sensor ä 😀', id: expect.stringMatching(/^[a-z2-7]{16}$/) });
    expect(device.mqtt_user).toBe(device.id);
    const [credentials] = await loadCredentials(db, [device.id ?? '']);
    if (credentials === undefined) throw new Error('the device is not stored');
    expect(matchSecret(credentials, Buffer.from(device.mqtt_password ?? ''))).toBe('current');
    expect(JSON.stringify(lines)).not.toContain(device.mqtt_password);
    const { rows } = await db.pool.query('select row_to_json(d)::text as row from devices d');
    expect(JSON.stringify(rows)).not.toContain(device.mqtt_password);
  });

  it('stores nothing of what it refuses', async () => {
    const count = async () => (await db.pool.query('select count(*) from devices')).rows[0].count;
    const before = await count();
    for (const type of ['', 'x'.repeat(129), '😀'.repeat(129), 'a\0b', '\u007f', '\ud800']) {
      expect((await post(type)).status).toBe(400);
    }
    expect(await count()).toBe(before);
    expect((await post('😀'.repeat(128))).status).toBe(200);
  });

  it('lists, shows and revokes what is stored', async () => {
    const added: string[] = [];
    for (let index = 0; index < 5; index += 1) added.push((await post('paged')).json<{ id: string }>().id);
    const listed: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const query = `type=paged&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const page: Page = (await call(api.port, 'GET', `/devices?${query}`)).json();
      listed.push(...page.devices.map(({ id }) => id));
      cursor = page.next_cursor;
    }
    expect(listed).toEqual([...added].sort());

    const path = `/devices/${added[0]}`;
    expect((await call(api.port, 'GET', path)).json()).toMatchObject({ id: added[0], revoked_at: null });
    expect((await call(api.port, 'DELETE', path)).status).toBe(204);
    const details = (await call(api.port, 'GET', path)).json();
    const { ledger, ...revoked } = details;
    expect(ledger).toBeNull();
    expect(revoked.revoked_at).toEqual(expect.any(String));
    expect((await call(api.port, 'DELETE', path)).status).toBe(204);
    expect((await call(api.port, 'GET', path)).json()).toEqual(details);
    const gone = await call(api.port, 'GET', '/devices?type=paged&state=revoked');
    expect(gone.json()).toEqual({ devices: [revoked], next_cursor: null });
    await call(api.port, 'DELETE', `/devices/${added[1]}?reason=stolen%20%F0%9F%98%80`);
    const { entries } = (await call(api.port, 'GET', `/audit?device=${added[1]}`)).json<{
      entries: { action: string; details: object }[];
    }>();
    expect(entries[0]).toMatchObject({ action: 'device.revoke', details: { reason: 'stolen 😀' } });
    for (const reason of ['', '%0A', 'x'.repeat(1_025)])
      expect((await call(api.port, 'DELETE', `/devices/${added[2]}?reason=${reason}`)).status).toBe(400);

    const begins = async (prefix: string, more = '') =>
      (await call(api.port, 'GET', `/devices?id_prefix=${prefix}${more}`))
        .json<Page>()
        .devices.map(({ id }) => id);
    for (const order of ['', '&sort=created'])
      expect(await begins(String(added[3]).slice(0, 12), order)).toEqual([added[3]]);
    expect(await begins('%25')).toEqual([]);
    for (const id of ['nobody', '%00', '%27%3B--', 'x'.repeat(3_000)]) {
      expect((await call(api.port, 'DELETE', `/devices/${id}`)).status).toBe(404);
      expect((await call(api.port, 'GET', `/devices/${id}`)).status).toBe(404);
    }
  });
});

describe('while PostgreSQL is away, the API', () => {
  const releases: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  it('answers 503, and as before once it is back', async () => {
    const server = await startPostgres();
    releases.push(() => server.stop());
    const config = { databaseUrl: server.url, dataDir: '/nonexistent', databaseTimeoutMs: 2_000 };
    const { db, feed, api } = await startOn(config);
    releases.push(
      () => db.close(),
      () => feed.close(),
      () => api.close(),
    );
    const expectAway = async () => {
      for (const [method, path, body] of [
        ['POST', '/devices', '{"type":"sensor"}'],
        ['GET', '/devices', ''],
        ['GET', '/devices/a', ''],
        ['DELETE', '/devices/a', ''],
      ] as const) {
        const answer = await call(api.port, method, path, { body });
        expect(answer.status).toBe(503);
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
        expect(answer.json()).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
        expect(answer.text).not.toContain('127.0.0.1');
      }
    };
    const expectBack = () =>
      expect
        .poll(async () => (await call(api.port, 'GET', '/devices')).status, { timeout: 60_000 })
        .toBe(200);

    await expectBack();
    server.pause();
    await expectAway();
    server.resume();
    await expectBack();
    await server.halt();
    await expectAway();
    await server.start();
    await expectBack();
    expect(lines.find(({ event }) => event === 'http_request_failed')).toMatchObject({ level: 50 });
  });
});
