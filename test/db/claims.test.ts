import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Actor } from '../../src/db/audit.js';
import {
  createClaim,
  listClaims,
  type NewClaim,
  redeemClaim,
  revokeClaim,
} from '../../src/db/devices/claims.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { listDevices } from '../../src/db/devices/devices.js';
import { kinds, openTestDatabase, type TestDatabase } from './databases.js';

const actor: Actor = { kind: 'cli', name: 'tester' };
const inAnHour = () => new Date(Date.now() + 3_600_000);

describe.each(kinds)('claims in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(async () => {
    await database?.close();
  });
  const create = (uses = 1, type = 'sensor') =>
    createClaim(database.db, actor, { type, uses, expiresAt: inAnHour() });
  const redeem = (claim: string) => redeemClaim(database.db, { claim, address: '192.0.2.7' });
  const find = async (id: string) =>
    (await listClaims(database.db, { state: 'all', limit: 1_000 })).find((claim) => claim.id === id);

  test('a claim makes a device of its type, with credentials of its own', async () => {
    const { id, claim } = await create(2);
    const device = await redeemClaim(database.db, {
      claim,
      metadata: { serial: 'A-17' },
      address: '192.0.2.7',
    });
    expect(device).toMatchObject({ type: 'sensor', mqttUser: device.id, metadata: { serial: 'A-17' } });
    const [credentials] = await loadCredentials(database.db, [device.id]);
    expect(credentials && matchSecret(credentials, Buffer.from(device.mqttPassword))).toBe('current');
    const [stored] = await listDevices(database.db, { metadata: { serial: 'A-17' }, limit: 10 });
    expect(stored).toMatchObject({ id: device.id, type: 'sensor' });
    expect(await find(id)).toMatchObject({ state: 'active', uses: 2, usesLeft: 1 });
    const trail = await database.sql<{ actor_kind: string; actor: string; action: string; target: string }>(
      'select actor_kind, actor, action, target, address, details from audit_log where target in ($1, $2) order by id',
      [id, device.id],
    );
    expect(trail).toMatchObject([
      { actor_kind: 'cli', actor: 'tester', action: 'claim.create', target: id, address: null },
      {
        actor_kind: 'claim',
        actor: id,
        action: 'device.add',
        target: device.id,
        address: '192.0.2.7',
        details: { type: 'sensor', claim: id, metadata: { serial: 'A-17' } },
      },
    ]);
  });

  test('100 uses and 500 devices at once make exactly 100 devices', async () => {
    const { id, claim } = await create(100, 'racer');
    const outcomes = await Promise.all(
      Array.from({ length: 500 }, () =>
        redeem(claim).then(
          (device) => device.id,
          (error: { code?: string }) => error.code,
        ),
      ),
    );
    const gone = outcomes.filter((outcome) => outcome === 'CLAIM_GONE');
    const made = new Set(outcomes.filter((outcome) => outcome !== 'CLAIM_GONE'));
    expect([gone.length, made.size]).toEqual([400, 100]);
    const devices = await listDevices(database.db, { type: 'racer', limit: 1_000 });
    expect(new Set(devices.map((device) => device.id))).toEqual(made);
    expect(await find(id)).toMatchObject({ state: 'spent', usesLeft: 0 });
  });

  test('a spent, an expired and a revoked claim are gone, each in the same words', async () => {
    const [spent, expired, revoked] = [await create(), await create(), await create()];
    await redeem(spent.claim);
    await database.sql(`update claims set expires_at = now() - interval '1 second' where id = $1`, [
      expired.id,
    ]);
    expect(await revokeClaim(database.db, actor, revoked.id)).toBe('revoked');
    expect(await revokeClaim(database.db, actor, revoked.id)).toBe('already revoked');
    expect(await revokeClaim(database.db, actor, 'no such id')).toBe('unknown');
    const messages = new Set<string>();
    for (const { claim } of [spent, expired, revoked]) {
      const error = await redeem(claim).catch((failure: Error & { code: string }) => failure);
      expect(error).toMatchObject({ code: 'CLAIM_GONE' });
      messages.add((error as Error).message);
    }
    expect(messages.size).toBe(1);
    const active = await listClaims(database.db, { state: 'active', limit: 1_000 });
    for (const { id } of [spent, expired, revoked]) expect(active.map((claim) => claim.id)).not.toContain(id);
    expect(await find(spent.id)).toMatchObject({ state: 'spent' });
    expect(await find(expired.id)).toMatchObject({ state: 'expired' });
    expect(await find(revoked.id)).toMatchObject({ state: 'revoked' });
  });

  test('who does not show the whole text learns nothing, not even that a claim is gone', async () => {
    const { id, claim } = await create();
    const other = await create();
    await revokeClaim(database.db, actor, other.id);
    const wrongSecret = (of: NewClaim) => `${of.claim.slice(0, -1)}${of.claim.endsWith('a') ? 'b' : 'a'}`;
    const failures = await Promise.all(
      [
        wrongSecret({ ...other, claim }),
        wrongSecret(other),
        claim.replace(id, 'a'.repeat(16)),
        claim.toUpperCase(),
        id,
        '',
        '\0',
      ].map((text) => redeem(text).catch((error: Error) => error)),
    );
    const [first] = failures;
    expect(first).toMatchObject({ code: 'CLAIM_NOT_FOUND' });
    for (const failure of failures) expect(failure).toEqual(first);
    expect(await find(id)).toMatchObject({ usesLeft: 1 });
  });

  test('a claim that makes no device is not used up', async () => {
    const { id, claim } = await create();
    await expect(redeemClaim(database.db, { claim, metadata: { 'no key': 'x' } })).rejects.toMatchObject({
      code: 'INPUT_INVALID',
    });
    await database.sql('alter table devices add constraint no_more check (false) not valid');
    await expect(redeem(claim)).rejects.toThrow();
    await database.sql('alter table devices drop constraint no_more');
    expect(await find(id)).toMatchObject({ usesLeft: 1 });
    await redeem(claim);
  });

  test.each([
    [{ type: '' }, 'type must not be empty'],
    [{ type: '--json' }, 'type must not begin with a hyphen'],
    [{ uses: 0 }, 'uses must be a whole number from 1 to 1000000'],
    [{ uses: 1.5 }, 'uses must be a whole number from 1 to 1000000'],
    [{ expiresAt: new Date(Date.now() - 1) }, 'expires_at must be in the future'],
    [{ expiresAt: new Date(Number.NaN) }, 'expires_at must be a time'],
  ])('%o is refused: %s', async (part, message) => {
    const request = { type: 'sensor', uses: 1, expiresAt: inAnHour(), ...part };
    await expect(createClaim(database.db, actor, request)).rejects.toMatchObject({
      code: 'INPUT_INVALID',
      message,
    });
  });

  test('pages hold every claim once', async () => {
    const made = new Set<string>();
    for (let count = 0; count < 5; count += 1) made.add((await create()).id);
    const listed: string[] = [];
    let after: string | undefined;
    do {
      const page = await listClaims(database.db, { state: 'all', after, limit: 2 });
      listed.push(...page.map((claim) => claim.id));
      after = page.length === 2 ? page.at(-1)?.id : undefined;
    } while (after !== undefined);
    expect(new Set(listed).size).toBe(listed.length);
    for (const id of made) expect(listed).toContain(id);
  });

  test('nothing in the database is the secret', async () => {
    const { claim } = await create();
    const secret = claim.split('_')[2] ?? '';
    const rows = await database.sql<{ row: string }>(
      'select claims::text as row from claims union all select audit_log::text from audit_log',
    );
    for (const { row } of rows) expect(row).not.toContain(secret);
  });
});
