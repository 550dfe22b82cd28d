import { expect, test } from 'vitest';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import type { Client } from '../../src/server/mqtt/sessions/client.js';
import { openAbsentClients } from '../../src/server/mqtt/sessions/taking/absent-clients.js';

/** Where at most two clients that are away are kept. */
function open(durable: boolean) {
  const gone: string[] = [];
  const forget = (client: Client) => {
    gone.push(client.key);
    absent.publishWill(client);
    absent.delete(client);
  };
  const absent = openAbsentClients({
    maxSessions: 2,
    maxDelayedWills: 10,
    store: { durable },
    counters: newBrokerCounters(),
    discard: forget,
    leave: forget,
    closeLane() {},
  });
  const published: string[] = [];
  return {
    gone,
    published,
    /** Clients go away, those with a will that has a delay first; then there are too many. */
    lose(withWill: string[], others: string[]) {
      for (const key of [...withWill, ...others]) {
        const delayedWill = withWill.includes(key)
          ? { dueAtMs: performance.now() + 600_000, publish: () => void published.push(key) }
          : undefined;
        const client = {
          key,
          device: {},
          lane: { inFlight: 0 },
          wills: [],
          sessionExpirySec: 600,
          delayedWill,
        } as unknown as Client;
        absent.add(client, Promise.resolve(true));
      }
      absent.sweep();
    },
  };
}

test('those whose wills wait for their delay stay longest, where their sessions live on without them', () => {
  const some = open(true);
  some.lose(['a', 'b'], ['c', 'd']);
  expect([some.gone, some.published]).toEqual([['c', 'd'], []]);
  const all = open(true);
  all.lose(['a', 'b', 'c'], ['d']);
  expect([all.gone, all.published]).toEqual([['d', 'a'], ['a']]);
});

test('a session that ends here ends with its will, the one absent longest first', () => {
  const { gone, published, lose } = open(false);
  lose(['a', 'b'], ['c', 'd']);
  expect([gone, published]).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ]);
});
