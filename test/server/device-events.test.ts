import { afterEach, expect, test, vi } from 'vitest';
import { addDevices } from '../../src/db/devices/devices.js';
import { passOnChanges } from '../../src/db/devices/life-cycle.js';
import type { ChangeFeed } from '../../src/db/feed/change-feed.js';
import { openLog } from '../../src/log.js';
import { EventFeed } from '../../src/server/event-feed.js';
import { startDeviceEvents } from '../../src/server/operate/device-events.js';
import { openTestDatabase, testActor } from '../db/databases.js';

afterEach(() => {
  vi.useRealTimers();
});

test('a change that could not be told is told a second later, though nothing else has changed', async () => {
  const database = await openTestDatabase('postgres');
  await passOnChanges(database.db, async () => {});
  await addDevices(database.db, testActor, { type: 'sensor', id: 'a' });
  const log = openLog({ level: 'silent', format: 'json' });
  const waits = new Promise<void>((resolve) => vi.spyOn(log, 'warn').mockImplementation(() => resolve()));
  const told: string[] = [];
  let isAway = true;
  let onTold = () => {};
  const isTold = new Promise<void>((resolve) => {
    onTold = resolve;
  });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const events = startDeviceEvents({
    db: database.db,
    feed: { follow: () => () => {} } as unknown as ChangeFeed,
    events: new EventFeed(),
    sender: {
      send({ device }) {
        if (isAway) return false;
        told.push(device);
        onTold();
        return true;
      },
      flush: async () => {},
    },
    replica: 'r',
    log,
  });
  await vi.advanceTimersByTimeAsync(100);
  await waits;
  isAway = false;
  await vi.advanceTimersByTimeAsync(1_100);
  await isTold;
  expect(told).toEqual(['a']);
  vi.useRealTimers();
  await events.close();
  await database.close();
});
