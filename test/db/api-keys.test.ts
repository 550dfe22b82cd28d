import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  checkApiKeyName,
  checkLifetime,
  createApiKey,
  hasApiKeys,
  listApiKeys,
  loadApiKeys,
  markApiKeyUsed,
  matchesApiKey,
  parseApiKey,
  revokeApiKey,
} from '../../src/db/api-keys.js';
import type { Actor } from '../../src/db/audit.js';
import { maskSecrets } from '../../src/db/secrets.js';
import { kinds, openTestDatabase, type TestDatabase } from './databases.js';

const actor: Actor = { kind: 'cli', name: 'tester' };

describe('the name of a key', () => {
  test.each(['ci', 'a', 'Build.Server_2-x', 'x'.repeat(64)])('may be %j', (name) => {
    expect(checkApiKeyName(name)).toBeUndefined();
  });
  test.each(['', 'x'.repeat(65), 'a b', 'a/b', 'ä', 'a\n', 'a:b', 'a\0', '-a', '.a', 'abcdefghijklmnop'])(
    'may not be %j',
    (name) => {
      expect(checkApiKeyName(name)).toBeDefined();
    },
  );
});

test('an expiry is in the future, within ten years', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  expect(checkLifetime(new Date(now + 1), now)).toBeUndefined();
  expect(checkLifetime(new Date(now), now)).toMatch(/future/);
  expect(checkLifetime(new Date(now + 3_651 * 86_400_000), now)).toMatch(/ten years/);
  expect(checkLifetime(new Date(Number.NaN), now)).toMatch(/time/);
});

test('only the text of a key is taken for one, and its secret can be masked wherever it stands', () => {
  const secret = 'a2'.repeat(16);
  const key = `svcmqtt_abcdefghijklmnop_${secret}`;
  expect(parseApiKey(key)).toEqual({ id: 'abcdefghijklmnop', secret });
  for (const text of [
    '',
    `${key}a`,
    key.slice(1),
    key.slice(0, -1),
    key.toUpperCase(),
    ` ${key}`,
    `${key}\n`,
  ]) {
    expect(parseApiKey(text)).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.string(), fc.string(), (before, after) => {
      expect(maskSecrets(`${before}${key}${after}`)).not.toContain(secret);
    }),
  );
  expect(maskSecrets('/devices/a')).toBe('/devices/a');
});

describe.each(kinds)('keys in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate api_keys, audit_log'));
  afterAll(() => database?.close());

  const create = (name: string, role: 'viewer' | 'provisioner' | 'operator' = 'viewer', expiresAt?: Date) =>
    createApiKey(database.db, actor, { name, role, expiresAt });
  const audit = () =>
    database.sql('select actor_kind, actor, action, target, details from audit_log order by id');

  test('are shown once, can be checked, and keep only their salted hash', async () => {
    expect(await hasApiKeys(database.db)).toBe(false);
    const made = await create('ci', 'provisioner');
    expect(made).toEqual({
      id: expect.stringMatching(/^[a-z2-7]{16}$/),
      name: 'ci',
      role: 'provisioner',
      key: `svcmqtt_${made.id}_${parseApiKey(made.key)?.secret}`,
      createdAt: expect.any(Date),
      expiresAt: null,
      revokedAt: null,
      lastUsedAt: null,
    });
    const secret = parseApiKey(made.key)?.secret ?? '';
    const [credentials] = await loadApiKeys(database.db, [made.id, 'nobody']);
    if (credentials === undefined) throw new Error('not stored');
    expect(credentials).toMatchObject({ name: 'ci', role: 'provisioner', revoked: false, expiresAt: null });
    expect(matchesApiKey(credentials, secret)).toBe(true);
    for (const wrong of ['', secret.slice(1), `${secret}a`, secret.toUpperCase(), 'x'.repeat(100_000)]) {
      expect(matchesApiKey(credentials, wrong)).toBe(false);
    }
    const rows = await database.sql(
      'select api_keys::text as row from api_keys union all select audit_log::text from audit_log',
    );
    expect(rows).toHaveLength(2);
    expect(JSON.stringify(rows)).not.toContain(secret);
    expect(await loadApiKeys(database.db, ['nobody'])).toEqual([]);
    expect(await hasApiKeys(database.db)).toBe(true);
  });

  test('are refused with a bad name, a taken one and a bad expiry, and nothing is written', async () => {
    await create('ci');
    await expect(create('ci')).rejects.toMatchObject({ code: 'API_KEY_EXISTS', message: /\bci\b/ });
    await expect(create('a b')).rejects.toMatchObject({ code: 'INPUT_INVALID', message: /^name / });
    await expect(create('late', 'viewer', new Date(0))).rejects.toMatchObject({
      code: 'INPUT_INVALID',
      message: /^expires_at /,
    });
    expect(await database.sql('select name from api_keys')).toEqual([{ name: 'ci' }]);
    expect(await audit()).toHaveLength(1);
  });

  test('are revoked by name or id, once, and free their name', async () => {
    const first = await create('ci', 'operator');
    expect(await revokeApiKey(database.db, actor, 'ci')).toMatchObject({
      outcome: 'revoked',
      key: { id: first.id, revokedAt: expect.any(Date) },
    });
    expect(await revokeApiKey(database.db, actor, 'ci')).toMatchObject({ outcome: 'already revoked' });
    const second = await create('ci');
    // An id means that key, and the name the one in use.
    expect(await revokeApiKey(database.db, actor, first.id)).toMatchObject({ outcome: 'already revoked' });
    expect(await revokeApiKey(database.db, actor, 'ci')).toMatchObject({
      outcome: 'revoked',
      key: { id: second.id },
    });
    expect(await loadApiKeys(database.db, [second.id])).toMatchObject([{ revoked: true }]);
    for (const unknown of ['nobody', '', "'; drop table api_keys", 'a\0b']) {
      expect(await revokeApiKey(database.db, actor, unknown)).toBeUndefined();
    }
    expect(await hasApiKeys(database.db)).toBe(true);
    expect(await audit()).toMatchObject([
      {
        actor_kind: 'cli',
        actor: 'tester',
        action: 'api-key.create',
        target: 'ci',
        details: { id: first.id },
      },
      { action: 'api-key.revoke', target: 'ci', details: { id: first.id, role: 'operator' } },
      { action: 'api-key.create', target: 'ci', details: { id: second.id } },
      { action: 'api-key.revoke', target: 'ci', details: { id: second.id } },
    ]);
  });

  test('are listed a page at a time, by state', async () => {
    for (const name of ['b', 'c', 'a', 'd']) await create(name);
    await revokeApiKey(database.db, actor, 'a');
    await create('a');
    const list = async (state: 'active' | 'revoked' | 'all') => {
      const names: string[] = [];
      let page = await listApiKeys(database.db, { state, limit: 2 });
      while (page.length > 0) {
        expect(page.length).toBeLessThanOrEqual(2);
        names.push(...page.map((key) => key.name));
        page = await listApiKeys(database.db, { state, after: page.at(-1), limit: 2 });
      }
      return names;
    };
    expect(await list('active')).toEqual(['a', 'b', 'c', 'd']);
    expect(await list('revoked')).toEqual(['a']);
    expect(await list('all')).toEqual(['a', 'a', 'b', 'c', 'd']);
    expect(Object.keys((await listApiKeys(database.db, { limit: 1 }))[0] ?? {})).toEqual([
      'id',
      'name',
      'role',
      'createdAt',
      'expiresAt',
      'revokedAt',
      'lastUsedAt',
    ]);
  });

  test('are written as used at most once a minute', async () => {
    const { id } = await create('ci');
    const readUsed = async () =>
      (await database.sql<{ used: string | null }>('select last_used_at::text as used from api_keys'))[0]
        ?.used;
    await markApiKeyUsed(database.db, id);
    const first = await readUsed();
    expect(first).toEqual(expect.any(String));
    await markApiKeyUsed(database.db, id);
    expect(await readUsed()).toBe(first);
    await database.sql("update api_keys set last_used_at = now() - interval '61 seconds'");
    await markApiKeyUsed(database.db, id);
    expect(Date.parse((await readUsed()) ?? '')).toBeGreaterThanOrEqual(Date.parse(first ?? ''));
  });
});
