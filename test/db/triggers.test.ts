import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { markSeen } from '../../src/db/devices/device-credentials.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { kinds, openTestDatabase, type TestDatabase, testActor, until } from './databases.js';

describe.each(kinds)('a change of a device in %s', (kind) => {
  let database: TestDatabase;
  let heard: string[];
  let release: () => unknown;

  beforeAll(async () => {
    database = await openTestDatabase(kind);
    if (database.db.embedded === undefined) {
      const client = new pg.Client({ connectionString: database.config.databaseUrl });
      await client.connect();
      client.on('notification', (message) => heard.push(message.payload ?? ''));
      await client.query('listen devices_changed');
      release = () => client.end();
    } else {
      release = database.db.embedded.watch({
        onNotification: (_, payload) => heard.push(payload),
        onUp() {},
        onDown() {},
      });
    }
  });
  beforeEach(async () => {
    heard = [];
  });
  afterAll(async () => {
    await release?.();
    await database?.close();
  });

  const notify = (payload: string) => database.sql(`select pg_notify('devices_changed', $1)`, [payload]);
  const add = async () => (await addDevices(database.db, testActor, { type: 'sensor' }))[0]?.id ?? '';
  /** Everything notified before now has been heard when a notification sent now has been. */
  const heardSoFar = async () => {
    await notify('end');
    await until('the end', () => heard.includes('end'));
    return heard.filter((payload) => payload !== 'end');
  };
  /** What is written down for who asks, and not notified. */
  const writtenAfter = async (change: () => Promise<unknown>) => {
    await database.sql('delete from device_changes');
    await change();
    const rows = await database.sql<{ id: string }>('select device_id as id from device_changes order by id');
    return rows.map((row) => row.id);
  };
  const updatedAt = async (id: string) =>
    (await database.sql<{ at: string }>('select updated_at::text as at from devices where id = $1', [id]))[0]
      ?.at;

  test.each([
    `revoked_at = now()`,
    `type = 'other'`,
    `secret_hash = sha256('x')`,
    `secret_salt = '0123456789abcdef'`,
  ])('%s is notified, written down and dated', async (change) => {
    const id = await add();
    const before = await updatedAt(id);
    expect(
      await writtenAfter(() => database.sql(`update devices set ${change} where id = $1`, [id])),
    ).toEqual([id]);
    expect(await heardSoFar()).toEqual([id]);
    expect((await updatedAt(id)) ?? '').not.toBe(before);
  });

  test.each([`last_seen_at = now()`, `type = type, revoked_at = null`, `created_at = now()`])(
    '%s is neither notified nor written down nor dated',
    async (change) => {
      const id = await add();
      const before = await updatedAt(id);
      expect(
        await writtenAfter(() => database.sql(`update devices set ${change} where id = $1`, [id])),
      ).toEqual([]);
      await markSeen(database.db, [{ id, secretHash: undefined }]);
      expect(await heardSoFar()).toEqual([]);
      expect(await updatedAt(id)).toBe(before);
    },
  );

  test('a new id is notified and written down under both', async () => {
    const id = await add();
    expect(
      await writtenAfter(() => database.sql(`update devices set id = $2 where id = $1`, [id, `${id}-new`])),
    ).toEqual([id, `${id}-new`]);
    expect((await heardSoFar()).sort()).toEqual([id, `${id}-new`]);
  });

  test('a deletion is notified and written down, an insertion is not', async () => {
    const id = await add();
    expect(
      await writtenAfter(async () => {
        await addDevices(database.db, testActor, { type: 'sensor', count: 1_000 });
        await database.sql('delete from devices where id = $1', [id]);
        await database.sql('delete from devices where false');
      }),
    ).toEqual([id]);
    expect(await heardSoFar()).toEqual([id]);
  });

  test.each(['truncate devices', 'delete from devices', 'update devices set revoked_at = now()'])(
    'a change of many, %s, is told without naming anyone',
    async (statement) => {
      await addDevices(database.db, testActor, { type: 'sensor', count: 10_001 });
      expect(await writtenAfter(() => database.sql(statement))).toEqual(['']);
      expect(await heardSoFar()).toEqual(['']);
    },
  );

  test.skipIf(kind === 'embedded')('a role that may only change devices tells of it', async () => {
    const id = await add();
    const role = `clerk_${id}`;
    const asClerk = async (statement: string) => {
      const client = await database.db.connect();
      try {
        await client.query(`set role ${role}`);
        return await client.query(statement);
      } finally {
        await client.end();
      }
    };
    await database.sql(`create role ${role}`);
    await database.sql(`grant select, update, delete on devices to ${role}`);
    const change = `update public.devices set revoked_at = now() where id = '${id}'`;
    expect(await writtenAfter(() => asClerk(`set search_path = pg_temp; ${change}`))).toEqual([id]);
    const remove = `delete from public.devices where id = '${id}'`;
    const decoy = 'create temporary table device_changes (device_id text)';
    expect(await writtenAfter(() => asClerk(`${decoy}; ${remove}`))).toEqual([id]);
    // On a table of its own the function would write to a table of its own, with the rights of another.
    await expect(
      asClerk(
        'create temporary table own (id text);' +
          ' create trigger own after update on own for each row execute function public.devices_notify()',
      ),
    ).rejects.toMatchObject({ code: '42501' });
    await database.sql(`drop owned by ${role}; drop role ${role}`);
  });

  test('what is rolled back is not notified', async () => {
    const id = await add();
    const client = await database.db.connect();
    await client.query('begin');
    await client.query('delete from devices where id = $1', [id]);
    await client.query('rollback');
    await client.end();
    expect(await heardSoFar()).toEqual([]);
  });
});
