import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openTestDatabase, type TestDatabase } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

const { log, lines } = openTestLog();
const token = 'a-token-of-at-least-16-characters';
const headers = { authorization: `Bearer ${token}` };
let database: TestDatabase;

async function start(apiToken: string | undefined): Promise<RunningHttp> {
  return await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: { ...openConfig, apiToken },
    log,
    readiness: () => allReady,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    version: '1.2.3',
    policyRisks: async () => [],
    view: openIdleFleet(),
  });
}

beforeAll(async () => {
  database = await openTestDatabase('postgres');
});
afterAll(async () => {
  await database?.close();
});

/** Runs `work` on an API of its own: the failed attempts of an address are remembered by the API. */
async function withApi(
  work: (api: RunningHttp) => Promise<void>,
  apiToken: string | undefined = token,
): Promise<void> {
  const api = await start(apiToken);
  try {
    await work(api);
  } finally {
    await api.close();
  }
}

interface ClaimAnswer {
  id: string;
  claim: string;
  expires_at: string;
}

async function create(api: RunningHttp, body: object = {}): Promise<ClaimAnswer> {
  const answer = await call(api.port, 'POST', '/claims', {
    headers,
    body: JSON.stringify({ type: 'sensor', ...body }),
  });
  expect(answer.status).toBe(201);
  return answer.json<ClaimAnswer>();
}

const redeem = (api: RunningHttp, body: object, more: Record<string, string> = {}) =>
  call(api.port, 'POST', '/claims/redeem', { headers: more, body: JSON.stringify(body) });

describe('claims over HTTP', () => {
  it('are made, redeemed without a key, listed and revoked', () =>
    withApi(async (api) => {
      const made = await create(api, { uses: 3, expires_at: new Date(Date.now() + 60_000).toISOString() });
      expect(made).toMatchObject({
        type: 'sensor',
        state: 'active',
        uses: 3,
        uses_left: 3,
        revoked_at: null,
      });
      const { claim, ...shown } = made;

      const answer = await redeem(api, { claim, metadata: { serial: 'A-17' } });
      expect(answer.status).toBe(200);
      const device = answer.json<{ id: string; type: string; mqtt_user: string; mqtt_password: string }>();
      expect(device).toMatchObject({ type: 'sensor', mqtt_user: device.id });
      const [credentials] = await loadCredentials(database.db, [device.id]);
      expect(credentials && matchSecret(credentials, Buffer.from(device.mqtt_password))).toBe('current');

      const listed = (await call(api.port, 'GET', '/claims', { headers })).json();
      expect(listed).toEqual({ claims: [{ ...shown, uses_left: 2 }], next_cursor: null });

      expect((await call(api.port, 'DELETE', `/claims/${made.id}`, { headers })).status).toBe(204);
      expect((await call(api.port, 'DELETE', `/claims/${made.id}`, { headers })).status).toBe(204);
      expect((await call(api.port, 'DELETE', '/claims/unknown', { headers })).status).toBe(404);
      expect((await call(api.port, 'GET', '/claims', { headers })).json()).toMatchObject({ claims: [] });
      const all = (await call(api.port, 'GET', '/claims?state=all', { headers })).json();
      expect(all).toMatchObject({ claims: [{ id: made.id, state: 'revoked' }] });
      expect((await redeem(api, { claim })).status).toBe(410);
    }));

  it('hold for a day and one device unless asked otherwise', () =>
    withApi(async (api) => {
      const { claim, expires_at } = await create(api);
      const hours = (Date.parse(expires_at) - Date.now()) / 3_600_000;
      expect(hours).toBeGreaterThan(23.9);
      expect(hours).toBeLessThanOrEqual(24);
      expect((await redeem(api, { claim })).status).toBe(200);
      const gone = await redeem(api, { claim });
      expect([gone.status, gone.json().code]).toEqual([410, 'CLAIM_GONE']);
    }));

  it('are managed with a key only', () =>
    withApi(async (api) => {
      for (const [method, path] of [
        ['POST', '/claims'],
        ['GET', '/claims'],
        ['DELETE', '/claims/x'],
      ] as const) {
        expect((await call(api.port, method, path, { body: '{"type":"x"}' })).status, path).toBe(401);
      }
    }));

  it('are answered to whom the API without a token would not answer', () =>
    withApi(async (api) => {
      const { claim } = await create(api, { uses: 2 });
      await withApi(async (local) => {
        const foreign = { 'x-forwarded-for': '203.0.113.9', host: 'gateway.example' };
        const elsewhere = await call(local.port, 'GET', '/claims', { headers: foreign });
        expect(elsewhere.status).toBe(401);
        expect((await redeem(local, { claim }, foreign)).status).toBe(200);
      }, '');
    }));

  it('refuse in the same words whoever does not show one whole, after a while with 429', () =>
    withApi(async (api) => {
      const { id, claim } = await create(api);
      const other = claim.endsWith('a') ? 'b' : 'a';
      const guesses = [`${claim.slice(0, -1)}${other}`, claim.replace(id, 'a'.repeat(16)), id, 'x'];
      const answers = await Promise.all(guesses.map((guess) => redeem(api, { claim: guess })));
      for (const answer of answers) {
        expect(answer.status).toBe(404);
        expect(answer.text).toBe(answers[0]?.text);
      }
      let refused = await redeem(api, { claim: 'x' });
      for (let attempt = 0; attempt < 50 && refused.status === 404; attempt += 1) {
        refused = await redeem(api, { claim: 'x' });
      }
      expect([refused.status, refused.json().code]).toEqual([429, 'TOO_MANY_REQUESTS']);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      // Not even the right one is answered now: otherwise guessing would go on.
      expect((await redeem(api, { claim })).status).toBe(429);
    }));

  it('make many devices of one address at once', () =>
    withApi(async (api) => {
      const { claim } = await create(api, { uses: 60 });
      const answers = await Promise.all(Array.from({ length: 60 }, () => redeem(api, { claim })));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect(new Set(answers.map((answer) => answer.json().id)).size).toBe(60);
    }));

  it.each([
    ['/claims', { uses: 0 }, [{ field: 'uses', problem: 'must be at least 1' }]],
    ['/claims', { type: '\u0007' }, [{ field: 'type', problem: 'must not contain control characters' }]],
    [
      '/claims',
      { expires_at: '2020-01-01T00:00:00Z' },
      [{ field: 'expires_at', problem: 'must be in the future' }],
    ],
    ['/claims', { kind: 'x' }, [{ field: 'kind', problem: 'is not a known field' }]],
    ['/claims/redeem', { claim: undefined }, [{ field: 'claim', problem: 'is missing' }]],
    ['/claims/redeem', { type: 'hub' }, [{ field: 'type', problem: 'is not a known field' }]],
    [
      '/claims/redeem',
      { metadata: { 'a b': 'c' } },
      [{ field: 'metadata.a b', problem: expect.stringContaining('has a key that') }],
    ],
    ['/claims/redeem', { metadata: { a: 5 } }, [{ field: 'metadata.a', problem: 'must be a string' }]],
  ])('POST %s refuses %j', (path, part, errors) =>
    withApi(async (api) => {
      const base = path === '/claims' ? { type: 'sensor' } : { claim: 'x' };
      const body = JSON.stringify({ ...base, ...part });
      const answer = await call(api.port, 'POST', path, { headers, body });
      expect(answer.status).toBe(400);
      expect(answer.json()).toMatchObject({ code: 'INPUT_INVALID', errors });
    }),
  );

  it('are never logged', () =>
    withApi(async (api) => {
      const { claim } = await create(api);
      await redeem(api, { claim });
      await redeem(api, { claim });
      await call(api.port, 'DELETE', `/claims/${claim}`, { headers });
      expect(JSON.stringify(lines)).toContain('claim_redeemed');
      expect(JSON.stringify(lines)).not.toContain(claim.split('_')[2]);
    }));
});
