import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadCredentials, markSeen, matchSecret } from '../../src/db/devices/device-credentials.js';
import {
  checkDeviceId,
  checkDeviceType,
  checkNewDeviceId,
  checkNewDeviceType,
} from '../../src/db/devices/device-fields.js';
import { revokeDevices } from '../../src/db/devices/device-revocation.js';
import {
  addDevices,
  findDevice,
  listDevices,
  listSortedDevices,
  type SortedDevice,
} from '../../src/db/devices/devices.js';
import { SvcMqttError } from '../../src/errors.js';
import { kinds, openTestDatabase, type TestDatabase, testActor, until } from './databases.js';

describe('a device type', () => {
  test.each(['sensor', 'a', 'Wärme-Zähler 3/4', '🌡️', 'x'.repeat(128), '🌡'.repeat(128)])(
    'may be %j',
    (type) => {
      expect(checkDeviceType(type)).toBeUndefined();
    },
  );
  test.each([
    ['', /empty/],
    ['x'.repeat(129), /128/],
    ['x'.repeat(1_000_000), /128/],
    ['a\nb', /control/],
    ['a\0', /control/],
    ['\u0085', /control/],
    ['\ud800', /Unicode/],
  ])('may not be %j', (type, reason) => {
    expect(checkDeviceType(type)).toMatch(reason);
    expect(checkNewDeviceType(type)).toMatch(reason);
  });
  test('that looks like an option is known, and not given any more', () => {
    expect(checkDeviceType('--json')).toBeUndefined();
    expect(checkNewDeviceType('--json')).toMatch(/hyphen/);
    expect(checkNewDeviceType('🌡️ - 1')).toBeUndefined();
  });
});

describe('a device id', () => {
  test.each(['a', 'A-z_09', 'AA:bb:cc:0d:ee:ff', '_a', '=~@!,', 'x'.repeat(128)])('may be %j', (id) =>
    expect(checkNewDeviceId(id)).toBeUndefined(),
  );
  test('that looks like an option may be kept, and is not given anew', () => {
    expect(checkDeviceId('--json')).toBeUndefined();
    expect(checkNewDeviceId('--json')).toMatch(/hyphen/);
  });
  test.each([
    ['10.0.0.7', /dot, which ends a token of a NATS subject; write - or :/],
    ['hall/7', /must not contain \/, which has a meaning in MQTT topics/],
  ])('such as %j is refused with what to do', (id, problem) => {
    expect(checkDeviceId(id)).toMatch(problem);
  });
  test.each(['', 'x'.repeat(129), 'a b', 'a/b', 'a.b', 'a+', '#', 'ä', 'a\n', '>', '*', '$', 'ﾠ:b'])(
    'may not be %j',
    (id) => {
      expect(checkDeviceId(id)).toBeDefined();
    },
  );
  test('that is accepted is safe everywhere', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii', maxLength: 3 }), (id) => {
        if (checkNewDeviceId(id) !== undefined) return;
        expect(new URL(`http://gateway/devices/${id}`).pathname).toBe(`/devices/${id}`);
        expect(id).toMatch(/^[^-]/);
        expect(id).not.toMatch(/[/+#.*>\s]/);
      }),
    );
  });
});

describe.each(kinds)('devices in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate devices'));
  afterAll(() => database?.close());

  const add = (type: string, count = 1) => addDevices(database.db, testActor, { type, count });
  const refusal = async (promise: Promise<unknown>) => {
    const result = await promise.catch((error: unknown) => error);
    if (result instanceof SvcMqttError) return result;
    throw new Error('no SvcMqttError');
  };

  test('get an id of 16 and a secret of 32 characters of base32, and keep only its salted hash', async () => {
    const [device] = await add('sensor');
    expect(device).toEqual({
      id: expect.stringMatching(/^[a-z2-7]{16}$/),
      type: 'sensor',
      mqttUser: device?.id,
      mqttPassword: expect.stringMatching(/^[a-z2-7]{32}$/),
      createdAt: expect.any(Date),
    });
    const rows = await database.sql<{ row: string }>('select devices::text as row from devices');
    expect(rows).toHaveLength(1);
    expect(rows[0]?.row).not.toContain(device?.mqttPassword);
    const [credentials] = await loadCredentials(database.db, [device?.id ?? '']);
    if (device === undefined || credentials === undefined) throw new Error('not found');
    expect(credentials.secretHash).toHaveLength(32);
    expect(matchSecret(credentials, Buffer.from(device.mqttPassword))).toBe('current');
    for (const wrong of ['', device.mqttPassword.slice(1), `${device.mqttPassword} `, 'x'.repeat(100_000)]) {
      expect(matchSecret(credentials, Buffer.from(wrong))).toBeUndefined();
    }
  });

  test('each have a secret and a salt of their own', async () => {
    const devices = await add('sensor', 500);
    const credentials = await loadCredentials(
      database.db,
      devices.map((device) => device.id),
    );
    expect(new Set(devices.map((device) => device.mqttPassword)).size).toBe(500);
    expect(new Set(credentials.map((row) => row.secretSalt.toString('hex'))).size).toBe(500);
    const byId = new Map(credentials.map((row) => [row.id, row]));
    for (const device of devices) {
      const own = byId.get(device.id);
      expect(own !== undefined && matchSecret(own, Buffer.from(device.mqttPassword))).toBe('current');
    }
  });

  test('are added 100,000 at a time', async () => {
    const devices = await add('bulk', 100_000);
    expect(new Set(devices.map((device) => device.id)).size).toBe(100_000);
    expect(await database.sql('select count(*)::int as n from devices')).toEqual([{ n: 100_000 }]);
  });

  test('are added with a chosen id once', async () => {
    expect((await addDevices(database.db, testActor, { type: 'a', id: 'My_id-1' }))[0]?.id).toBe('My_id-1');
    const error = await refusal(addDevices(database.db, testActor, { type: 'b', id: 'My_id-1' }));
    expect(error.code).toBe('DEVICE_EXISTS');
    expect(error.toLine()).toContain('My_id-1');
    expect((await findDevice(database.db, 'My_id-1'))?.type).toBe('a');
  });

  test('are refused with bad input, and nothing is stored', async () => {
    for (const request of [
      { type: '' },
      { type: 'a\n' },
      { type: '-a' },
      { type: 'a', id: 'a/b' },
      { type: 'a', id: '--json' },
      { type: 'a', count: 0 },
      { type: 'a', count: 1.5 },
      { type: 'a', count: 100_001 },
      { type: 'a', id: 'x', count: 2 },
    ]) {
      expect((await refusal(addDevices(database.db, testActor, request))).code).toBe('INPUT_INVALID');
    }
    expect(await listDevices(database.db, { state: 'all', limit: 10 })).toEqual([]);
  });

  test('of any type that is allowed come back unchanged', async () => {
    const types = fc.sample(
      fc
        .string({ unit: 'binary', minLength: 1, maxLength: 128 })
        .filter((type) => checkNewDeviceType(type) === undefined),
      50,
    );
    for (const type of types) {
      const [device] = await add(type);
      expect((await findDevice(database.db, device?.id ?? ''))?.type).toBe(type);
      expect(await listDevices(database.db, { type, limit: 100 })).not.toHaveLength(0);
    }
  });

  test('are listed by type and state, in pages, each once', async () => {
    const sensors = await add('sensor', 25);
    await add('meter', 3);
    const ids = sensors.map((device) => device.id).sort();
    await revokeDevices(database.db, testActor, ids.slice(0, 5));
    const page = async (request: Omit<Parameters<typeof listDevices>[1], 'limit'>) => {
      const found: string[] = [];
      for (;;) {
        const rows = await listDevices(database.db, { ...request, after: found.at(-1), limit: 7 });
        found.push(...rows.map((row) => row.id));
        if (rows.length < 7) return found;
      }
    };
    expect((await page({ type: 'sensor', state: 'all' })).sort()).toEqual(ids);
    expect((await page({ type: 'sensor', state: 'revoked' })).sort()).toEqual(ids.slice(0, 5));
    expect((await page({ type: 'sensor', state: 'active' })).sort()).toEqual(ids.slice(5));
    expect(await page({ state: 'all' })).toHaveLength(28);
    expect(await page({ type: 'none' })).toEqual([]);
  });

  test.each(['id', 'type', 'created', 'last_seen', 'expires'] as const)(
    'are sorted by %s, in pages, each once, also where many are equal',
    async (sort) => {
      const made = [...(await add('sensor', 12)), ...(await add('meter', 12))];
      // Times that differ by less than a Date can tell.
      await database.db.pool.query(
        `update devices d set created_at = now() + (n % 7) * interval '1 microsecond',
          last_seen_at = case when n % 3 > 0 then now() - (n % 5) * interval '1 microsecond' end,
          expires_at = case when n % 4 > 0 then now() + interval '1 day' + (n % 6) * interval '1 microsecond' end
        from (select id, row_number() over () as n from devices) as numbered where d.id = numbered.id`,
      );
      const list = async (descending: boolean) => {
        const found: SortedDevice[] = [];
        for (;;) {
          const after = found.at(-1);
          const page = await listSortedDevices(database.db, { sort, descending, after, limit: 5 });
          found.push(...page);
          if (page.length < 5) return found.map(({ id }) => id);
        }
      };
      const column = {
        id: 'id',
        type: 'type',
        created: 'created_at',
        last_seen: "coalesce(last_seen_at, '-infinity')",
        expires: "coalesce(expires_at, 'infinity')",
      }[sort];
      const { rows } = await database.db.pool.query<{ id: string }>(
        `select id from devices order by ${column}, id`,
      );
      expect(rows).toHaveLength(made.length);
      expect(await list(false)).toEqual(rows.map(({ id }) => id));
      expect(await list(true)).toEqual(rows.map(({ id }) => id).reverse());
    },
  );

  test('are revoked once, with the unknown ones named', async () => {
    const [first, second] = await add('sensor', 2);
    const ids = [second?.id ?? '', 'unknown', first?.id ?? '', 'a\0b', 'unknown'];
    expect(await revokeDevices(database.db, testActor, ids)).toEqual({
      changed: [second?.id, first?.id],
      unchanged: [],
      unknown: ['unknown', 'a\0b'],
    });
    const before = await findDevice(database.db, first?.id ?? '');
    expect(before?.revokedAt).toBeInstanceOf(Date);
    expect(await revokeDevices(database.db, testActor, [first?.id ?? ''])).toEqual({
      changed: [],
      unchanged: [first?.id],
      unknown: [],
    });
    expect(await findDevice(database.db, first?.id ?? '')).toEqual(before);
    const [credentials] = await loadCredentials(database.db, [first?.id ?? '']);
    expect(credentials?.revokedAtMs).toBeDefined();
  });

  test('are revoked by several at once without waiting for each other', async () => {
    const ids = (await add('sensor', 200)).map((device) => device.id);
    const results = await Promise.all([
      revokeDevices(database.db, testActor, ids),
      revokeDevices(database.db, testActor, ids.toReversed()),
      revokeDevices(database.db, testActor, ids.toSorted()),
    ]);
    expect(results.flatMap((result) => result.changed).sort()).toEqual(ids.toSorted());
  });

  test('that do not exist are not found', async () => {
    expect(await findDevice(database.db, 'nobody')).toBeUndefined();
    expect(await findDevice(database.db, 'a\0b')).toBeUndefined();
    expect(await findDevice(database.db, '\ud800')).toBeUndefined();
    expect(await loadCredentials(database.db, ['nobody', '', 'a\0b'])).toEqual([]);
    expect(await loadCredentials(database.db, [])).toEqual([]);
  });

  test('are marked as seen at most once a minute', async () => {
    const ids = (await add('sensor', 3)).map((device) => device.id);
    const sightings = ids.map((id) => ({ id, secretHash: undefined }));
    const read = async () =>
      (await listDevices(database.db, { limit: 10 })).map((device) => device.lastSeenAt?.getTime() ?? 0);
    await Promise.all([
      markSeen(database.db, sightings),
      markSeen(database.db, [...sightings.toReversed(), { id: 'nobody', secretHash: undefined }]),
    ]);
    await until('seen', async () => (await read()).every((at) => at > 0));
    const first = await read();
    await markSeen(database.db, sightings);
    expect(await read()).toEqual(first);
    await database.sql(`update devices set last_seen_at = last_seen_at - interval '61 seconds'`);
    await markSeen(database.db, sightings);
    expect((await read()).every((at, index) => at >= (first[index] ?? 0))).toBe(true);
  });

  test('say what to do when the schema is missing', async () => {
    await database.sql('alter table devices rename to elsewhere');
    const missing = await refusal(addDevices(database.db, testActor, { type: 'sensor' }));
    await database.sql('alter table elsewhere rename to devices');
    expect(missing.code).toBe('DATABASE_SCHEMA');
    expect(missing.toLine()).toContain('svc-mqtt migrate');
  });
});
