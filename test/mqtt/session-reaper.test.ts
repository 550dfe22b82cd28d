import { expect, onTestFinished, test, vi } from 'vitest';
import { limitLog } from '../../src/log.js';
import { openMemorySessionStore } from '../../src/server/mqtt/sessions/store/memory-session-store.js';
import { openSessionReaper } from '../../src/server/mqtt/sessions/store/session-reaper.js';
import type { SessionRecord } from '../../src/server/mqtt/sessions/store/session-record.js';
import type { SessionStore } from '../../src/server/mqtt/sessions/store/session-store.js';
import { openTestLog } from '../support/forwarding.js';
import { recordOf } from './session-store-suite.js';

/** The replica `one`, which knows of a replica `two` that has the connection of client `d.c`. */
async function openReaper() {
  vi.useFakeTimers();
  const owned = new Map<string, string>();
  const store: SessionStore = Object.assign(Object.create(openMemorySessionStore('for the test')), {
    durable: true,
    owner: 'one',
    owned: () => owned,
  });
  const write = async (change: Partial<SessionRecord>) => {
    const expected = (await store.load('d.c'))?.revision ?? 0;
    await store.write('d.c', recordOf(change), expected, store.nextWriteId());
    if (change.owner === undefined) owned.delete('d.c');
    else owned.set('d.c', change.owner);
  };
  await write({ owner: 'two', epoch: 5 });
  const alive = new Set(['one', 'two']);
  const log = limitLog(openTestLog().log);
  const presence = { known: true, alive, isFirst: true, close: async () => {} };
  const reaper = openSessionReaper({ store, presence, isHere: () => false, log });
  onTestFinished(() => {
    reaper.close();
    log.close();
    vi.useRealTimers();
  });
  return { store, alive, reaper, write };
}

test.each(['this replica', 'another one'])(
  'a session of a lost device whose replica dies unheard is removed, also where %s marks it as away',
  async (which) => {
    const { store, alive, reaper, write } = await openReaper();
    reaper.removeDevice('d');
    await vi.advanceTimersByTimeAsync(4_000);
    expect(store.has('d.c')).toBe(true);
    alive.delete('two');
    if (which === 'another one') await write({ owner: undefined, epoch: 5 });
    await vi.advanceTimersByTimeAsync(16_000);
    expect(store.has('d.c')).toBe(false);
  },
);

test('the session of a client that is back since its device was lost stays', async () => {
  const { store, alive, reaper, write } = await openReaper();
  reaper.removeDevice('d');
  await vi.advanceTimersByTimeAsync(4_000);
  alive.delete('two');
  await write({ owner: undefined, epoch: 6 });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(store.has('d.c')).toBe(true);
});

test('a replica that lives has seen to its sessions: those that it gets later stay when it dies', async () => {
  const { store, alive, reaper } = await openReaper();
  reaper.removeDevice('d');
  await vi.advanceTimersByTimeAsync(40_000);
  alive.delete('two');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(store.has('d.c')).toBe(true);
});
