import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { limitLog } from '../../src/log.js';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import { openMemorySessionStore } from '../../src/server/mqtt/sessions/store/memory-session-store.js';
import type { SessionRecord } from '../../src/server/mqtt/sessions/store/session-record.js';
import { StoreError } from '../../src/server/mqtt/sessions/store/session-store.js';
import { openSessionWriter } from '../../src/server/mqtt/sessions/store/session-writer.js';
import { StoredSession } from '../../src/server/mqtt/sessions/store/stored-session.js';
import { openTestLog } from '../support/forwarding.js';
import { recordOf } from './session-store-suite.js';

/** Two replicas on one store. */
function openReplicas() {
  const store = openMemorySessionStore('for the test');
  const log = limitLog(openTestLog().log);
  const writer = openSessionWriter({ counters: newBrokerCounters(), log });
  onTestFinished(() => {
    writer.close();
    log.close();
  });
  const lost: string[] = [];
  const open = (owner: string, record: SessionRecord, revision: number) =>
    new StoredSession(
      { store, writer, owner },
      { key: 'd.c', record, revision },
      {
        collect: () => record,
        onLost: (ended) => void lost.push(ended ? `${owner}, ended` : owner),
      },
    );
  const openOther = (key: string) =>
    new StoredSession(
      { store, writer, owner: 'one' },
      { key, record: recordOf({ owner: 'one' }), revision: 0 },
      { collect: () => recordOf(), onLost() {} },
    );
  const write = async (record: SessionRecord, expected: number) =>
    (await store.write('d.c', record, expected, store.nextWriteId())) ?? 0;
  /** The store has this record, and has forgotten all others. */
  const goBack = async (record: SessionRecord) => {
    const earlier = openMemorySessionStore('for the test');
    await earlier.write('d.c', record, 0, store.nextWriteId());
    store.write = earlier.write;
    store.load = earlier.load;
  };
  return { store, open, openOther, write, lost, goBack };
}

const mark = { type: 'test', secret: 'salt' };

const subscription = {
  ...{ name: 'a', qos: 1 as const, noLocal: false, retainAsPublished: false },
  ...{ retainHandling: 0 as const, id: undefined, from: 0 },
};

test('of two replicas that take a session at the same time, the one that was slower loses it, though its epoch is the same', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: 'one', epoch: 5 });
  const one = open('one', before, await write(before, 0));
  // Its client comes back to it, while another replica has taken the session a moment before.
  const taken = recordOf({ owner: 'two', epoch: 6 });
  const two = open('two', taken, await write(taken, 1));
  one.begin(60, false, mark);
  expect(one.epoch).toBe(two.epoch);
  expect(await one.persist()).toBe(false);
  expect([one.isHeld, two.isHeld, lost]).toEqual([false, true, ['one']]);
  expect((await store.load('d.c'))?.record).toMatchObject({ owner: 'two', epoch: 6 });
  expect(await two.persist()).toBe(true);
});

test('a session that was marked as away while its replica was taken for dead is still its own', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: 'one', epoch: 5 });
  const one = open('one', before, await write(before, 0));
  await write({ ...before, owner: undefined, awaySinceMs: 1 }, 1);
  expect(await one.persist()).toBe(true);
  expect([one.isHeld, lost]).toEqual([true, []]);
  expect((await store.load('d.c'))?.record).toMatchObject({ owner: 'one', epoch: 5 });
});

test('a session that another replica has taken, changed and parted with is not taken back by the one whose claim came too late', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: undefined, epoch: 5 });
  const one = open('one', before, await write(before, 0));
  // Its client comes back to it, and it has not been able to say so when another replica has had the client already.
  one.begin(60, false, mark);
  const changed = recordOf({ owner: undefined, epoch: 6, subscriptions: [] });
  await write({ ...changed, owner: 'two' }, 1);
  await write(changed, 2);
  expect(await one.persist()).toBe(false);
  expect([one.isHeld, lost]).toEqual([false, ['one']]);
  expect((await store.load('d.c'))?.record).toMatchObject({ epoch: 6, subscriptions: [] });
});

test.each(['when that is heard of', 'when it writes again'])(
  'a session in whose place its client has begun another one is found to have ended %s',
  async (when) => {
    const { open, write, lost } = openReplicas();
    const before = recordOf({ owner: 'one', epoch: 5 });
    const one = open('one', before, await write(before, 0));
    const revision = await write(recordOf({ id: 'another-one', owner: 'two', epoch: 6 }), 1);
    if (when === 'when it writes again') expect(await one.persist()).toBe(false);
    else await one.onNews(revision);
    expect([one.isHeld, one.hasEnded, lost]).toEqual([false, true, ['one, ended']]);
  },
);

test('a session that nobody took is still the one of a replica that was taken for dead while its client came back to it', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: 'one', epoch: 5 });
  const one = open('one', before, await write(before, 0));
  one.begin(60, false, mark);
  await write({ ...before, owner: undefined, awaySinceMs: 1 }, 1);
  expect(await one.persist()).toBe(true);
  expect([one.isHeld, lost]).toEqual([true, []]);
  expect((await store.load('d.c'))?.record).toMatchObject({ owner: 'one' });
});

describe('a store that has an earlier revision again', () => {
  const later = { subscriptions: [{ ...subscription, name: 'later' }] };
  test.each<[name: string, earlier: Partial<SessionRecord>, isKept: boolean]>([
    ['of the same connection', { owner: 'one', epoch: 5 }, true],
    ['of an earlier connection to the same replica', { owner: 'one', epoch: 4 }, true],
    ['from before the client was back', { owner: undefined, epoch: 4, awaySinceMs: 1 }, true],
    ['of another replica', { owner: 'two', epoch: 4 }, false],
  ])('%s has the session written again, unless another replica has it there', async (_, earlier, isKept) => {
    const { store, open, write, lost, goBack } = openReplicas();
    for (let round = 0; round < 3; round += 1) await write(recordOf({ owner: 'one', epoch: 5 }), round);
    const one = open('one', recordOf({ owner: 'one', epoch: 5, ...later }), 3);
    await goBack(recordOf(earlier));
    expect(await one.persist()).toBe(isKept);
    expect([one.isHeld, lost]).toEqual([isKept, isKept ? [] : ['one']]);
    expect((await store.load('d.c'))?.record).toMatchObject(
      isKept ? { owner: 'one', epoch: 5, ...later } : { owner: 'two', epoch: 4 },
    );
  });

  test('has the session written as soon as that is known', async () => {
    const { store, open, write, goBack } = openReplicas();
    for (let round = 0; round < 3; round += 1) await write(recordOf({ owner: 'one', epoch: 5 }), round);
    const one = open('one', recordOf({ owner: 'one', epoch: 5, ...later }), 3);
    await goBack(recordOf({ owner: 'one', epoch: 5 }));
    await one.onNews(1);
    await one.settled();
    expect((await store.load('d.c'))?.record).toMatchObject(later);
  });
});

test('a store that refuses to replace what it says it has is not asked again at once', async () => {
  const { store, open, write } = openReplicas();
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const one = open('one', recordOf({ owner: 'one' }), await write(recordOf({ owner: 'one' }), 0));
  const { write: writeNow } = store;
  let refused = 0;
  store.write = () => {
    refused += 1;
    // Else the test would not come to its end.
    if (refused > 100) return new Promise(() => {});
    return Promise.resolve(undefined);
  };
  const stored = one.persist();
  await vi.advanceTimersByTimeAsync(1_000);
  expect([refused > 1, refused < 10]).toEqual([true, true]);
  store.write = writeNow;
  await vi.advanceTimersByTimeAsync(2_000);
  expect(await stored).toBe(true);
});

test('a session that the store refuses is tried again, and holds up no other', async () => {
  const { store, open, openOther } = openReplicas();
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { write } = store;
  let refused = 0;
  let isTooLarge = true;
  store.write = (key, ...rest) => {
    if (key !== 'd.large' || !isTooLarge) return write.call(store, key, ...rest);
    refused += 1;
    return Promise.reject(new StoreError('too large', false));
  };
  const large = openOther('d.large');
  const small = open('one', recordOf({ owner: 'one' }), 0);
  const stored = large.persist();
  // No time passes: a pause would last for ever.
  for (let round = 1; round <= 3; round += 1) expect(await small.persist()).toBe(true);
  expect(refused).toBe(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(refused).toBeGreaterThan(2);
  expect(await small.persist()).toBe(true);
  isTooLarge = false;
  await vi.advanceTimersByTimeAsync(2_000);
  expect(await stored).toBe(true);
});

test('a store that refuses one after the other is left alone for a while', async () => {
  const { store, open, openOther } = openReplicas();
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { write } = store;
  let refused = 0;
  let isFull = true;
  store.write = (...all) => {
    if (!isFull) return write.apply(store, all);
    refused += 1;
    return Promise.reject(new StoreError('full', false));
  };
  const all = [open('one', recordOf({ owner: 'one' }), 0), ...['d.b', 'd.c2', 'd.d'].map(openOther)];
  const stored = Promise.all(all.map((each) => each.persist()));
  await vi.advanceTimersByTimeAsync(10);
  const before = refused;
  await vi.advanceTimersByTimeAsync(20_000);
  expect(refused - before).toBeLessThan(200);
  isFull = false;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await stored).toEqual([true, true, true, true]);
});
