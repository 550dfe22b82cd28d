import { expect, test } from 'vitest';
import type { SessionRecord } from '../../src/server/mqtt/sessions/store/session-record.js';
import type { SessionStore } from '../../src/server/mqtt/sessions/store/session-store.js';
import { until } from '../support/forwarding.js';

export function recordOf(change: Partial<SessionRecord> = {}): SessionRecord {
  return {
    id: 'abcdefgh12345678',
    epoch: 1,
    owner: 'r1',
    expirySec: Number.POSITIVE_INFINITY,
    awaySinceMs: undefined,
    subscriptions: [],
    cursors: { commands: 0, messages: 0 },
    unacked: [],
    received: { generation: 0, completed: [], open: [] },
    ...change,
  };
}

/** What every store of sessions has to do. @param open a store, the same sessions each time within one test. */
export function testSessionStore(open: () => Promise<SessionStore>): void {
  const write = (store: SessionStore, key: string, record: SessionRecord, expected: number) =>
    store.write(key, record, expected, store.nextWriteId());

  test('what is written is read, whole', async () => {
    const store = await open();
    const record = recordOf({
      epoch: 7,
      expirySec: 4_294_967_294,
      subscriptions: [
        {
          name: '$share/grün/cmd/+/"#"\\',
          qos: 2,
          noLocal: true,
          retainAsPublished: true,
          retainHandling: 2,
          id: 268_435_455,
          from: 9_007_199_254_740_991,
          fromMessages: 9_007_199_254_740_991,
        },
        {
          name: 'a',
          qos: 0,
          noLocal: false,
          retainAsPublished: false,
          retainHandling: 0,
          id: undefined,
          from: 0,
        },
      ],
      cursors: { commands: 12, messages: 34, messageStream: 'M 1', messagesSent: 35 },
      unacked: [
        { packetId: 65_535, stream: 'commands', sequence: 13, released: true },
        { packetId: 1, stream: 'messages', sequence: 33, released: false },
      ],
      received: { generation: 3, completed: [[1, 65_535]], open: [[5, 2]] },
      begun: [7, 65_534],
    });
    expect(store.has('d.whole')).toBe(false);
    expect(await store.load('d.whole')).toBeUndefined();
    const revision = await write(store, 'd.whole', record, 0);
    expect(revision).toBeGreaterThan(0);
    expect(store.has('d.whole')).toBe(true);
    expect([...store.keys()]).toContain('d.whole');
    expect(await store.load('d.whole')).toMatchObject({ revision, record, epoch: 7 });
  });

  test('a write that replaces another revision than it says is refused, and changes nothing', async () => {
    const store = await open();
    const first = await write(store, 'd.fence', recordOf(), 0);
    expect(await write(store, 'd.fence', recordOf({ epoch: 2 }), 0)).toBeUndefined();
    const second = await write(store, 'd.fence', recordOf({ epoch: 3 }), first ?? 0);
    expect(second).toBeGreaterThan(first ?? 0);
    expect(await write(store, 'd.fence', recordOf({ epoch: 4 }), first ?? 0)).toBeUndefined();
    expect(await store.load('d.fence')).toMatchObject({ revision: second, record: { epoch: 3 } });
  });

  test('of many that write at once, one is stored', async () => {
    const store = await open();
    const revision = (await write(store, 'd.race', recordOf(), 0)) ?? 0;
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        write(store, 'd.race', recordOf({ epoch: index + 2 }), revision),
      ),
    );
    expect(results.filter((result) => result !== undefined)).toHaveLength(1);
  });

  test('a write that is repeated is done once', async () => {
    const store = await open();
    const writeId = store.nextWriteId();
    const revision = await store.write('d.again', recordOf(), 0, writeId);
    expect(await store.write('d.again', recordOf(), 0, writeId)).toBe(revision);
    expect(store.nextWriteId()).not.toBe(writeId);
  });

  test('what is removed is gone, and its holder cannot write it again; another one can begin anew', async () => {
    const store = await open();
    const revision = (await write(store, 'd.gone', recordOf(), 0)) ?? 0;
    expect(await store.remove('d.gone', revision + 1_000)).toBe(false);
    expect(store.has('d.gone')).toBe(true);
    expect(await store.remove('d.gone', revision)).toBe(true);
    expect(store.has('d.gone')).toBe(false);
    expect(await store.load('d.gone')).toBeUndefined();
    expect(await write(store, 'd.gone', recordOf({ epoch: 2 }), revision)).toBeUndefined();
    expect(await store.remove('d.gone', undefined)).toBe(true);
    expect(await write(store, 'd.gone', recordOf({ id: 'another-session' }), 0)).toBeGreaterThan(revision);
    expect(await store.remove('d.gone', undefined)).toBe(true);
  });

  test('the sessions of a device are found, those of another one whose id begins alike are not', async () => {
    const store = await open();
    await write(store, 'many.b', recordOf(), 0);
    const first = await write(store, 'many.a', recordOf(), 0);
    await write(store, 'many2.c', recordOf(), 0);
    await write(store, 'many.d', recordOf(), 0);
    await write(store, 'many.a', recordOf({ epoch: 2 }), first ?? 0);
    await store.remove('many.d', undefined);
    expect(await store.keysOf('many')).toEqual(['many.b', 'many.a']);
    expect(await store.keysOf('none')).toEqual([]);
  });

  test('a session expires when its client is away, and not while it is connected', async () => {
    const store = await open();
    const connected = await write(store, 'd.stays', recordOf({ expirySec: 1 }), 0);
    expect(connected).toBeDefined();
    const away = recordOf({ expirySec: 1, owner: undefined, awaySinceMs: 1_700_000_000_000 });
    const revision = await write(store, 'd.ends', away, 0);
    expect(await store.load('d.ends')).toMatchObject({ record: away });
    await until(async () => (await store.load('d.ends')) === undefined);
    await until(() => !store.has('d.ends'));
    expect(await store.load('d.stays')).toMatchObject({ revision: connected });
    // Its client comes back at that moment, to the replica that still has it in memory.
    expect(await write(store, 'd.ends', recordOf({ epoch: 2 }), revision ?? 0)).toBeDefined();
  });

  test('what comes back to it does not expire any more', async () => {
    const store = await open();
    const away = recordOf({ expirySec: 1, owner: undefined });
    const revision = (await write(store, 'd.back', away, 0)) ?? 0;
    expect(await write(store, 'd.back', recordOf({ expirySec: 1, epoch: 2 }), revision)).toBeDefined();
    const other = recordOf({ expirySec: 1, owner: undefined });
    await write(store, 'd.clock', other, 0);
    await until(async () => (await store.load('d.clock')) === undefined);
    expect(await store.load('d.back')).toMatchObject({ record: { epoch: 2 } });
  });
}
