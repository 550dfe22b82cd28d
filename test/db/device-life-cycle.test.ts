import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { rotateSecret, setDevice } from '../../src/db/devices/device-changes.js';
import {
  type DeviceCredentials,
  endPreviousSecrets,
  isExpired,
  loadCredentials,
  markSeen,
  matchSecret,
  secretOf,
  validUntilMs,
} from '../../src/db/devices/device-credentials.js';
import { importDevices } from '../../src/db/devices/device-import.js';
import { enableDevices, removeDevices, revokeDevices } from '../../src/db/devices/device-revocation.js';
import { addDevices, findDevice, listDevices } from '../../src/db/devices/devices.js';
import { generateSecret, hashSecret } from '../../src/db/secrets.js';
import { kinds, openTestDatabase, type TestDatabase, testActor, until } from './databases.js';

describe('a login', () => {
  const salt = Buffer.alloc(16, 1);
  const secret = (text: string) => ({ hash: hashSecret(salt, Buffer.from(text)), salt });
  const device = (fields: Partial<DeviceCredentials> = {}): DeviceCredentials => ({
    id: 'd',
    type: 't',
    secretHash: secret('new').hash,
    secretSalt: salt,
    previousSecret: { ...secret('old'), untilMs: 2_000, untilUsed: false },
    revokedAtMs: undefined,
    expiresAtMs: undefined,
    ...fields,
  });

  test('by the previous secret is good until that ends', () => {
    const match = (text: string, nowMs: number) => matchSecret(device(), Buffer.from(text), nowMs);
    expect([match('new', 1_000), match('old', 1_999), match('old', 2_000)]).toEqual([
      'current',
      'previous',
      undefined,
    ]);
    expect(match('other', 0)).toBeUndefined();
    expect(validUntilMs(device(), secretOf(device(), 'current'))).toBe(Number.POSITIVE_INFINITY);
    expect(validUntilMs(device(), secretOf(device(), 'previous'))).toBe(2_000);
    expect(validUntilMs(device(), secret('other'))).toBe(0);
    expect(validUntilMs(device(), { ...secret('new'), salt: Buffer.alloc(16, 2) })).toBe(0);
  });

  test('is good until the device expires', () => {
    const expiring = device({ expiresAtMs: 1_500 });
    expect(validUntilMs(expiring, secretOf(expiring, 'current'))).toBe(1_500);
    expect(validUntilMs(expiring, secretOf(expiring, 'previous'))).toBe(1_500);
    expect(validUntilMs(expiring, undefined)).toBe(1_500);
    expect([isExpired(expiring, 1_499), isExpired(expiring, 1_500), isExpired(device(), 9e15)]).toEqual([
      false,
      true,
      false,
    ]);
  });
});

describe.each(kinds)('in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate devices, audit_log'));
  afterAll(() => database?.close());

  const add = async (fields: { id?: string; expiresAt?: Date; metadata?: Record<string, string> } = {}) => {
    const [device] = await addDevices(database.db, testActor, { type: 'sensor', ...fields });
    if (device === undefined) throw new Error('no device');
    return device;
  };
  const load = async (id: string) => {
    const [credentials] = await loadCredentials(database.db, [id]);
    if (credentials === undefined) throw new Error('no device');
    return credentials;
  };
  const rotate = (id: string, request: Parameters<typeof rotateSecret>[3] = {}) =>
    rotateSecret(database.db, testActor, id, request);
  const actions = async () =>
    (await database.sql<{ action: string }>('select action from audit_log order by id')).map(
      ({ action }) => action,
    );
  const seenBy = async (id: string, which: 'current' | 'previous') => {
    const secretHash = secretOf(await load(id), which)?.hash;
    await markSeen(database.db, [{ id, secretHash }]);
  };
  const lastUsed = async (id: string) => (await findDevice(database.db, id))?.lastSecretUsed;

  test('the secret of a login is known by its hash, whatever was rotated meanwhile', async () => {
    const { id } = await add();
    expect(await lastUsed(id)).toBeNull();
    const before = await load(id);
    await seenBy(id, 'current');
    expect(await lastUsed(id)).toBe('current');
    await rotate(id, { graceMs: 60_000 });
    expect(await lastUsed(id)).toBe('previous');
    // Within the minute in which last_seen_at is not written again.
    await seenBy(id, 'current');
    expect(await lastUsed(id)).toBe('current');
    await markSeen(database.db, [{ id, secretHash: before.secretHash }]);
    expect(await lastUsed(id)).toBe('previous');
    await markSeen(database.db, [{ id, secretHash: Buffer.alloc(32) }]);
    await markSeen(database.db, [{ id, secretHash: undefined }]);
    expect(await lastUsed(id)).toBe('previous');
    await rotate(id);
    expect(await lastUsed(id)).toBeNull();
  });

  test('a second rotation keeps the secret that the device has', async () => {
    const first = await add();
    const { id } = first;
    await seenBy(id, 'current');
    const second = await rotate(id, { graceMs: 60_000 });
    const third = await rotate(id, { graceMs: 60_000 });
    const match = async (device: { mqttPassword: string } | undefined) =>
      matchSecret(await load(id), Buffer.from(device?.mqttPassword ?? ''));
    expect([await match(first), await match(second), await match(third)]).toEqual([
      'previous',
      undefined,
      'current',
    ]);
    expect(await lastUsed(id)).toBe('previous');
    await seenBy(id, 'current');
    const fourth = await rotate(id, { graceMs: 60_000 });
    expect([await match(first), await match(third), await match(fourth)]).toEqual([
      undefined,
      'previous',
      'current',
    ]);
    // A grace that is over is of no account.
    await database.sql(`update devices set previous_secret_until = now() - interval '1 second'`);
    const fifth = await rotate(id, { graceMs: 60_000 });
    expect([await match(third), await match(fourth), await match(fifth)]).toEqual([
      undefined,
      'previous',
      'current',
    ]);
  });

  test('the use of a new secret ends the one before, where that was asked for, and once', async () => {
    const kept = await add();
    const ended = await add();
    await rotate(kept.id, { graceMs: 60_000 });
    const stale = (await load(ended.id)).secretHash;
    await rotate(ended.id, { graceMs: 60_000, untilUsed: true });
    const end = async (...used: { id: string; secretHash: Buffer }[]) =>
      endPreviousSecrets(database.db, { kind: 'server', name: 'replica' }, used);
    await end({ id: ended.id, secretHash: stale }, { id: 'nobody', secretHash: stale });
    expect((await load(ended.id)).previousSecret).toBeDefined();
    const used = await Promise.all(
      [kept, ended].map(async ({ id }) => ({ id, secretHash: (await load(id)).secretHash })),
    );
    await end(...used);
    await end(...used);
    const untilMs = async ({ id }: { id: string }) => (await load(id)).previousSecret?.untilMs;
    expect(await untilMs(kept)).toBeGreaterThan(Date.now());
    // Over also by a clock that is far behind.
    expect(await untilMs(ended)).toBe(1_000);
    expect(await findDevice(database.db, ended.id)).toMatchObject({
      previousSecretUntil: null,
      previousSecretUntilUsed: false,
    });
    expect((await actions()).filter((action) => action === 'device.end-previous-secret')).toHaveLength(1);
  });

  test.skipIf(kind === 'embedded')(
    'a device that is being changed keeps those of others from nothing, and is told',
    async () => {
      const all = [await add(), await add()] as const;
      for (const { id } of all) await rotate(id, { graceMs: 60_000, untilUsed: true });
      const used = await Promise.all(
        all.map(async ({ id }) => ({ id, secretHash: (await load(id)).secretHash })),
      );
      const [held, free] = all;
      const client = await database.db.connect();
      try {
        await client.query('begin');
        await client.query('select from devices where id = $1 for update', [held.id]);
        expect(await endPreviousSecrets(database.db, testActor, used)).toEqual([held.id]);
      } finally {
        await client.end();
      }
      expect((await load(free.id)).previousSecret?.untilMs).toBe(1_000);
      expect((await load(held.id)).previousSecret?.untilMs).toBeGreaterThan(Date.now());
      expect(await endPreviousSecrets(database.db, testActor, used)).toEqual([]);
      expect((await load(held.id)).previousSecret?.untilMs).toBe(1_000);
    },
  );

  test('what was changed is audited with it, and what was not is not', async () => {
    const { id } = await add({ metadata: { b: '1', a: '2' } });
    await setDevice(database.db, testActor, id, { metadata: { a: '2' }, expiresAt: null });
    await revokeDevices(database.db, testActor, [id, 'nobody']);
    await revokeDevices(database.db, testActor, [id]);
    await enableDevices(database.db, testActor, [id]);
    await enableDevices(database.db, testActor, [id]);
    await setDevice(database.db, testActor, id, { metadata: { c: '3', b: null } });
    await rotate(id, { graceMs: 1_000 });
    expect(await actions()).toEqual([
      'device.add',
      'device.revoke',
      'device.enable',
      'device.set',
      'device.rotate',
    ]);
    expect((await findDevice(database.db, id))?.metadata).toEqual({ a: '2', c: '3' });
    const rows = await database.sql('select * from audit_log');
    for (const row of rows) expect(row).toMatchObject({ actor_kind: 'cli', actor: 'tester', target: id });
    expect(await setDevice(database.db, testActor, 'nobody', {})).toBeUndefined();
    expect(await rotate('nobody')).toBeUndefined();
    expect(await rotate('a\0')).toBeUndefined();
  });

  test('nothing is added, nor audited, when the secrets cannot be kept', async () => {
    const full = () => Promise.reject(new Error('the disk is full'));
    await expect(addDevices(database.db, testActor, { type: 'a' }, full)).rejects.toThrow('the disk is full');
    expect(await listDevices(database.db, { state: 'all', limit: 10 })).toEqual([]);
    expect(await actions()).toEqual([]);
  });

  test('metadata stays within its limits when it is merged', async () => {
    const metadata = Object.fromEntries(Array.from({ length: 32 }, (_, at) => [`k${at}`, 'v']));
    const { id } = await add({ metadata });
    const set = (changes: Record<string, string | null>) =>
      setDevice(database.db, testActor, id, { metadata: changes });
    await expect(set({ more: 'v' })).rejects.toMatchObject({ code: 'INPUT_INVALID' });
    expect(Object.keys((await set({ k0: null, more: 'v' }))?.metadata ?? {})).toHaveLength(32);
    for (const bad of [
      { '': 'v' },
      { __proto__x: 'v' },
      { k1: 'a\nb' },
      { k1: 'x'.repeat(257) },
      { k1: '\ud800' },
    ]) {
      await expect(set(bad)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
    }
    expect((await set({ constructor: 'v', k1: null }))?.metadata.constructor).toBe('v');
  });

  test('metadata that SQL wrote without texts stays until it is changed, and then has to be sound', async () => {
    const { id } = await add();
    const written = { list: [1], site: 'graz', nothing: null };
    await database.sql('update devices set metadata = $1 where id = $2', [written, id]);
    const expiresAt = new Date(Date.now() + 60_000);
    expect(await setDevice(database.db, testActor, id, { expiresAt })).toMatchObject({
      expiresAt,
      metadata: written,
    });
    const set = (metadata: Record<string, string | null>) =>
      setDevice(database.db, testActor, id, { metadata });
    await expect(set({ site: 'linz' })).rejects.toMatchObject({
      code: 'INPUT_INVALID',
      field: 'metadata.list',
      message: 'metadata.list must be a string',
    });
    expect((await set({ list: null, site: 'linz' }))?.metadata).toEqual({ site: 'linz' });
  });

  test.each([true, false])(
    'an import that fails midway keeps what it promises: all or none %s',
    async (allOrNone) => {
      const rowsOf = (from: number) =>
        Array.from({ length: 3 }, (_, at) => {
          const { id, hash, salt } = generateSecret(`i${from + at}`);
          return { id, type: 't', secretHash: hash, secretSalt: salt };
        });
      async function* batches() {
        yield rowsOf(0);
        yield rowsOf(2);
        throw new Error('the input ends badly');
      }
      const stored: string[][] = [];
      const importAll = (all: Parameters<typeof importDevices>[2]) =>
        importDevices(database.db, testActor, all, (_batch, ids) => void stored.push([...ids.keys()].sort()));
      const importEach = async () => {
        for await (const batch of batches()) await importAll([batch]);
      };
      const importing = allOrNone ? importAll(batches()) : importEach();
      await expect(importing).rejects.toThrow('the input ends badly');
      expect(stored).toEqual([
        ['i0', 'i1', 'i2'],
        ['i3', 'i4'],
      ]);
      expect(await listDevices(database.db, { limit: 10 })).toHaveLength(allOrNone ? 0 : 5);
      expect(await actions()).toHaveLength(allOrNone ? 0 : 5);
      await until('nothing is locked', async () => (await add()).id !== '');
    },
  );

  test.skipIf(kind === 'embedded')('are imported by two at once, whatever the order of the ids', async () => {
    const rows = ['z', 'm', 'a'].map((id) => {
      const { hash, salt } = generateSecret(id);
      return { id, type: 'sensor', secretHash: hash, secretSalt: salt };
    });
    const stored: string[] = [];
    const importAll = (batch: typeof rows) =>
      importDevices(database.db, testActor, [batch], (_batch, ids) => void stored.push(...ids.keys()));
    const client = await database.db.connect();
    try {
      // Whoever comes to this id waits, with the rows before it stored already.
      await client.query('begin');
      await client.query(`select svc_mqtt.add_device('sensor', 'm')`);
      const imports = Promise.all([importAll(rows), importAll(rows.toReversed())]);
      imports.catch(() => {});
      await until('both wait', async () => {
        const [waiting] = await database.sql<{ count: number }>(
          `select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return waiting?.count === 2;
      });
      await client.query('rollback');
      await imports;
    } finally {
      await client.end();
    }
    expect(stored.sort()).toEqual(['a', 'm', 'z']);
  });

  test.skipIf(kind === 'embedded')(
    'that meet a transaction in the other order say that it is to be tried again',
    async () => {
      const ids = ['deadlock-1', 'deadlock-2'] as const;
      for (const id of ids) await addDevices(database.db, testActor, { id, type: 'sensor' });
      const client = await database.db.connect();
      try {
        // Only whoever waits last must not find the deadlock: that would be the other one.
        await client.query(`set deadlock_timeout = '60s'; begin`);
        await client.query('select from devices where id = $1 for update', [ids[1]]);
        const revoked = revokeDevices(database.db, testActor, [...ids]);
        revoked.catch(() => {});
        await until('it waits', async () => {
          const waiting = await database.sql(
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
          );
          return waiting.length === 1;
        });
        client.query('select from devices where id = $1 for update', [ids[0]]).catch(() => {});
        await expect(revoked).rejects.toMatchObject({
          code: 'DATABASE_UNREACHABLE',
          mayPass: true,
          message: expect.stringContaining('deadlock detected'),
        });
      } finally {
        await client.end();
      }
    },
  );
});

describe.each(kinds)('devices to which rows of other tables refer, in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
    await database.sql(`
      create table pumps (device text references devices (id));
      create table sites (device text references devices (id) deferrable initially deferred);
      create table notes (device text references devices (id) on delete cascade)`);
    for (const id of ['free', 'noted', 'pump', 'site'])
      await addDevices(database.db, testActor, { id, type: 'sensor' });
    await database.sql(
      `insert into pumps values ('pump'); insert into sites values ('site'); insert into notes values ('noted')`,
    );
  });
  afterAll(async () => {
    await database?.close();
  });
  const left = async () =>
    (await database.sql<{ id: string }>('select id from devices order by id')).map(({ id }) => id);

  test.each([
    ['pump', /device pump cannot be removed: a row of the table pumps/],
    ['site', /device site cannot be removed: a row of the table sites/],
  ])('%s is not removed, and the table is named', async (id, message) => {
    await expect(removeDevices(database.db, testActor, [id])).rejects.toMatchObject({
      code: 'DEVICE_IN_USE',
      httpStatus: 409,
      message: expect.stringMatching(message),
      suggestion: expect.stringContaining('Revoke it instead'),
    });
    expect(await left()).toContain(id);
  });

  test('of many each is named, and none is removed; the others can be', async () => {
    await expect(removeDevices(database.db, testActor, [...(await left()), 'nobody'])).rejects.toMatchObject({
      code: 'DEVICE_IN_USE',
      message: expect.stringMatching(/: pump \(table pumps\), site \(table sites\)$/),
      suggestion: expect.stringMatching(/none of the 5 devices/),
    });
    expect(await left()).toEqual(['free', 'noted', 'pump', 'site']);
    expect(await removeDevices(database.db, testActor, ['free', 'noted', 'nobody'])).toEqual({
      changed: ['free', 'noted'],
      unchanged: [],
      unknown: ['nobody'],
    });
    expect(await left()).toEqual(['pump', 'site']);
  });
});
