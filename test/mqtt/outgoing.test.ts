import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import { PacketType, type QoS } from '../../src/server/mqtt/protocol/packet-type.js';
import { codecs3 } from '../../src/server/mqtt/protocol/v3/codec.js';
import {
  type OutgoingConnection,
  unlimited,
} from '../../src/server/mqtt/sessions/delivery/delivery-writer.js';
import { Outgoing } from '../../src/server/mqtt/sessions/delivery/outgoing.js';

/** A connection whose client takes what waits only when told to. */
function openFake() {
  /** Payload number, packet identifier and DUP of each PUBLISH written; PUBREL has no payload. */
  const written: { payload: string | undefined; packetId: number; dup: boolean }[] = [];
  let unsentBytes = 0;
  let slow = false;
  const connection: OutgoingConnection = {
    codec: codecs3[4],
    clientLimits: unlimited,
    get unsentBytes() {
      return unsentBytes;
    },
    write(packet) {
      unsentBytes += packet.length;
      let at = 1;
      while ((packet[at] as number) >= 0x80) at += 1;
      const first = packet[0] as number;
      if (first >> 4 === PacketType.PUBREL) {
        written.push({ payload: undefined, packetId: packet.readUInt16BE(at + 1), dup: false });
        return;
      }
      const topicEnd = at + 3 + packet.readUInt16BE(at + 1);
      const qos = (first >> 1) & 3;
      const payload = packet.toString('latin1', topicEnd + (qos > 0 ? 2 : 0)).trimEnd();
      const packetId = qos > 0 ? packet.readUInt16BE(topicEnd) : 0;
      written.push({ payload, packetId, dup: (first & 8) !== 0 });
    },
    cork() {},
    uncork() {},
    closeSlowReader() {
      slow = true;
    },
  };
  return {
    connection,
    written,
    get slow() {
      return slow;
    },
    drain() {
      unsentBytes = 0;
    },
  };
}

function openOutgoing(maxBytes: number, counters = newBrokerCounters(), total = { bytes: 0 }): Outgoing {
  return new Outgoing({ maxMessages: 1_000, maxBytes, maxBytesInAll: 1_000_000_000 }, total, counters);
}

const message = (number: number, bytes: number, qos: QoS = 1) => ({
  topic: 't',
  payload: Buffer.from(String(number).padEnd(bytes)),
  qos,
  retain: false,
});

describe('messages to one client', () => {
  it('sent again after a reconnect go out as fast as they are taken, then those that wait', () => {
    const outgoing = openOutgoing(10_000_000);
    const first = openFake();
    outgoing.attach(first.connection);
    for (let number = 1; number <= 100; number += 1) {
      outgoing.offer(message(number, 30_000));
      first.drain();
    }
    expect(first.written).toHaveLength(100);
    outgoing.detach();
    outgoing.offer(message(101, 30_000));

    const second = openFake();
    outgoing.attach(second.connection);
    while (second.written.length < 101) {
      const before = second.written.length;
      expect(second.connection.unsentBytes).toBeLessThan(65_536 + 31_000);
      second.drain();
      outgoing.pump();
      expect(second.written.length).toBeGreaterThan(before);
    }
    expect(second.written.map(({ payload }) => Number(payload))).toEqual(
      Array.from({ length: 101 }, (_, index) => index + 1),
    );
    expect(second.written.map(({ dup }) => dup)).toEqual([...Array(100).fill(true), false]);
  });

  it('count until they are acknowledged', () => {
    const counters = newBrokerCounters();
    const outgoing = openOutgoing(10_000, counters);
    const client = openFake();
    outgoing.attach(client.connection);
    for (let number = 1; number <= 3; number += 1) outgoing.offer(message(number, 3_000));
    expect([client.written.length, client.slow]).toEqual([3, false]);
    outgoing.onAcknowledge(PacketType.PUBACK, 1);
    outgoing.offer(message(4, 3_000));
    expect([client.written.length, client.slow]).toEqual([4, false]);
    outgoing.offer(message(5, 3_000));
    expect([client.written.length, client.slow]).toEqual([4, true]);
    expect(counters.limits['outgoing-bytes']).toBe(1);
  });

  it('of all clients are bounded: a share of what is free for each, given back when its session ends', () => {
    const counters = newBrokerCounters();
    const total = { bytes: 0 };
    const limits = { maxMessages: 1_000, maxBytes: 1_000_000, maxBytesInAll: 1_000_000 };
    const absent = Array.from({ length: 50 }, () => new Outgoing(limits, total, counters));
    for (const outgoing of absent) {
      const before = total.bytes;
      for (let number = 1; number <= 200; number += 1) outgoing.offer(message(number, 936));
      const share = (limits.maxBytesInAll - total.bytes) / 8;
      expect(total.bytes - before).toBeLessThanOrEqual(share + 1_000);
      expect(total.bytes - before).toBeGreaterThan(share - 3_000);
    }
    expect(total.bytes).toBeLessThan(limits.maxBytesInAll);
    expect(counters.limits['outgoing-bytes-in-all']).toBeGreaterThan(0);

    // One that takes what it is sent is served, and one that does not is given up.
    const served = new Outgoing(limits, total, counters);
    const client = openFake();
    served.attach(client.connection);
    for (let number = 1; number <= 10; number += 1) {
      served.offer(message(number, 50_000));
      served.onAcknowledge(PacketType.PUBACK, number);
      client.drain();
    }
    expect([client.written.length, client.slow]).toEqual([10, false]);
    served.offer(message(11, 50_000));
    served.offer(message(12, 50_000));
    expect(client.slow).toBe(true);

    for (const outgoing of [...absent, served]) {
      outgoing.end();
      // A delivery under way when the session ends.
      outgoing.offer(message(1, 1_000));
    }
    expect(total.bytes).toBe(0);
  });

  const events = fc.array(
    fc.oneof(
      fc.record({
        what: fc.constant('offer' as const),
        bytes: fc.integer({ min: 1, max: 20_000 }),
        qos: fc.constantFrom(0, 1, 2),
      }),
      fc.record({ what: fc.constantFrom('acknowledge', 'drain', 'reconnect') }),
    ),
    { maxLength: 150 },
  );

  it('of QoS 1 and 2 come to the client in order, none lost, within the bytes, whatever happens', () => {
    fc.assert(
      fc.property(events, (happenings) => {
        const maxBytes = 200_000;
        const counters = newBrokerCounters();
        const total = { bytes: 0 };
        const outgoing = openOutgoing(maxBytes, counters, total);
        let client = openFake();
        outgoing.attach(client.connection);
        /** Numbers of the messages of QoS 1 and 2 taken. */
        const wanted: number[] = [];
        const got = new Set<number>();
        const qosOf = new Map<number, QoS>();
        let number = 0;
        /** What the client has answered of what this connection was sent. */
        let answered = 0;
        const acknowledge = () => {
          const next = client.written[answered];
          if (next === undefined) return false;
          answered += 1;
          if (next.payload === undefined) outgoing.onAcknowledge(PacketType.PUBCOMP, next.packetId);
          else if (next.packetId !== 0) {
            got.add(Number(next.payload));
            const qos = qosOf.get(Number(next.payload));
            outgoing.onAcknowledge(qos === 1 ? PacketType.PUBACK : PacketType.PUBREC, next.packetId);
          }
          return true;
        };
        const expectOrder = () => {
          const numbers = client.written.flatMap(({ payload, packetId }) =>
            payload === undefined || packetId === 0 ? [] : [Number(payload)],
          );
          expect(numbers).toEqual(numbers.toSorted((one, two) => one - two));
          expect(outgoing.describe().waitingBytes).toBeLessThanOrEqual(maxBytes);
          expect(total.bytes).toBe(outgoing.describe().waitingBytes);
        };
        for (const happening of happenings) {
          if (happening.what === 'offer') {
            number += 1;
            const { deliveriesDropped } = counters;
            qosOf.set(number, happening.qos as QoS);
            outgoing.offer(message(number, happening.bytes, happening.qos as QoS));
            if (counters.deliveriesDropped === deliveriesDropped && happening.qos > 0) wanted.push(number);
          } else if (happening.what === 'acknowledge') {
            acknowledge();
          } else if (happening.what === 'drain') {
            client.drain();
            outgoing.pump();
          } else {
            expectOrder();
            outgoing.detach();
            client = openFake();
            answered = 0;
            outgoing.attach(client.connection);
          }
        }
        for (let more = true; more; ) {
          more = acknowledge();
          client.drain();
          outgoing.pump();
          more = more || answered < client.written.length;
        }
        expectOrder();
        expect([...wanted].filter((each) => !got.has(each))).toEqual([]);
        expect(outgoing.describe()).toMatchObject({ waiting: 0, waitingBytes: 0, unacknowledged: 0 });
        expect(total.bytes).toBe(0);
      }),
    );
  });
});

describe('messages that a stream keeps', () => {
  const place = (sequence: number, stream: 'commands' | 'messages' = 'messages') => ({ stream, sequence });

  it('of QoS 2 are released when the store knows that the client has them, and PUBREL is what is sent again', async () => {
    let store: (stored: boolean) => void = () => {};
    const limits = { maxMessages: 1_000, maxBytes: 10_000_000, maxBytesInAll: 1_000_000_000 };
    const outgoing = new Outgoing(limits, { bytes: 0 }, newBrokerCounters(), {
      onDelivered() {},
      touch() {},
      persist: () => new Promise((resolve) => (store = resolve)),
    });
    const first = openFake();
    outgoing.attach(first.connection);
    expect(outgoing.sendStored(message(1, 1, 2), place(1), false)).toBe(true);
    const packetId = first.written[0]?.packetId as number;
    outgoing.onAcknowledge(PacketType.PUBREC, packetId);
    expect(outgoing.listStored()).toEqual([{ packetId, ...place(1), released: true }]);
    expect(first.written).toHaveLength(1);
    store(true);
    await Promise.resolve();
    expect(first.written[1]).toEqual({ payload: undefined, packetId, dup: false });
    const list = outgoing.listStored();
    outgoing.detach();

    const elsewhere = openOutgoing(10_000_000);
    elsewhere.restoreStored(list);
    const second = openFake();
    elsewhere.attach(second.connection);
    expect(second.written).toEqual([{ payload: undefined, packetId, dup: false }]);
    expect(elsewhere.onAcknowledge(PacketType.PUBCOMP, packetId)).toBeUndefined();
    expect(elsewhere.listStored()).toEqual([]);
  });

  it('of QoS 2 wait for the packet identifier that they have on every replica; those of QoS 1 take another one', () => {
    const outgoing = openOutgoing(10_000_000);
    const client = openFake();
    outgoing.attach(client.connection);
    expect(outgoing.sendStored(message(1, 1), place(5), false)).toBe(true);
    const packetId = client.written[0]?.packetId as number;
    // The other stream's counts from the other end.
    const colliding = place(packetId - 1, 'commands');
    expect(outgoing.sendStored(message(2, 1, 2), colliding, false)).toBe(false);
    expect(outgoing.sendStored(message(3, 1), colliding, false)).toBe(true);
    expect(client.written[1]?.packetId).not.toBe(packetId);
    outgoing.onAcknowledge(PacketType.PUBACK, packetId);
    expect(outgoing.sendStored(message(2, 1, 2), colliding, false)).toBe(true);
    expect(client.written[2]).toEqual({ payload: '2', packetId, dup: false });
  });
});
