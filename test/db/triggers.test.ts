import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { markSeen } from '../../src/db/device-credentials.js';
import { addDevices } from '../../src/db/devices.js';
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
  const updatedAt = async (id: string) =>
    (await database.sql<{ at: string }>('select updated_at::text as at from devices where id = $1', [id]))[0]
      ?.at;

  test.each([
    `revoked_at = now()`,
    `type = 'other'`,
    `secret_hash = sha256('x')`,
    `secret_salt = '0123456789abcdef'`,
  ])('%s is notified and dated', async (change) => {
    const id = await add();
    const before = await updatedAt(id);
    await database.sql(`update devices set ${change} where id = $1`, [id]);
    expect(await heardSoFar()).toEqual([id]);
    expect((await updatedAt(id)) ?? '').not.toBe(before);
  });

  test.each([`last_seen_at = now()`, `type = type, revoked_at = null`, `created_at = now()`])(
    '%s is neither notified nor dated',
    async (change) => {
      const id = await add();
      const before = await updatedAt(id);
      await database.sql(`update devices set ${change} where id = $1`, [id]);
      await markSeen(database.db, [{ id, secretHash: undefined }]);
      expect(await heardSoFar()).toEqual([]);
      expect(await updatedAt(id)).toBe(before);
    },
  );

  test('a new id is notified under both', async () => {
    const id = await add();
    await database.sql(`update devices set id = $2 where id = $1`, [id, `${id}-new`]);
    expect((await heardSoFar()).sort()).toEqual([id, `${id}-new`]);
  });

  test('a deletion is notified, an insertion is not', async () => {
    const id = await add();
    await addDevices(database.db, testActor, { type: 'sensor', count: 1_000 });
    await database.sql('delete from devices where id = $1', [id]);
    expect(await heardSoFar()).toEqual([id]);
  });

  test('emptying the table is notified without naming anyone', async () => {
    await add();
    await database.sql('truncate devices');
    expect(await heardSoFar()).toEqual(['']);
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
