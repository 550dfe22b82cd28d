import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Connection } from '../../src/server/mqtt/connection.js';
import { type ConnectionMeter, openConnectionMeters } from '../../src/server/mqtt/live/connection-meters.js';
import { openConnectionOrders } from '../../src/server/mqtt/live/connection-order.js';
import { ConnectionRoll } from '../../src/server/mqtt/live/connection-roll.js';

let opened = 0;

/** As much of a connection as its place in a list asks for. */
function makeConnection(messages: number) {
  opened += 1;
  return {
    id: `r-${opened}`,
    isConnected: true,
    openedAtMs: Math.floor(opened / 3),
    received: [0, messages, 0] as [number, number, number],
    device: { id: `device-${opened % 4}`, type: 'test' },
    clientId: `client-${opened}`,
    socket: { address: '127.0.0.1:1' },
    accepted: { transport: 'tcp' },
    protocol: '3.1.1',
    meter: undefined as ConnectionMeter | undefined,
  };
}

type Fake = ReturnType<typeof makeConnection>;

function open() {
  const connections = new ConnectionRoll<Fake>();
  const meters = openConnectionMeters(connections);
  const orders = openConnectionOrders(connections as unknown as ConnectionRoll<Connection>, meters);
  const come = (connection: Fake) => {
    connections.add(connection);
    connections.letIn(connection);
    return connection;
  };
  return { connections, come, meters, orders };
}

const request = { device: undefined, type: undefined, sort: 'messages', offset: 0, limit: 0 } as const;

describe('an order of connections', () => {
  test('is at each look that of the connections of now', () => {
    const change = fc.record({
      what: fc.constantFrom('come', 'go', 'send', 'sample', 'forget'),
      which: fc.nat(30),
      messages: fc.nat(4),
    });
    fc.assert(
      fc.property(
        ...[fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 8 }), fc.boolean()],
        fc.constantFrom(undefined, 'device-1'),
        fc.constantFrom('messages', 'client', 'rate'),
        (looks, descending, text, sort) => {
          const { connections, come, meters, orders } = open();
          let aheadMs = 0;
          const keyOf = (connection: Fake) => {
            if (sort === 'client') return connection.clientId;
            return sort === 'rate' ? (meters.rateOf(connection) ?? -1) : connection.received[1];
          };
          const compare = (a: string | number, b: string | number) => (a < b ? -1 : a > b ? 1 : 0);
          for (const changes of looks) {
            for (const { what, which, messages } of changes) {
              const some = [...connections][which % Math.max(1, connections.size)];
              if (what === 'come') come(makeConnection(messages));
              else if (what === 'sample') {
                aheadMs += 1_000;
                meters.onTick(performance.now() + aheadMs);
              } else if (what === 'forget') meters.onTick(performance.now() + 3_600_000);
              else if (some !== undefined && what === 'send') some.received[1] = messages;
              else if (some !== undefined) {
                some.isConnected = false;
                connections.remove(some, true);
              }
            }
            const entries = orders.of({ ...request, sort, text, descending });
            const sign = descending ? -1 : 1;
            const expected = [...connections]
              .filter(({ device }) => text === undefined || device.id === text)
              .sort(
                (a, b) =>
                  sign * compare(keyOf(a), keyOf(b)) || a.openedAtMs - b.openedAtMs || (a.id < b.id ? -1 : 1),
              );
            expect(connections.connected).toBe(connections.size);
            expect(entries.map(({ connection }) => connection.id)).toEqual(expected.map(({ id }) => id));
          }
        },
      ),
    );
  });

  test('is the same one for the second question about a page', () => {
    const { come, orders } = open();
    const all = [0, 1, 2, 3, 4].map((messages) => come(makeConnection(messages)));
    const asked = { ...request, text: undefined, descending: false };
    const ids = (again: boolean) => orders.of(asked, again).map(({ connection }) => connection.id);
    const before = ids(false);
    for (const each of all) each.received[1] = 9 - each.received[1];
    expect(ids(true)).toEqual(before);
    expect(ids(false)).toEqual(before.reverse());
  });

  test('looks at those that have not changed once and compares them with none', () => {
    const { come, orders } = open();
    const all = Array.from({ length: 20_000 }, (_each, count) => come(makeConnection(count % 1_000)));
    const asked = { ...request, text: undefined, descending: false };
    orders.of(asked);
    const reads = { openedAtMs: 0, received: 0 };
    for (const name of ['openedAtMs', 'received'] as const) {
      const value = all[0]?.[name];
      Object.defineProperty(all[0], name, {
        get: () => {
          reads[name] += 1;
          return value;
        },
      });
    }
    const last = all.at(-1) as Fake;
    last.received[1] = 500;
    orders.of(asked);
    expect(reads).toEqual({ openedAtMs: 0, received: 1 });
  });

  test('holds none that has ended, while somebody watches or afterwards', async () => {
    const { connections, come, meters, orders } = open();
    const asked = { ...request, text: undefined, descending: false };
    const ended: WeakRef<Fake>[] = [];
    const comeAndGo = () => {
      for (let count = 0; count < 1_000; count += 1) {
        const connection = come(makeConnection(0));
        ended.push(new WeakRef(connection));
        connection.isConnected = false;
        connections.remove(connection, true);
      }
    };
    const countHeld = async () => {
      await delay(1);
      collectGarbage();
      return ended.filter((each) => each.deref() !== undefined).length;
    };
    orders.of(asked);
    comeAndGo();
    orders.of(asked);
    expect(await countHeld()).toBe(0);

    // Nobody was there to be given a meter.
    meters.onTick(performance.now() + 3_600_000);
    orders.of(asked);
    meters.onTick(performance.now() + 3_600_000);
    comeAndGo();
    expect(await countHeld()).toBe(0);
  });
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
