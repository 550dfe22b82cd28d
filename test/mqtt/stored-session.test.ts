import { expect, onTestFinished, test } from 'vitest';
import { limitLog } from '../../src/log.js';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import { openMemorySessionStore } from '../../src/server/mqtt/sessions/store/memory-session-store.js';
import type { SessionRecord } from '../../src/server/mqtt/sessions/store/session-record.js';
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
        onLost: () => void lost.push(owner),
      },
    );
  const write = async (record: SessionRecord, expected: number) =>
    (await store.write('d.c', record, expected, store.nextWriteId())) ?? 0;
  return { store, open, write, lost };
}

test('of two replicas that take a session at the same time, the one that was slower loses it, though its epoch is the same', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: 'one', epoch: 5 });
  const one = open('one', before, await write(before, 0));
  // Its client comes back to it, while another replica has taken the session a moment before.
  const taken = recordOf({ owner: 'two', epoch: 6 });
  const two = open('two', taken, await write(taken, 1));
  one.begin(60, false);
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
  one.begin(60, false);
  const changed = recordOf({ owner: undefined, epoch: 6, subscriptions: [] });
  await write({ ...changed, owner: 'two' }, 1);
  await write(changed, 2);
  expect(await one.persist()).toBe(false);
  expect([one.isHeld, lost]).toEqual([false, ['one']]);
  expect((await store.load('d.c'))?.record).toMatchObject({ epoch: 6, subscriptions: [] });
});

test('a session that nobody took is still the one of a replica that was taken for dead while its client came back to it', async () => {
  const { store, open, write, lost } = openReplicas();
  const before = recordOf({ owner: 'one', epoch: 5 });
  const one = open('one', before, await write(before, 0));
  one.begin(60, false);
  await write({ ...before, owner: undefined, awaySinceMs: 1 }, 1);
  expect(await one.persist()).toBe(true);
  expect([one.isHeld, lost]).toEqual([true, []]);
  expect((await store.load('d.c'))?.record).toMatchObject({ owner: 'one' });
});
