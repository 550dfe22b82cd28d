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
import { expectClosing, type Violation } from './closing.js';
import { openHarness, ping } from './harness.js';

const harness = openHarness();
const topic = 'raw/dev1';
const connected = { after: {} } as const;
const versions = [
  { name: '3.1.1', after: {} },
  { name: '3.1', after: { protocolName: 'MQIsdp', level: 3 } },
] as const;

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
/** Malformed text of a topic or filter, and what it is called. */
const texts: readonly [name: string, text: Buffer][] = [
  ['a lone continuation byte', Buffer.from([0x80])],
  ['a cut character', Buffer.from([0x61, 0xe2, 0x82])],
  ['an overlong /', Buffer.from([0xc0, 0xaf])],
  ['a surrogate', Buffer.from([0xed, 0xb0, 0x80])],
  ['a code point over U+10FFFF', Buffer.from([0xf5, 0x80, 0x80, 0x80])],
  ['U+0000', Buffer.from('a\u0000')],
  ['U+0000 alone', Buffer.from([0])],
];
const malformedFilters = [
  'a#',
  '#a',
  'a/#/b',
  '#/',
  '##',
  'a/##',
  'a+',
  '+a',
  'a/b+/c',
  '++',
  '+#',
  'a/+#',
  '/#/',
];

const violations: Violation[] = [
  // Before CONNECT.
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

  // The fixed header.
  ...versions.flatMap(({ name, after }) =>
    serverPackets.map(
      ([packetName, bytes]): Violation => ({
        name: `[MQTT-4.8.0-1] ${packetName} from a client of MQTT ${name}`,
        send: () => bytes,
        reason: 'server-packet',
        after,
      }),
    ),
  ),
  ...(
    [
      ['PUBACK', 0x40, 0, uint16(1)],
      ['PUBREC', 0x50, 0, uint16(1)],
      ['PUBREL', 0x60, 2, uint16(1)],
      ['PUBCOMP', 0x70, 0, uint16(1)],
      ['SUBSCRIBE', 0x80, 2, Buffer.concat([uint16(1), field('cmd/dev1/a'), Buffer.from([0])])],
      ['UNSUBSCRIBE', 0xa0, 2, Buffer.concat([uint16(1), field('cmd/dev1/a')])],
      ['PINGREQ', 0xc0, 0, Buffer.alloc(0)],
      ['DISCONNECT', 0xe0, 0, Buffer.alloc(0)],
    ] as const
  ).flatMap(([name, type, flags, body]) => {
    const clause = {
      PUBREL: ' [MQTT-3.6.1-1]',
      SUBSCRIBE: ' [MQTT-3.8.1-1]',
      UNSUBSCRIBE: ' [MQTT-3.10.1-1]',
    };
    const own = name === 'DISCONNECT' ? ' [MQTT-3.14.1-1]' : (clause[name as keyof typeof clause] ?? '');
    return Array.from({ length: 16 }, (_, wrong) => wrong)
      .filter((wrong) => wrong !== flags)
      .map(
        (wrong): Violation => ({
          name: `[MQTT-2.2.2-2]${own} ${name} with flags ${wrong}`,
          send: () => packet(type | wrong, body),
          reason: 'reserved-bits',
          ...connected,
        }),
      );
  }),
  ...Array.from(
    { length: 16 },
    (_, type): Violation => ({
      name: `[MQTT-4.8.0-1] a remaining length of five bytes, packet type ${type}`,
      send: () =>
        Buffer.from([(type << 4) | ([6, 8, 10].includes(type) ? 2 : 0), 0x80, 0x80, 0x80, 0x80, 0x00]),
      reason: 'remaining-length',
      ...connected,
    }),
  ),
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

  // CONNECT again.
  { name: '[MQTT-3.1.0-2] CONNECT twice', send: (h) => h.login(), reason: 'second-connect', ...connected },
  {
    name: '[MQTT-3.1.0-2] CONNECT twice, the second malformed',
    send: () => Buffer.from([0x10, 0]),
    reason: 'second-connect',
    ...connected,
  },

  // PUBLISH.
  ...versions.flatMap(({ name, after }): Violation[] => [
    ...[0x36, 0x37, 0x3e, 0x3f].map(
      (first): Violation => ({
        name: `[MQTT-3.3.1-4] PUBLISH with QoS 3, first byte ${first.toString(16)}, MQTT ${name}`,
        send: () => packet(first, field(topic), uint16(1), Buffer.from('x')),
        reason: 'invalid-qos',
        after,
      }),
    ),
    ...[0x38, 0x39].map(
      (first): Violation => ({
        name: `[MQTT-3.3.1-2] DUP with QoS 0, first byte ${first.toString(16)}, MQTT ${name}`,
        send: () => packet(first, field(topic), Buffer.from('x')),
        reason: 'reserved-bits',
        after,
      }),
    ),
  ]),
  ...[1, 2].map(
    (qos): Violation => ({
      name: `[MQTT-2.3.1-1] PUBLISH of QoS ${qos} with packet identifier 0`,
      send: () => publishPacket({ topic, qos, packetId: 0 }),
      reason: 'packet-id-zero',
      ...connected,
    }),
  ),
  ...texts.map(
    ([name, text]): Violation => ({
      name: `[MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] topic with ${name}`,
      send: () => publishPacket({ topic: Buffer.concat([Buffer.from('raw/dev1/'), text]) }),
      reason: 'invalid-utf8',
      ...connected,
    }),
  ),
  ...['#', '+', 'raw/dev1/+', 'raw/+/a', 'raw/dev1/#', 'raw/dev1/a+', 'raw/dev1/a#b'].map(
    (wild): Violation => ({
      name: `[MQTT-3.3.2-2] [MQTT-4.7.1-1] PUBLISH to ${wild}`,
      send: () => publishPacket({ topic: wild, qos: 1 }),
      reason: 'topic-with-wildcards',
      ...connected,
    }),
  ),
  ...[0, 1, 2].map(
    (qos): Violation => ({
      name: `[MQTT-4.7.3-1] PUBLISH of QoS ${qos} to an empty topic`,
      send: () => publishPacket({ topic: '', qos }),
      reason: 'empty-topic',
      ...connected,
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
      ...connected,
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
      ...connected,
    },
    {
      name: `[MQTT-4.8.0-1] ${name} without a packet identifier`,
      send: () => packet(first),
      reason: 'malformed-packet',
      ...connected,
    },
    {
      name: `[MQTT-4.8.0-1] ${name} with half a packet identifier`,
      send: () => packet(first, Buffer.from([1])),
      reason: 'malformed-packet',
      ...connected,
    },
    {
      name: `[MQTT-4.8.0-1] ${name} with a byte too many`,
      send: () => packet(first, uint16(1), Buffer.from([0])),
      reason: 'malformed-packet',
      ...connected,
    },
  ]),

  // SUBSCRIBE and UNSUBSCRIBE.
  {
    name: '[MQTT-2.3.1-1] SUBSCRIBE with packet identifier 0',
    send: () => subscribePacket(0, [['cmd/dev1/a', 0]]),
    reason: 'packet-id-zero',
    ...connected,
  },
  {
    name: '[MQTT-2.3.1-1] UNSUBSCRIBE with packet identifier 0',
    send: () => unsubscribePacket(0, ['cmd/dev1/a']),
    reason: 'packet-id-zero',
    ...connected,
  },
  {
    name: '[MQTT-3.8.3-3] SUBSCRIBE without a topic filter',
    send: () => subscribePacket(1, []),
    reason: 'no-topic-filter',
    ...connected,
  },
  {
    name: '[MQTT-3.10.3-2] UNSUBSCRIBE without a topic filter',
    send: () => unsubscribePacket(1, []),
    reason: 'no-topic-filter',
    ...connected,
  },
  {
    name: '[MQTT-4.7.3-1] SUBSCRIBE to an empty filter',
    send: () => subscribePacket(1, [['', 0]]),
    reason: 'empty-topic',
    ...connected,
  },
  {
    name: '[MQTT-4.7.3-1] UNSUBSCRIBE of an empty filter',
    send: () => unsubscribePacket(1, ['']),
    reason: 'empty-topic',
    ...connected,
  },
  {
    name: '[MQTT-3-8.3-4] SUBSCRIBE with QoS 3',
    send: () => subscribePacket(1, [['cmd/dev1/a', 3]]),
    reason: 'invalid-qos',
    ...connected,
  },
  ...[0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfd].map(
    (options): Violation => ({
      name: `[MQTT-3-8.3-4] SUBSCRIBE with the options byte ${options.toString(16)}`,
      send: () => subscribePacket(1, [['cmd/dev1/a', options]]),
      reason: 'reserved-bits',
      ...connected,
    }),
  ),
  {
    name: '[MQTT-3-8.3-4] SUBSCRIBE whose second filter has QoS 3',
    send: () =>
      subscribePacket(1, [
        ['cmd/dev1/a', 1],
        ['cmd/dev1/b', 3],
      ]),
    reason: 'invalid-qos',
    ...connected,
  },
  ...texts.flatMap(([name, text]): Violation[] => {
    const filter = Buffer.concat([Buffer.from('cmd/dev1/'), text]);
    return [
      {
        name: `[MQTT-3.8.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] SUBSCRIBE: filter with ${name}`,
        send: () => subscribePacket(1, [[filter, 0]]),
        reason: 'invalid-utf8',
        ...connected,
      },
      {
        name: `[MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] UNSUBSCRIBE: filter with ${name}`,
        send: () => unsubscribePacket(1, [filter]),
        reason: 'invalid-utf8',
        ...connected,
      },
    ];
  }),
  ...malformedFilters.flatMap((filter): Violation[] => [
    {
      name: `[MQTT-4.7.1-2] [MQTT-4.7.1-3] SUBSCRIBE to ${filter}`,
      send: () => subscribePacket(1, [[filter, 0]]),
      reason: 'malformed-filter',
      ...connected,
    },
    {
      name: `[MQTT-4.7.1-2] [MQTT-4.7.1-3] UNSUBSCRIBE of ${filter}`,
      send: () => unsubscribePacket(1, [filter]),
      reason: 'malformed-filter',
      ...connected,
    },
  ]),
  {
    name: '[MQTT-4.8.0-1] SUBSCRIBE whose last filter lacks its QoS',
    send: () => packet(0x82, uint16(1), field('cmd/dev1/a'), Buffer.from([0]), field('cmd/dev1/b')),
    reason: 'malformed-packet',
    ...connected,
  },

  // DISCONNECT and PINGREQ.
  {
    name: '[MQTT-4.8.0-1] PINGREQ with a body',
    send: () => packet(0xc0, Buffer.from([0])),
    reason: 'malformed-packet',
    ...connected,
  },
  {
    name: '[MQTT-4.8.0-1] DISCONNECT with a body',
    send: () => packet(0xe0, Buffer.from([0])),
    reason: 'malformed-packet',
    ...connected,
  },
];

describe('a packet that ends the connection', () => {
  it.each(violations.map((violation) => [violation.name, violation] as const))('%s', (_name, violation) =>
    expectClosing(harness, violation),
  );
});

describe('a truncated packet', () => {
  // A shorter PUBLISH is one with less payload; a shorter SUBSCRIBE or UNSUBSCRIBE may lack its filters.
  it.each([
    ['PUBLISH', publishPacket({ topic, payload: '' }), 0],
    ['PUBLISH with QoS 1', publishPacket({ topic, qos: 1, payload: '' }), 0],
    ['PUBLISH with QoS 2', publishPacket({ topic, qos: 2, payload: '' }), 0],
    ['SUBSCRIBE', subscribePacket(1, [['cmd/dev1/#', 0]]), 2],
    ['UNSUBSCRIBE', unsubscribePacket(1, ['cmd/dev1/#']), 2],
  ] as const)('[MQTT-4.8.0-1] %s, cut at any byte, closes', async (_name, whole, emptyAt) => {
    const body = whole.subarray(2);
    for (let length = 0; length < body.length; length++) {
      await expectClosing(harness, {
        name: '',
        send: () => packet(whole[0] as number, Buffer.from(body.subarray(0, length))),
        reason: emptyAt > 0 && length === emptyAt ? 'no-topic-filter' : 'malformed-packet',
        after: {},
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
