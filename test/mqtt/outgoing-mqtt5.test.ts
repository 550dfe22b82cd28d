import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import type { Codec, Delivery, OutgoingPublish } from '../../src/server/mqtt/protocol/codec.js';
import { PacketType, type QoS } from '../../src/server/mqtt/protocol/packet-type.js';
import { codecs3 } from '../../src/server/mqtt/protocol/v3/codec.js';
import {
  type ClientLimits,
  type OutgoingConnection,
  type OutgoingMessage,
  unlimited,
} from '../../src/server/mqtt/sessions/delivery/delivery-writer.js';
import { Outgoing } from '../../src/server/mqtt/sessions/delivery/outgoing.js';

/** What clients of MQTT 5 say of themselves, and what messages say: held to the rules, whatever the bytes look like. */

interface Sent {
  readonly type: PacketType;
  readonly packetId: number;
  readonly code?: number;
  readonly delivery?: Delivery;
  /** The topic as it is in the packet: empty where an alias stands for it. */
  readonly topic?: string;
  readonly payload?: string;
  readonly expirySec?: number;
  readonly subscriptionIds?: readonly number[];
  readonly bytes: number;
}

/** Packets that a test reads back; 50 bytes, topic and payload. */
const readable: Codec = {
  ...codecs3[4],
  encodeAcknowledge: (type, packetId, code = 0) => Buffer.from(JSON.stringify({ type, packetId, code })),
  encodePublish({ topic, payload, properties, subscriptionIds }: OutgoingPublish, delivery) {
    const isKnown = delivery.alias?.isNew === false;
    const sent = {
      type: PacketType.PUBLISH,
      packetId: delivery.packetId,
      delivery,
      topic: isKnown ? '' : topic,
      payload: payload.toString(),
      expirySec: properties?.expirySec,
      subscriptionIds,
    };
    const bytes = 50 + sent.topic.length + payload.length + (delivery.alias === undefined ? 0 : 3);
    return Object.assign(Buffer.alloc(bytes), { sent });
  },
};

function openClient(limits: Partial<ClientLimits> = {}) {
  const sent: Sent[] = [];
  const connection: OutgoingConnection = {
    codec: readable,
    clientLimits: { ...unlimited, ...limits },
    unsentBytes: 0,
    write(packet) {
      const { sent: publish } = packet as Buffer & { sent?: Omit<Sent, 'bytes'> };
      sent.push({ ...(publish ?? JSON.parse(packet.toString())), bytes: packet.length });
    },
    cork() {},
    uncork() {},
    closeSlowReader: () => expect.fail('the client is not slow'),
  };
  return { connection, sent, payloads: () => sent.flatMap(({ payload }) => payload ?? []) };
}

function openOutgoing(limits: { maxMessages?: number; maxBytes?: number } = {}) {
  const counters = newBrokerCounters();
  const total = { bytes: 0 };
  const all = { maxMessages: 1_000, maxBytes: 10_000_000, maxBytesInAll: 1_000_000_000, ...limits };
  return { outgoing: new Outgoing(all, total, counters), counters, total };
}

const message = (payload: string, more: Partial<OutgoingMessage> = {}): OutgoingMessage => ({
  topic: 'some/topic',
  payload: Buffer.from(payload),
  qos: 1,
  retain: false,
  ...more,
});

afterEach(() => {
  vi.useRealTimers();
});

describe('the receive maximum of a client', () => {
  it('is what it has unacknowledged at most, and QoS 0 keeps its place in the order [MQTT-3.3.4-9]', () => {
    const { outgoing } = openOutgoing();
    const client = openClient({ receiveMaximum: 2 });
    outgoing.attach(client.connection);
    for (const payload of ['1', '2', '3']) outgoing.offer(message(payload));
    outgoing.offer(message('4', { qos: 0 }));
    expect(client.payloads()).toEqual(['1', '2']);
    outgoing.onAcknowledge(PacketType.PUBACK, 2, 0);
    expect(client.payloads()).toEqual(['1', '2', '3', '4']);
  });

  it('is one of PUBLISH: PUBREC keeps the place, PUBCOMP and a failure give it back [4.9]', () => {
    const { outgoing, counters } = openOutgoing();
    const client = openClient({ receiveMaximum: 1 });
    outgoing.attach(client.connection);
    for (const payload of ['1', '2', '3', '4']) outgoing.offer(message(payload, { qos: 2 }));
    outgoing.onAcknowledge(PacketType.PUBREC, 1, 0x10);
    expect(client.payloads()).toEqual(['1']);
    outgoing.onAcknowledge(PacketType.PUBCOMP, 1, 0);
    outgoing.onAcknowledge(PacketType.PUBREC, 2, 0x97);
    expect(client.payloads()).toEqual(['1', '2', '3']);
    expect(client.sent.filter(({ type }) => type === PacketType.PUBREL)).toHaveLength(1);
    expect(counters.deliveriesRefused).toBe(1);
  });

  it('holds for what is sent again after a reconnect, PUBREL aside [4.9]', () => {
    const { outgoing } = openOutgoing();
    const first = openClient();
    outgoing.attach(first.connection);
    outgoing.offer(message('rec', { qos: 2 }));
    for (const payload of ['1', '2', '3']) outgoing.offer(message(payload));
    outgoing.onAcknowledge(PacketType.PUBREC, 1, 0);
    outgoing.detach();
    const second = openClient({ receiveMaximum: 1 });
    outgoing.attach(second.connection);
    expect(second.sent.map(({ type, packetId }) => [type, packetId])).toEqual([
      [PacketType.PUBREL, 1],
      [PacketType.PUBLISH, 2],
    ]);
    // The place of an exchange that was begun on another connection is not this one's to give back.
    outgoing.onAcknowledge(PacketType.PUBCOMP, 1, 0);
    expect(second.payloads()).toEqual(['1']);
    outgoing.onAcknowledge(PacketType.PUBACK, 2, 0);
    outgoing.onAcknowledge(PacketType.PUBACK, 3, 0x80);
    expect(second.payloads()).toEqual(['1', '2', '3']);
    expect(second.sent.at(-1)?.delivery).toMatchObject({ packetId: 4, dup: true });
  });
});

it('PUBREC of an exchange that is not known is answered PUBREL 0x92, and a failing one not at all [4.3.3]', () => {
  const { outgoing } = openOutgoing();
  const client = openClient();
  outgoing.attach(client.connection);
  outgoing.onAcknowledge(PacketType.PUBREC, 7, 0);
  outgoing.onAcknowledge(PacketType.PUBREC, 8, 0x80);
  expect(client.sent).toMatchObject([{ type: PacketType.PUBREL, packetId: 7, code: 0x92 }]);
});

describe('a message larger than the client takes', () => {
  it('counts as delivered [MQTT-3.1.2-25]', () => {
    const { outgoing, counters, total } = openOutgoing();
    const client = openClient({ maxPacketBytes: 100, receiveMaximum: 1 });
    outgoing.attach(client.connection);
    outgoing.offer(message('x'.repeat(41)));
    outgoing.offer(message('x'.repeat(41), { qos: 0 }));
    outgoing.offer(message('x'.repeat(40)));
    expect(client.sent).toHaveLength(1);
    expect(counters.deliveriesTooLarge).toBe(2);
    outgoing.onAcknowledge(PacketType.PUBACK, client.sent[0]?.packetId ?? 0, 0);
    expect([total.bytes, outgoing.describe().unacknowledged]).toEqual([0, 0]);
  });

  it('counts as delivered when it would be sent again', () => {
    const { outgoing, counters, total } = openOutgoing();
    outgoing.attach(openClient().connection);
    outgoing.offer(message('x'.repeat(500)));
    outgoing.offer(message('2'));
    outgoing.detach();
    const client = openClient({ maxPacketBytes: 100 });
    outgoing.attach(client.connection);
    expect(client.payloads()).toEqual(['2']);
    expect(counters.deliveriesTooLarge).toBe(1);
    outgoing.onAcknowledge(PacketType.PUBACK, 2, 0);
    expect(total.bytes).toBe(0);
  });

  it('only with an alias goes without', () => {
    const { outgoing } = openOutgoing();
    const client = openClient({ maxPacketBytes: 100, topicAliasMaximum: 1 });
    outgoing.attach(client.connection);
    outgoing.offer(message('x'.repeat(39)));
    outgoing.offer(message('2'));
    outgoing.offer(message('x'.repeat(47)));
    expect(client.sent.map(({ delivery }) => delivery?.alias)).toEqual([
      undefined,
      { number: 1, isNew: true },
      { number: 1, isNew: false },
    ]);
  });
});

describe('a message that expires', () => {
  it('is sent with what is left of its time, and not after it [MQTT-3.3.2-5] [MQTT-3.3.2-6]', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const { outgoing, counters, total } = openOutgoing();
    const expiring = (payload: string, expirySec: number) =>
      message(payload, { properties: { expirySec }, expiresAtMs: Date.now() + expirySec * 1_000 });
    for (const [payload, sec] of [
      ['a', 10],
      ['b', 3],
      ['c', 4],
    ] as const)
      outgoing.offer(expiring(payload, sec));
    vi.setSystemTime(1_003_200);
    const client = openClient();
    outgoing.attach(client.connection);
    expect(client.sent.map(({ payload, expirySec }) => [payload, expirySec])).toEqual([
      ['a', 7],
      ['c', 1],
    ]);
    expect(counters.deliveriesExpired).toBe(1);
    // What was begun is ended [MQTT-4.4.0-1].
    outgoing.detach();
    vi.setSystemTime(1_020_000);
    const again = openClient();
    outgoing.attach(again.connection);
    expect(again.sent.map(({ payload, expirySec }) => [payload, expirySec])).toEqual([
      ['a', 0],
      ['c', 0],
    ]);
    outgoing.onAcknowledge(PacketType.PUBACK, 1, 0);
    outgoing.onAcknowledge(PacketType.PUBACK, 2, 0);
    expect(total.bytes).toBe(0);
  });

  it('makes room for others when its time is over', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const { outgoing, counters } = openOutgoing({ maxMessages: 2 });
    outgoing.offer(message('a'));
    outgoing.offer(message('b', { expiresAtMs: 1_001_000 }));
    outgoing.offer(message('c'));
    expect(counters.deliveriesDropped).toBe(1);
    vi.setSystemTime(1_001_000);
    outgoing.offer(message('d'));
    expect([counters.deliveriesDropped, counters.deliveriesExpired]).toEqual([1, 1]);
    const client = openClient();
    outgoing.attach(client.connection);
    expect(client.payloads()).toEqual(['a', 'd']);
  });
});

it('bytes of properties and subscription identifiers are held too', () => {
  const { outgoing, total } = openOutgoing();
  outgoing.offer(message('x'));
  const plain = total.bytes;
  outgoing.offer(
    message('x', {
      properties: {
        contentType: 'c'.repeat(100),
        responseTopic: 'r'.repeat(100),
        correlationData: Buffer.alloc(100),
        userProperties: [['n'.repeat(100), 'v'.repeat(100)]],
      },
      subscriptionIds: [1, 2],
    }),
  );
  expect(total.bytes - plain).toBeGreaterThanOrEqual(plain + 500 + 16);
});

describe('topic aliases', () => {
  it('stand for the topics used latest, within what the client takes, and end with the connection', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20 }),
        fc.array(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constant('reconnect' as const)), {
          maxLength: 200,
        }),
        (topicAliasMaximum, happenings) => {
          const { outgoing } = openOutgoing();
          let client = openClient({ topicAliasMaximum });
          outgoing.attach(client.connection);
          let aliases = new Map<number, string>();
          let seen = 0;
          for (const happening of happenings) {
            if (happening === 'reconnect') {
              outgoing.detach();
              client = openClient({ topicAliasMaximum });
              outgoing.attach(client.connection);
              [aliases, seen] = [new Map(), 0];
              continue;
            }
            const topic = happening === 40 ? 'a/b' : `topic/${happening}`;
            outgoing.offer(message(topic, { topic, qos: 0 }));
            for (; seen < client.sent.length; seen += 1) {
              const { topic: sentTopic, payload, delivery } = client.sent[seen] as Sent;
              const { alias } = delivery as Delivery;
              if (alias === undefined) {
                expect(sentTopic).toBe(payload);
                continue;
              }
              expect(alias.number).toBeGreaterThan(0);
              expect(alias.number).toBeLessThanOrEqual(topicAliasMaximum);
              if (alias.isNew) aliases.set(alias.number, sentTopic as string);
              expect(aliases.get(alias.number)).toBe(payload);
            }
          }
        },
      ),
    );
  });

  it('are not given where the topic is as short, or very long', () => {
    const { outgoing } = openOutgoing();
    const client = openClient({ topicAliasMaximum: 10 });
    outgoing.attach(client.connection);
    for (const topic of ['abc', 'x'.repeat(1_025), 'abcd']) outgoing.offer(message('', { topic, qos: 0 }));
    expect(client.sent.map(({ delivery }) => delivery?.alias?.number)).toEqual([undefined, undefined, 1]);
  });
});

describe('messages to one client of MQTT 5', () => {
  const happenings = fc.array(
    fc.oneof(
      fc.record({
        what: fc.constant('offer' as const),
        bytes: fc.integer({ min: 1, max: 300 }),
        qos: fc.constantFrom<QoS>(0, 1, 2),
        expirySec: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
      }),
      fc.record({ what: fc.constant('acknowledge' as const), code: fc.constantFrom(0, 0, 0, 0x10, 0x83) }),
      fc.record({ what: fc.constant('wait' as const), sec: fc.integer({ min: 1, max: 5 }) }),
      fc.record({
        what: fc.constant('reconnect' as const),
        receiveMaximum: fc.integer({ min: 1, max: 5 }),
        maxPacketBytes: fc.constantFrom(200, 300, Number.POSITIVE_INFINITY),
        topicAliasMaximum: fc.integer({ min: 0, max: 2 }),
      }),
    ),
    { maxLength: 150 },
  );

  it('come as many, as large and as late as may be, in order, and each is delivered or counted', () => {
    fc.assert(
      fc.property(happenings, (all) => {
        vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
        const { outgoing, counters, total } = openOutgoing();
        let limits: ClientLimits = { ...unlimited, receiveMaximum: 3, topicAliasMaximum: 2 };
        let client = openClient(limits);
        outgoing.attach(client.connection);
        const expiresAtMs = new Map<string, number>();
        const got = new Set<string>();
        let offered = 0;
        /** Packets of this connection that the client has looked at, PUBLISH that it has answered, and exchanges open. */
        let looked = 0;
        const unanswered: Sent[] = [];
        /** By packet identifier: the PUBLISH was answered with PUBREC. */
        const open = new Map<number, 'sent' | 'received'>();
        const look = () => {
          for (; looked < client.sent.length; looked += 1) {
            const sent = client.sent[looked] as Sent;
            expect(sent.bytes).toBeLessThanOrEqual(limits.maxPacketBytes);
            if (sent.type === PacketType.PUBLISH) {
              const payload = (sent.payload as string).trimEnd();
              got.add(payload);
              const { qos, dup } = sent.delivery as Delivery;
              const until = expiresAtMs.get(payload);
              expect(sent.expirySec).toBe(
                until === undefined ? undefined : Math.max(0, Math.ceil((until - Date.now()) / 1_000)),
              );
              if (until !== undefined && !dup) expect(until).toBeGreaterThan(Date.now());
              if (qos === 0) continue;
              open.set(sent.packetId, 'sent');
            }
            unanswered.push(sent);
          }
          const counting = new Set(
            client.sent.filter(({ type, packetId }) => type === PacketType.PUBLISH && open.has(packetId)),
          );
          expect(new Set([...counting].map(({ packetId }) => packetId)).size).toBeLessThanOrEqual(
            limits.receiveMaximum,
          );
          const fresh = client.sent.flatMap(({ payload }) =>
            payload === undefined ? [] : [Number(payload)],
          );
          expect(fresh).toEqual(fresh.toSorted((one, two) => one - two));
          expect(total.bytes).toBe(outgoing.describe().waitingBytes);
        };
        const acknowledge = (code: number) => {
          const next = unanswered.shift();
          if (next === undefined) return false;
          const { type, packetId, delivery } = next;
          if (type === PacketType.PUBREL) {
            open.delete(packetId);
            outgoing.onAcknowledge(PacketType.PUBCOMP, packetId, 0);
          } else if (delivery?.qos === 2 && code < 0x80) {
            open.set(packetId, 'received');
            outgoing.onAcknowledge(PacketType.PUBREC, packetId, code);
          } else {
            open.delete(packetId);
            outgoing.onAcknowledge(
              delivery?.qos === 2 ? PacketType.PUBREC : PacketType.PUBACK,
              packetId,
              code,
            );
          }
          look();
          return true;
        };
        for (const happening of all) {
          if (happening.what === 'offer') {
            offered += 1;
            const { qos, bytes, expirySec } = happening;
            const until = expirySec === undefined ? undefined : Date.now() + expirySec * 1_000;
            if (until !== undefined) expiresAtMs.set(String(offered), until);
            outgoing.offer(
              message(String(offered).padEnd(bytes), { qos, properties: { expirySec }, expiresAtMs: until }),
            );
          } else if (happening.what === 'acknowledge') {
            acknowledge(happening.code);
          } else if (happening.what === 'wait') {
            vi.setSystemTime(Date.now() + happening.sec * 1_000);
          } else {
            outgoing.detach();
            limits = happening;
            client = openClient(limits);
            looked = 0;
            unanswered.length = 0;
            open.clear();
            outgoing.attach(client.connection);
          }
          look();
        }
        while (acknowledge(0));
        expect(outgoing.describe()).toMatchObject({
          waiting: 0,
          waitingBytes: 0,
          unacknowledged: 0,
          dropped: 0,
        });
        expect(total.bytes).toBe(0);
        const { deliveriesExpired, deliveriesTooLarge, deliveriesDropped } = counters;
        // One that was sent, and was too large when it was to be sent again, is counted beside.
        expect(got.size + deliveriesExpired + deliveriesTooLarge).toBeGreaterThanOrEqual(offered);
        expect(got.size + deliveriesExpired).toBeLessThanOrEqual(offered);
        expect(deliveriesDropped).toBe(0);
      }),
    );
  });
});
