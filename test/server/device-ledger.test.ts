import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { addToLedger, findLedger } from '../../src/db/devices/device-ledger.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { startDeviceLedger } from '../../src/server/operate/device-ledger.js';
import { kinds, openTestDatabase, silentLog, type TestDatabase, testActor } from '../db/databases.js';

describe.each(kinds)('the ledger in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(async () => {
    await database?.close();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const add = async () => (await addDevices(database.db, testActor, { type: 'sensor' }))[0]?.id ?? '';
  const start = (isLive = () => true, replicas = 1) =>
    startDeviceLedger({ db: database.db, log: silentLog, isLive, countReplicas: async () => replicas });
  const ack = (sequence: number) => Buffer.from(`{"stream":"RAW","seq":${sequence}}`);

  test('adds up what several replicas noted, whichever comes first', async () => {
    const id = await add();
    const counts = { received: 3, stored: 2, refused: 1, delivered: 4 };
    await addToLedger(database.db, [
      { device_id: id, ...counts, last_stream: 'RAW', last_sequence: 20, last_address: '192.0.2.1' },
    ]);
    await addToLedger(database.db, [{ device_id: id, ...counts, last_stream: 'RAW', last_sequence: 10 }]);
    await addToLedger(database.db, [{ device_id: 'nobody', ...counts }]);
    expect(await findLedger(database.db, id)).toMatchObject({
      received: 6,
      stored: 4,
      refused: 2,
      delivered: 8,
      lastStream: 'RAW',
      lastSequence: 20,
      lastAddress: '192.0.2.1',
      lastRefusedAt: null,
    });
    expect(await findLedger(database.db, 'nobody')).toBeUndefined();
    await addToLedger(database.db, [{ device_id: id, ...counts, last_stream: 'OTHER', last_sequence: 1 }]);
    expect(await findLedger(database.db, id)).toMatchObject({ lastStream: 'OTHER', lastSequence: 1 });
  });

  test('a device is written a minute after something was noted, in one statement for all', async () => {
    const ids = await Promise.all([add(), add()]);
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    const queries = vi.spyOn(database.db.pool, 'connect');
    const ledger = start();
    for (const id of ids) ledger.of(id).receive();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(await findLedger(database.db, ids[0] ?? '')).toBeUndefined();
    const before = queries.mock.calls.length;
    await vi.advanceTimersByTimeAsync(3_000);
    vi.useRealTimers();
    await vi.waitFor(async () =>
      expect(await findLedger(database.db, ids[1] ?? '')).toMatchObject({ received: 1 }),
    );
    expect(await findLedger(database.db, ids[0] ?? '')).toMatchObject({ received: 1 });
    expect(before).toBeGreaterThanOrEqual(0);
    queries.mockRestore();
    await ledger.close();
  });

  test('of many devices a replica writes its share of a thousand a second', async () => {
    const ids = (await addDevices(database.db, testActor, { type: 'sensor', count: 300 })).map(
      ({ id }) => id,
    );
    const count = async () =>
      (await database.db.pool.query('select from device_ledger where device_id = any($1)', [ids])).rowCount ??
      0;
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    const ledger = start(() => true, 10);
    for (const id of ids) ledger.of(id).receive();
    // Two ticks: the minute is over, and a second more.
    await vi.advanceTimersByTimeAsync(61_000);
    await vi.waitFor(async () => expect(await count()).toBeGreaterThanOrEqual(100));
    expect(await count()).toBeLessThanOrEqual(200);
    vi.useRealTimers();
    await ledger.close();
    expect(await count()).toBe(300);
  });

  test('what could not be written is written later, with what came meanwhile', async () => {
    const id = await add();
    let live = false;
    const ledger = start(() => live);
    const entry = ledger.of(id);
    entry.connect('192.0.2.7');
    for (let number = 1; number <= 5; number += 1) {
      entry.receive();
      entry.store(ack(number), undefined);
    }
    entry.refuse('publish-denied');
    const noted = { received: 5, stored: 5, refused: 1, delivered: 0, lastRefusedReason: 'publish-denied' };
    expect(ledger.of(id)).toBe(entry);
    expect(await ledger.read(id)).toMatchObject({
      ...noted,
      lastStream: 'RAW',
      lastSequence: 5,
      lastAddress: '192.0.2.7',
    });
    const { pool } = database.db;
    const broken = vi.spyOn(pool, 'query').mockRejectedValue(new Error('away'));
    live = true;
    const firstSeenAt = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await ledger.close();
    broken.mockRestore();
    expect(await ledger.read(id)).toMatchObject(noted);
    expect((await ledger.read(id))?.firstSeenAt.getTime()).toBeLessThanOrEqual(firstSeenAt);
    entry.deliver();
    await ledger.close();
    expect(await findLedger(database.db, id)).toMatchObject({
      received: 5,
      stored: 5,
      refused: 1,
      delivered: 1,
      lastRefusedReason: 'publish-denied',
      lastSequence: 5,
      lastAddress: '192.0.2.7',
    });
    expect(await ledger.read(id)).toEqual(await findLedger(database.db, id));
  });

  test('is read with what is not written yet, also before the first writing and while it is written', async () => {
    const id = await add();
    const ledger = start();
    expect(await ledger.read(id)).toBeUndefined();
    const beganAt = Date.now();
    const entry = ledger.of(id);
    entry.connect('192.0.2.7');
    entry.receive();
    entry.store(ack(7), undefined);
    const first = await ledger.read(id);
    expect(first).toMatchObject({
      received: 1,
      stored: 1,
      lastStream: 'RAW',
      lastSequence: 7,
      lastAddress: '192.0.2.7',
    });
    expect(first?.lastRefusedAt).toBeNull();
    expect(first?.firstSeenAt.getTime()).toBeGreaterThanOrEqual(beganAt - 1);
    const closing = ledger.close();
    const seen = await Promise.all([ledger.read(id), ledger.read(id), ledger.read(id)]);
    await closing;
    for (const each of [...seen, await ledger.read(id)])
      expect(each).toMatchObject({ received: 1, stored: 1 });
    const written = await findLedger(database.db, id);
    expect(written?.firstSeenAt.getTime()).toBe(first?.firstSeenAt.getTime());
    entry.store(ack(6), undefined);
    entry.refuse('publish-denied');
    expect(await ledger.read(id)).toMatchObject({
      stored: 2,
      refused: 1,
      lastSequence: 7,
      lastRefusedReason: 'publish-denied',
    });
    await ledger.close();
  });

  test('nothing is lost of an entry that another one of its device waits before', async () => {
    const id = await add();
    const ledger = start();
    const before = ledger.of(id);
    const after = ledger.of(id);
    expect(after).not.toBe(before);
    before.receive();
    for (let number = 1; number <= 3; number += 1) after.receive();
    expect(await ledger.read(id)).toMatchObject({ received: 4 });
    await ledger.close();
    expect(await findLedger(database.db, id)).toMatchObject({ received: 4 });
  });

  test('the ledger of a device ends with it', async () => {
    const id = await add();
    await addToLedger(database.db, [{ device_id: id, received: 1, stored: 0, refused: 0, delivered: 0 }]);
    await database.sql('delete from devices where id = $1', [id]);
    expect(await findLedger(database.db, id)).toBeUndefined();
    const other = await add();
    await addToLedger(database.db, [{ device_id: other, received: 1, stored: 0, refused: 0, delivered: 0 }]);
    await database.sql('truncate devices');
    expect(await findLedger(database.db, other)).toBeUndefined();
  });
});
