import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { writeAudit } from '../../src/db/audit.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { passOnChanges } from '../../src/db/devices/life-cycle.js';
import { kinds, openTestDatabase, type TestDatabase, testActor } from './databases.js';

describe.each(kinds)('the changes of devices in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate devices, audit_log, event_cursor'));
  afterAll(() => database?.close());

  const add = (id: string) => addDevices(database.db, testActor, { type: 'sensor', id });
  const told = async () => {
    const devices: string[] = [];
    await passOnChanges(database.db, async (changes) => {
      devices.push(...changes.map(({ device }) => device));
    });
    return devices;
  };
  /** What a dump of a server whose numbers of transactions are higher has left here. */
  const restoreRecords = (count: number) =>
    database.sql(
      `insert into audit_log (actor_kind, actor, action, target, xid)
       select 'cli', 'tester', 'device.add', 'old' || number, (900000000 + number)::text::xid8
       from generate_series(1, $1) as number`,
      [count],
    );
  const foreign = () => database.sql(`select id from audit_log where xid >= '900000000'::xid8`);

  test('are handed over once each', async () => {
    await add('before');
    expect(await told()).toEqual([]);
    await add('a');
    await add('b');
    expect(await told()).toEqual(['a', 'b']);
    expect(await told()).toEqual([]);
  });

  test.each(['with', 'without'])(
    'that were restored from a server with higher numbers %s its cursor are not handed over',
    async (cursor) => {
      await restoreRecords(5_001);
      if (cursor === 'with')
        await database.sql(`insert into event_cursor (snapshot) values ('900005002:900005002:')`);
      await add('before');
      expect(await told()).toEqual([]);
      // Nor when the numbers get there.
      expect(await foreign()).toEqual([]);
      await add('a');
      expect(await told()).toEqual(['a']);
      expect(await told()).toEqual([]);
    },
  );

  test('leave the cursor behind what is no change of a device, a minute later', async () => {
    const cursor = async () => (await database.sql('select snapshot from event_cursor'))[0];
    const nowMs = vi.spyOn(performance, 'now');
    onTestFinished(() => nowMs.mockRestore());
    expect(await told()).toEqual([]);
    await add('a');
    expect(await told()).toEqual(['a']);
    const [before, startMs] = [await cursor(), performance.now()];
    await writeAudit(database.db.orm, testActor, [{ action: 'policy.set', target: 'sensor' }]);
    expect(await told()).toEqual([]);
    expect(await cursor()).toEqual(before);
    nowMs.mockReturnValue(startMs + 61_000);
    expect(await told()).toEqual([]);
    const after = await cursor();
    expect(after).not.toEqual(before);
    await add('b');
    expect(await told()).toEqual(['b']);
  });

  test('that were restored beside a cursor hold up nothing', async () => {
    expect(await told()).toEqual([]);
    await restoreRecords(1);
    await add('a');
    expect(await told()).toEqual(['a']);
    expect(await told()).toEqual([]);
  });
});
