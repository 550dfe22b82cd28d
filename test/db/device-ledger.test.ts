import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { markSeen } from '../../src/db/devices/device-credentials.js';
import { addToLedger, findLedger } from '../../src/db/devices/device-ledger.js';
import { removeDevices } from '../../src/db/devices/device-revocation.js';
import { addDevices, findDevice } from '../../src/db/devices/devices.js';
import { kinds, openTestDatabase, type TestDatabase, testActor, until } from './databases.js';

const counts = { received: 1, stored: 1, refused: 0, delivered: 0 };
const additionsTo = (ids: readonly string[]) => ids.map((id) => ({ device_id: id, ...counts }));

describe.each(kinds)('the ledger in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(() => database?.close());

  test('is added to for the devices that there are', async () => {
    await addDevices(database.db, testActor, { type: 'sensor', id: 'a' });
    await addToLedger(database.db, additionsTo(['nobody', 'a', 'b\0']));
    await addToLedger(database.db, additionsTo(['a']));
    expect(await findLedger(database.db, 'a')).toMatchObject({ received: 2, stored: 2, lastStream: null });
    expect(await findLedger(database.db, 'nobody')).toBeUndefined();
    await removeDevices(database.db, testActor, ['a']);
    expect(await findLedger(database.db, 'a')).toBeUndefined();
  });
});

describe('while devices are removed', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase('postgres');
  });
  beforeEach(() => database.sql('truncate devices'));
  afterAll(() => database?.close());

  const add = async (...ids: string[]) => {
    for (const id of ids) await addDevices(database.db, testActor, { type: 'sensor', id });
  };
  const begin = async (statement: string) => {
    const client = await database.db.connect();
    onTestFinished(() => client.end());
    await client.query('begin');
    await client.query(statement);
    return client;
  };
  const waiting = async (count: number) =>
    until(`${count} wait`, async () => {
      const rows = await database.sql(
        `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      );
      return rows.length === count;
    });
  const orphans = () =>
    database.sql('select device_id from device_ledger where device_id not in (select id from devices)');

  test('one that goes first is left out', async () => {
    await add('a', 'b');
    const removal = await begin(`delete from devices where id = 'b'`);
    const adding = addToLedger(database.db, additionsTo(['b', 'a']));
    await waiting(1);
    await removal.query('commit');
    await adding;
    expect(await findLedger(database.db, 'a')).toMatchObject({ received: 1 });
    expect(await orphans()).toEqual([]);
  });

  test('one that goes later takes its ledger along', async () => {
    await add('a', 'b');
    await addToLedger(database.db, additionsTo(['a']));
    const other = await begin(`update device_ledger set received = received + 1 where device_id = 'a'`);
    const adding = addToLedger(database.db, additionsTo(['b', 'a']));
    await waiting(1);
    const removing = removeDevices(database.db, testActor, ['b']);
    await waiting(2);
    await other.query('commit');
    await Promise.all([adding, removing]);
    expect(await findLedger(database.db, 'a')).toMatchObject({ received: 3 });
    expect(await orphans()).toEqual([]);
  });

  test('nobody waits in a circle', async () => {
    const ids = Array.from({ length: 50 }, (_, index) => `d${index}`);
    const some = () => ids.filter(() => Math.random() < 0.5).sort(() => Math.random() - 0.5);
    const rounds = Array.from({ length: 40 }, async () => {
      await database.sql(
        `insert into devices (id, type, secret_hash, secret_salt)
         select unnest($1::text[]), 'sensor', decode(repeat('11', 32), 'hex'), decode(repeat('00', 16), 'hex')
         on conflict do nothing`,
        [ids],
      );
      await Promise.all([
        addToLedger(database.db, additionsTo(some())),
        addToLedger(database.db, additionsTo(some())),
        removeDevices(database.db, testActor, some().slice(0, 10)),
      ]);
    });
    await Promise.all(rounds);
    expect(await orphans()).toEqual([]);
  });

  test('a device is noted as seen while its ledger is written', async () => {
    await add('a');
    const holding = await begin(`select from devices where id = 'a' for key share`);
    await markSeen(database.db, [{ id: 'a', secretHash: undefined }]);
    expect((await findDevice(database.db, 'a'))?.lastSeenAt).toBeInstanceOf(Date);
    await holding.query('commit');
  });
});
