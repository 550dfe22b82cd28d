import { describe, expect, it } from 'vitest';
import {
  disconnectPacket,
  field,
  packet,
  pingreqPacket,
  publishPacket,
  pubrelPacket,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../../support/raw-client.js';
import { expectClosing, inEitherVersion, malformedTexts, type Violation, version31 } from './closing.js';
import { openHarness, ping } from './harness.js';

const harness = openHarness();
const topic = 'raw/dev1';

const valid: readonly [name: string, bytes: Buffer][] = [
  ['PUBLISH', publishPacket({ topic })],
  ['PUBLISH with QoS 1', publishPacket({ topic, qos: 1 })],
  ['PUBLISH with QoS 2', publishPacket({ topic, qos: 2 })],
  ['PUBACK', packet(0x40, uint16(1))],
  ['PUBREC', packet(0x50, uint16(1))],
  ['PUBREL', pubrelPacket(1)],
  ['PUBCOMP', packet(0x70, uint16(1))],
  ['SUBSCRIBE', subscribePacket(1, [['cmd/dev1/#', 0]])],
  ['UNSUBSCRIBE', unsubscribePacket(1, ['cmd/dev1/#'])],
  ['PINGREQ', pingreqPacket],
  ['DISCONNECT', disconnectPacket],
];
const serverPackets: readonly [name: string, bytes: Buffer][] = [
  ['reserved packet type 0', Buffer.from([0x00, 0])],
  ['reserved packet type 15', Buffer.from([0xf0, 0])],
  ['CONNACK', Buffer.from([0x20, 2, 0, 0])],
  ['SUBACK', Buffer.from([0x90, 3, 0, 1, 0])],
  ['UNSUBACK', Buffer.from([0xb0, 2, 0, 1])],
  ['PINGRESP', Buffer.from([0xd0, 0])],
];
const beforeConnect: Violation[] = [
  ...[...valid, ...serverPackets].map(
    ([name, bytes]): Violation => ({
      name: `[MQTT-3.1.0-1] ${name} as the first packet`,
      send: () => bytes,
      reason: 'connect-expected',
    }),
  ),
  {
    name: '[MQTT-3.1.0-1] PUBLISH before CONNECT, in one chunk with it',
    send: (h) => Buffer.concat([publishPacket({ topic }), h.login()]),
    reason: 'connect-expected',
  },
  {
    name: '[MQTT-3.1.0-1] a request of HTTP',
    send: () =>
      Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,application/json;q=0.9\r\n\r\n'),
    // "G" is packet type 4, PUBACK, and "E" its remaining length, 69.
    reason: 'connect-expected',
  },
  {
    name: '[MQTT-3.1.0-1] the hello of TLS',
    send: () => Buffer.from('16030100050100000100', 'hex'),
    reason: 'reserved-bits',
  },

  {
    name: '[MQTT-4.8.0-1] a remaining length of five bytes before CONNECT',
    send: () => Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01]),
    reason: 'remaining-length',
  },
  {
    name: '[MQTT-4.8.0-1] a remaining length whose fourth byte promises a fifth that does not come',
    send: () => Buffer.from([0x10, 0xff, 0xff, 0xff, 0x80]),
    reason: 'remaining-length',
  },
];

/** Packets of MQTT 3.1.1 and their flags. */
const prescribedFlags: readonly [name: string, type: number, flags: number, body: Buffer, clause: string][] =
  [
    ['PUBACK', 0x40, 0, uint16(1), ''],
    ['PUBREC', 0x50, 0, uint16(1), ''],
    ['PUBREL', 0x60, 2, uint16(1), ' [MQTT-3.6.1-1]'],
    ['PUBCOMP', 0x70, 0, uint16(1), ''],
    [
      'SUBSCRIBE',
      0x80,
      2,
      Buffer.concat([uint16(1), field('cmd/dev1/a'), Buffer.from([0])]),
      ' [MQTT-3.8.1-1]',
    ],
    ['UNSUBSCRIBE', 0xa0, 2, Buffer.concat([uint16(1), field('cmd/dev1/a')]), ' [MQTT-3.10.1-1]'],
    ['PINGREQ', 0xc0, 0, Buffer.alloc(0), ''],
    ['DISCONNECT', 0xe0, 0, Buffer.alloc(0), ' [MQTT-3.14.1-1]'],
  ];
const wrongFlags = prescribedFlags.flatMap(([name, type, flags, body, clause]) =>
  Array.from({ length: 16 }, (_, wrong) => wrong)
    .filter((wrong) => wrong !== flags)
    .map((wrong) => ({
      name: `[MQTT-2.2.2-2]${clause} ${name} with flags ${wrong}`,
      send: () => packet(type | wrong, body),
      reason: 'reserved-bits' as const,
      // In MQTT 3.1 only the QoS of what has QoS 1 matters.
      inMqtt31: flags === 2 && (wrong & 0b0110) !== 0b0010,
    })),
);

/** Rules that MQTT 3.1 does not have. */
const in311Only: Violation[] = [
  ...wrongFlags.filter(({ inMqtt31 }) => !inMqtt31),
  ...[0x38, 0x39].map(
    (first): Violation => ({
      name: `[MQTT-3.3.1-2] DUP with QoS 0, first byte ${first.toString(16)}`,
      send: () => packet(first, field(topic), Buffer.from('x')),
      reason: 'reserved-bits',
    }),
  ),
].map((violation) => ({ ...violation, after: {} }));

const inBoth: Violation[] = [
  // The fixed header.
  ...serverPackets.map(
    ([name, bytes]): Violation => ({
      name: `[MQTT-4.8.0-1] ${name} from a client`,
      send: () => bytes,
      reason: 'server-packet',
    }),
  ),
  ...wrongFlags.filter(({ inMqtt31 }) => inMqtt31),
  ...Array.from(
    { length: 16 },
    (_, type): Violation => ({
      name: `[MQTT-4.8.0-1] a remaining length of five bytes, packet type ${type}`,
      send: () =>
        Buffer.from([(type << 4) | ([6, 8, 10].includes(type) ? 2 : 0), 0x80, 0x80, 0x80, 0x80, 0x00]),
      reason: 'remaining-length',
    }),
  ),

  // CONNECT again.
  { name: '[MQTT-3.1.0-2] CONNECT twice', send: (h) => h.login(), reason: 'second-connect' },
  {
    name: '[MQTT-3.1.0-2] CONNECT twice, the second malformed',
    send: () => Buffer.from([0x10, 0]),
    reason: 'second-connect',
  },

  // PUBLISH.
  ...[0x36, 0x37, 0x3e, 0x3f].map(
    (first): Violation => ({
      name: `[MQTT-3.3.1-4] PUBLISH with QoS 3, first byte ${first.toString(16)}`,
      send: () => packet(first, field(topic), uint16(1), Buffer.from('x')),
      reason: 'invalid-qos',
    }),
  ),
  ...[1, 2].map(
    (qos): Violation => ({
      name: `[MQTT-2.3.1-1] PUBLISH of QoS ${qos} with packet identifier 0`,
      send: () => publishPacket({ topic, qos, packetId: 0 }),
      reason: 'packet-id-zero',
    }),
  ),
  ...malformedTexts.map(
    ([name, text]): Violation => ({
      name: `[MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] topic with ${name}`,
      send: () => publishPacket({ topic: Buffer.concat([Buffer.from('raw/dev1/'), text]) }),
      reason: 'invalid-utf8',
    }),
  ),
  ...['#', '+', 'raw/dev1/+', 'raw/+/a', 'raw/dev1/#', 'raw/dev1/a+', 'raw/dev1/a#b'].map(
    (wild): Violation => ({
      name: `[MQTT-3.3.2-2] [MQTT-4.7.1-1] PUBLISH to ${wild}`,
      send: () => publishPacket({ topic: wild, qos: 1 }),
      reason: 'topic-with-wildcards',
    }),
  ),
  ...[0, 1, 2].map(
    (qos): Violation => ({
      name: `[MQTT-4.7.3-1] PUBLISH of QoS ${qos} to an empty topic`,
      send: () => publishPacket({ topic: '', qos }),
      reason: 'empty-topic',
    }),
  ),
  ...[
    'raw/dev2',
    'raw',
    '/raw/dev1',
    'raw/dev1x',
    'raw.dev2',
    'RAW/dev1',
    'cmd/dev1/a',
    '$SYS/a',
    '$raw/dev1',
  ].map(
    (other): Violation => ({
      name: `[MQTT-3.3.5-2] PUBLISH to ${other}, outside the policy`,
      send: () => publishPacket({ topic: other, qos: 1 }),
      reason: 'publish-denied',
    }),
  ),

  // Acknowledgements.
  ...(
    [
      ['PUBACK', 0x40],
      ['PUBREC', 0x50],
      ['PUBREL', 0x62],
      ['PUBCOMP', 0x70],
    ] as const
  ).flatMap(([name, first]): Violation[] => [
    {
      name: `[MQTT-2.3.1-1] ${name} with packet identifier 0`,
      send: () => packet(first, uint16(0)),
      reason: 'packet-id-zero',
    },
    {
      name: `[MQTT-4.8.0-1] ${name} without a packet identifier`,
      send: () => packet(first),
      reason: 'malformed-packet',
    },
    {
      name: `[MQTT-4.8.0-1] ${name} with half a packet identifier`,
      send: () => packet(first, Buffer.from([1])),
      reason: 'malformed-packet',
    },
    {
      name: `[MQTT-4.8.0-1] ${name} with a byte too many`,
      send: () => packet(first, uint16(1), Buffer.from([0])),
      reason: 'malformed-packet',
    },
  ]),

  // DISCONNECT and PINGREQ.
  {
    name: '[MQTT-4.8.0-1] PINGREQ with a body',
    send: () => packet(0xc0, Buffer.from([0])),
    reason: 'malformed-packet',
  },
  {
    name: '[MQTT-4.8.0-1] DISCONNECT with a body',
    send: () => packet(0xe0, Buffer.from([0])),
    reason: 'malformed-packet',
  },
];

describe('a packet that ends the connection', () => {
  const violations = [...beforeConnect, ...in311Only, ...inEitherVersion(inBoth)];
  it.each(violations.map((violation) => [violation.name, violation] as const))('%s', (_name, violation) =>
    expectClosing(harness, violation),
  );
});

describe('a truncated packet', () => {
  // A shorter PUBLISH is one with less payload; a shorter SUBSCRIBE or UNSUBSCRIBE may lack its filters.
  const truncated = (
    [
      ['PUBLISH', publishPacket({ topic, payload: '' }), 0],
      ['PUBLISH with QoS 1', publishPacket({ topic, qos: 1, payload: '' }), 0],
      ['PUBLISH with QoS 2', publishPacket({ topic, qos: 2, payload: '' }), 0],
      ['SUBSCRIBE', subscribePacket(1, [['cmd/dev1/#', 0]]), 2],
      ['UNSUBSCRIBE', unsubscribePacket(1, ['cmd/dev1/#']), 2],
    ] as const
  ).flatMap(([name, whole, emptyAt]) => [
    [`${name}, MQTT 3.1.1`, whole, emptyAt, {}] as const,
    [`${name}, MQTT 3.1`, whole, emptyAt, version31] as const,
  ]);
  it.each(truncated)('[MQTT-4.8.0-1] %s, cut at any byte, closes', async (_name, whole, emptyAt, after) => {
    const body = whole.subarray(2);
    for (let length = 0; length < body.length; length++) {
      await expectClosing(harness, {
        name: '',
        send: () => packet(whole[0] as number, Buffer.from(body.subarray(0, length))),
        reason: emptyAt > 0 && length === emptyAt ? 'no-topic-filter' : 'malformed-packet',
        after,
      });
    }
  });
});

describe('QoS 2 [MQTT-4.3.3-1]', () => {
  it('PUBREL for a message that PUBREC has not answered closes', async () => {
    harness.controlled.autoStore = false;
    try {
      const client = await harness.connected();
      client.send(publishPacket({ topic, qos: 2, packetId: 3 }));
      await ping(client);
      const expectCounted = harness.watch();
      client.send(pubrelPacket(3));
      await client.waitClosed();
      expectCounted('early-pubrel');
      for (const message of harness.controlled.taken.splice(0)) message.onStored();
    } finally {
      harness.controlled.autoStore = true;
    }
    await harness.expectServing();
  });
});

describe('what was sent before the violation', () => {
  it('is forwarded and, when it is stored in time, acknowledged; what follows is not [MQTT-4.8.0-1]', async () => {
    const client = await harness.connected();
    const before = harness.controlled.taken.length;
    client.send(
      Buffer.concat([
        publishPacket({ topic, payload: 'before' }),
        Buffer.from([0xf0, 0]),
        publishPacket({ topic, payload: 'after' }),
      ]),
    );
    await client.waitClosed();
    const payloads = harness.controlled.taken
      .slice(before)
      .map(({ payload }) => Buffer.from(payload).toString());
    expect(payloads).toEqual(['before']);
  });
});
