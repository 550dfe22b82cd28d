import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Connection } from '../../src/server/mqtt/connection.js';
import { type ConnectionMeter, openConnectionMeters } from '../../src/server/mqtt/live/connection-meters.js';
import { openConnectionOrders } from '../../src/server/mqtt/live/connection-order.js';

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
  const connections = new Set<Fake>();
  const meters = openConnectionMeters(connections);
  const orders = openConnectionOrders(connections as unknown as Set<Connection>, meters);
  return { connections, meters, orders };
}

const request = { device: undefined, type: undefined, sort: 'messages', offset: 0, limit: 0 } as const;

describe('an order of connections', () => {
  test('is at each look that of the connections of now', () => {
    const change = fc.record({
      what: fc.constantFrom('come', 'go', 'send', 'forget'),
      which: fc.nat(30),
      messages: fc.nat(4),
    });
    fc.assert(
      fc.property(
        ...[fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 8 }), fc.boolean()],
        fc.constantFrom(undefined, 'device-1'),
        (looks, descending, text) => {
          const { connections, meters, orders } = open();
          for (const changes of looks) {
            for (const { what, which, messages } of changes) {
              const some = [...connections][which % Math.max(1, connections.size)];
              if (what === 'come') connections.add(makeConnection(messages));
              else if (what === 'forget') meters.onTick(performance.now() + 3_600_000);
              else if (some !== undefined && what === 'send') some.received[1] = messages;
              else if (some !== undefined) {
                some.isConnected = false;
                connections.delete(some);
              }
            }
            const { entries, total } = orders.of({ ...request, text, descending });
            const sign = descending ? -1 : 1;
            const expected = [...connections]
              .filter(({ device }) => text === undefined || device.id === text)
              .sort(
                (a, b) =>
                  sign * (a.received[1] - b.received[1]) ||
                  a.openedAtMs - b.openedAtMs ||
                  (a.id < b.id ? -1 : 1),
              );
            expect(total).toBe(connections.size);
            expect(entries.map(({ connection }) => connection.id)).toEqual(expected.map(({ id }) => id));
          }
        },
      ),
    );
  });

  test('is the same one for the second question about a page', () => {
    const { connections, orders } = open();
    for (let messages = 0; messages < 5; messages += 1) connections.add(makeConnection(messages));
    const asked = { ...request, text: undefined, descending: false };
    const { entries } = orders.of(asked);
    for (const each of connections) each.received[1] = 9 - each.received[1];
    expect(orders.of(asked, true).entries).toBe(entries);
    expect(orders.of(asked).entries).not.toBe(entries);
  });

  test('looks again at few when few have changed', () => {
    const { connections, orders } = open();
    for (let count = 0; count < 20_000; count += 1) connections.add(makeConnection(count % 1_000));
    const asked = { ...request, text: undefined, descending: false };
    orders.of(asked);
    let reads = 0;
    const watched = [...connections][0] as Fake;
    Object.defineProperty(watched, 'openedAtMs', {
      get: () => {
        reads += 1;
        return 0;
      },
    });
    orders.of(asked);
    // It is compared with its neighbours, and not with as many as sorting anew takes.
    expect(reads).toBeLessThan(8);
  });
});
