import { describe, expect, it } from 'vitest';
import {
  field,
  packet,
  publishPacket,
  remainingLength,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../../support/raw-client.js';
import {
  acknowledgePacket,
  authPacket,
  disconnect5Packet,
  Id,
  type PropertyValue,
  properties,
  property,
  sized,
} from '../../support/raw-mqtt5.js';
import { malformedTexts } from './closing.js';
import { openHarness, ping } from './harness.js';
import { connected5, expectClosing5, none, publish5, type Violation5, version5 } from './mqtt5.js';

const harness = openHarness();

/** Every packet of a client that has properties, with these. */
const carriers: readonly [name: string, send: (list: Buffer) => Buffer, own: Buffer][] = [
  ['PUBLISH', (list) => publish5({ properties: list }), property(Id.contentType, 'a')],
  ['PUBLISH with QoS 2', (list) => publish5({ qos: 2, properties: list }), property(Id.messageExpiry, 5)],
  ['PUBACK', (list) => acknowledgePacket(4, 1, 0, list), property(Id.reasonString, 'a')],
  ['PUBREC', (list) => acknowledgePacket(5, 1, 0, list), property(Id.reasonString, 'a')],
  ['PUBREL', (list) => acknowledgePacket(6, 1, 0, list), property(Id.reasonString, 'a')],
  ['PUBCOMP', (list) => acknowledgePacket(7, 1, 0, list), property(Id.reasonString, 'a')],
  ['SUBSCRIBE', (list) => subscribePacket(1, [['cmd/dev1/a', 0]], list), property(Id.subscriptionId, 3)],
  ['UNSUBSCRIBE', (list) => unsubscribePacket(1, ['cmd/dev1/a'], list), Buffer.alloc(0)],
  ['DISCONNECT', (list) => disconnect5Packet(0, list), property(Id.reasonString, 'a')],
];

const inEveryCarrier: Violation5[] = carriers.flatMap(([name, send, own]): Violation5[] => [
  {
    name: `[MQTT-4.13.1-1] ${name} with an unknown property`,
    send: () => send(Buffer.from([0x7f, 0])),
    reason: 'malformed-property',
    code: 0x81,
  },
  {
    name: `[MQTT-4.13.1-1] ${name} with a property of another packet`,
    send: () => send(property(Id.maximumPacketSize, 100)),
    reason: 'malformed-property',
    code: 0x81,
  },
  {
    name: `[MQTT-4.13.1-1] ${name} with a property that is longer than the properties`,
    send: () => send(Buffer.concat([own, Buffer.from([Id.userProperty, 0, 9, 0x61])])),
    reason: 'malformed-property',
    code: 0x81,
  },
  ...malformedTexts.flatMap(([what, text]): Violation5[] => [
    {
      name: `[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] ${name} with a user property's name of ${what}`,
      send: () => send(property(Id.userProperty, [text, 'a'])),
      reason: 'invalid-utf8',
      code: 0x81,
    },
    {
      name: `[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] ${name} with a user property's value of ${what}`,
      send: () => send(property(Id.userProperty, ['a', text])),
      reason: 'invalid-utf8',
      code: 0x81,
    },
  ]),
  ...(own.length === 0
    ? []
    : [
        {
          name: `[MQTT-4.13.1-1] ${name} with a property twice`,
          send: () => send(Buffer.concat([own, own])),
          reason: 'invalid-property' as const,
          code: 0x82,
        },
      ]),
]);

/** A body that ends with a length of properties. */
const lengths: readonly [name: string, length: number[]][] = [
  ['of five bytes', [0xff, 0xff, 0xff, 0xff, 0x01]],
  ['past the end', [0x05]],
  ['with more bytes than it needs', [0x80, 0x00]],
  ['that is cut', [0x80]],
];
const withLength: Violation5[] = lengths.flatMap(([what, length]) =>
  [
    ['PUBLISH', Buffer.concat([field('raw/dev1'), Buffer.from(length)]), 0x30],
    ['PUBACK', Buffer.concat([uint16(1), Buffer.from([0, ...length])]), 0x40],
    ['SUBSCRIBE', Buffer.concat([uint16(1), Buffer.from(length)]), 0x82],
    ['UNSUBSCRIBE', Buffer.concat([uint16(1), Buffer.from(length)]), 0xa2],
    ['DISCONNECT', Buffer.from([0, ...length]), 0xe0],
  ].map(
    ([name, body, first]): Violation5 => ({
      name: `[MQTT-1.5.5-1] [MQTT-2.2.2-1] ${name} with a length of properties ${what}`,
      send: () => packet(first as number, body as Buffer),
      reason: 'malformed-property',
      code: 0x81,
    }),
  ),
);

const valuesOfPublish: readonly [
  name: string,
  id: number,
  value: PropertyValue,
  reason: Violation5['reason'],
  code: number,
][] = [
  ['[MQTT-3.3.2-14] a response topic with #', Id.responseTopic, 'a/#', 'invalid-property', 0x82],
  ['[MQTT-3.3.2-14] a response topic with +', Id.responseTopic, '+/a', 'invalid-property', 0x82],
  ['[MQTT-4.7.3-1] an empty response topic', Id.responseTopic, '', 'invalid-property', 0x82],
  ['[MQTT-3.3.2-8] topic alias 0', Id.topicAlias, 0, 'topic-alias-invalid', 0x94],
  ['[MQTT-3.3.2-9] a topic alias over the maximum', Id.topicAlias, 17, 'topic-alias-invalid', 0x94],
  ['[MQTT-3.3.4-6] a subscription identifier', Id.subscriptionId, 3, 'invalid-property', 0x82],
  ['[MQTT-4.13.1-1] payload format 2', Id.payloadFormat, 2, 'invalid-property', 0x82],
  ...malformedTexts.flatMap(
    ([what, text]): [string, number, PropertyValue, Violation5['reason'], number][] => [
      [`[MQTT-3.3.2-13] a response topic of ${what}`, Id.responseTopic, text, 'invalid-utf8', 0x81],
      [`[MQTT-3.3.2-19] a content type of ${what}`, Id.contentType, text, 'invalid-utf8', 0x81],
    ],
  ),
];
const inPublish = [0, 1, 2].flatMap((qos) =>
  valuesOfPublish.map(
    ([name, id, value, reason, code]): Violation5 => ({
      name: `${name}, QoS ${qos}`,
      send: () => publish5({ qos, properties: property(id, value) }),
      reason,
      code,
    }),
  ),
);

const inConnect: Violation5[] = (
  [
    ['receive maximum 0', property(Id.receiveMaximum, 0), 'invalid-property', 0x82],
    ['maximum packet size 0', property(Id.maximumPacketSize, 0), 'invalid-property', 0x82],
    ['request problem information 2', property(Id.requestProblemInformation, 2), 'invalid-property', 0x82],
    ['request response information 2', property(Id.requestResponseInformation, 2), 'invalid-property', 0x82],
    ['authentication data without a method', property(Id.authenticationData, 'x'), 'invalid-property', 0x82],
    ['an unknown property', Buffer.from([0x7f, 0]), 'malformed-property', 0x81],
    ['a property of PUBLISH', property(Id.topicAlias, 1), 'malformed-property', 0x81],
    ['a cut property', Buffer.from([Id.sessionExpiry, 0]), 'malformed-property', 0x81],
    [
      'a session expiry twice',
      properties([Id.sessionExpiry, 1], [Id.sessionExpiry, 1]),
      'invalid-property',
      0x82,
    ],
    ...malformedTexts.map(
      ([what, text]) =>
        [`a user property of ${what}`, property(Id.userProperty, ['a', text]), 'invalid-utf8', 0x81] as const,
    ),
  ] as const
).map(([name, list, reason, code]) => ({
  name: `[MQTT-3.1.4-1] [MQTT-4.13.1-1] CONNECT with ${name}`,
  send: (h) => h.login({ ...version5, properties: list }),
  reason,
  code,
  first: true,
}));

const inWill: Violation5[] = (
  [
    ['a property of CONNECT', property(Id.receiveMaximum, 5), 'malformed-property', 0x81],
    ['a topic alias', property(Id.topicAlias, 1), 'malformed-property', 0x81],
    ['a delay twice', properties([Id.willDelay, 1], [Id.willDelay, 1]), 'invalid-property', 0x82],
    ['a response topic with wildcards', property(Id.responseTopic, 'a/+'), 'invalid-property', 0x82],
  ] as const
).map(([name, list, reason, code]) => ({
  name: `[MQTT-3.1.4-1] [MQTT-4.13.1-1] a will with ${name}`,
  send: (h) => h.login({ ...version5, will: { topic: 'raw/dev1/will', payload: 'x', properties: list } }),
  reason,
  code,
  first: true,
}));

const reasonCodes: Violation5[] = (
  [
    ['[MQTT-3.4.2-1] PUBACK', acknowledgePacket(4, 1, 0x92)],
    ['[MQTT-3.5.2-1] PUBREC', acknowledgePacket(5, 1, 0x01)],
    ['[MQTT-3.6.2-1] PUBREL', acknowledgePacket(6, 1, 0x10)],
    ['[MQTT-3.7.2-1] PUBCOMP', acknowledgePacket(7, 1, 0x80)],
    ['[MQTT-3.14.2-1] DISCONNECT', disconnect5Packet(0x8b)],
    ['[MQTT-3.14.2-1] DISCONNECT of no packet at all', disconnect5Packet(0x05)],
  ] as const
).map(([name, bytes]) => ({
  name: `${name} with a reason code that it does not have`,
  send: () => bytes,
  reason: 'invalid-reason-code',
  code: 0x81,
}));

const lengthOfAll: Violation5[] = (
  [
    ['PINGREQ', Buffer.from([0xc0, 0x80, 0x00])],
    ['PUBLISH', Buffer.from([0x30, 0x84, 0x00, 0, 1, 0x61, 0])],
    ['DISCONNECT', Buffer.from([0xe0, 0x80, 0x80, 0x00])],
  ] as const
).map(([name, bytes]) => ({
  name: `[MQTT-1.5.5-1] ${name} with a remaining length of more bytes than it needs`,
  send: () => bytes,
  reason: 'remaining-length',
  code: 0x81,
}));
lengthOfAll.push(
  {
    name: '[MQTT-1.5.5-1] CONNECT with a remaining length of more bytes than it needs',
    send(h) {
      const connect = h.login({ ...version5, clientId: 'a'.repeat(60), properties: none });
      const body = connect.subarray(2);
      expect(body.length).toBeLessThan(0x80);
      return Buffer.concat([Buffer.from([0x10, 0x80 | body.length, 0]), body]);
    },
    reason: 'remaining-length',
    code: 0x81,
    first: true,
  },
  {
    name: '[MQTT-4.13.1-1] a remaining length of five bytes',
    send: () => Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
    reason: 'remaining-length',
    code: 0x81,
  },
);

const others: Violation5[] = [
  {
    name: '[MQTT-3.3.1-4] PUBLISH with QoS 3',
    send: () => packet(0x36, field('raw/dev1'), uint16(1), Buffer.from([0])),
    reason: 'invalid-qos',
    code: 0x81,
  },
  {
    name: '[MQTT-3.3.1-2] PUBLISH with DUP and QoS 0',
    send: () => publish5({ dup: true }),
    reason: 'reserved-bits',
    code: 0x81,
  },
  {
    name: '[MQTT-2.2.1-3] PUBLISH with packet identifier 0',
    send: () => publish5({ qos: 1, packetId: 0 }),
    reason: 'packet-id-zero',
    code: 0x82,
  },
  {
    name: '[MQTT-2.2.1-3] SUBSCRIBE with packet identifier 0',
    send: () => subscribePacket(0, [['cmd/dev1/a', 0]], none),
    reason: 'packet-id-zero',
    code: 0x82,
  },
  {
    name: '[MQTT-2.2.1-2] PUBLISH with QoS 0 and a packet identifier, which stands where its properties do',
    send: () => packet(0x30, field('raw/dev1'), uint16(0x7f01), Buffer.from([0])),
    reason: 'malformed-property',
    code: 0x81,
  },
  {
    name: '[MQTT-3.3.2-1] [MQTT-4.7.3-2] PUBLISH with a topic of U+0000',
    send: () => publish5({ topic: 'raw/dev1/\0' }),
    reason: 'invalid-utf8',
    code: 0x81,
  },
  ...malformedTexts.map(
    ([what, text]): Violation5 => ({
      name: `[MQTT-3.3.2-1] PUBLISH with a topic of ${what}`,
      send: () => publish5({ topic: text, qos: 1 }),
      reason: 'invalid-utf8',
      code: 0x81,
    }),
  ),
  ...['raw/dev1/#', 'raw/+/a', '#'].map(
    (topic): Violation5 => ({
      name: `[MQTT-3.3.2-2] [MQTT-4.7.0-1] PUBLISH to ${topic}`,
      send: () => publish5({ topic, qos: 1 }),
      reason: 'topic-with-wildcards',
      code: 0x82,
    }),
  ),
  {
    name: '[MQTT-4.7.3-1] PUBLISH with no topic and no alias',
    send: () => publish5({ topic: '' }),
    reason: 'empty-topic',
    code: 0x82,
  },
  {
    name: '[MQTT-4.13.1-1] PUBLISH with an alias that was given no topic, and none',
    send: () => publish5({ topic: '', properties: property(Id.topicAlias, 1) }),
    reason: 'topic-alias-unknown',
    code: 0x82,
  },
  {
    name: '[MQTT-3.1.0-2] a second CONNECT',
    send: (h) => h.login(version5),
    reason: 'second-connect',
    code: 0x82,
  },
  ...(
    [
      ['packet type 0', Buffer.from([0, 0])],
      ['CONNACK', Buffer.from([0x20, 3, 0, 0, 0])],
      ['SUBACK', Buffer.from([0x90, 4, 0, 1, 0, 0])],
      ['UNSUBACK', Buffer.from([0xb0, 4, 0, 1, 0, 0])],
      ['PINGRESP', Buffer.from([0xd0, 0])],
      ['AUTH to continue', authPacket(0x18, property(Id.authenticationMethod, 'x'))],
      ['AUTH to begin again', authPacket(0x19, property(Id.authenticationMethod, 'x'))],
    ] as const
  ).map(
    ([name, bytes]): Violation5 => ({
      name: `[MQTT-4.13.1-1] ${name}, which this client may not send`,
      send: () => bytes,
      reason: 'server-packet',
      code: 0x82,
    }),
  ),
  {
    name: '[MQTT-4.13.1-1] PINGREQ with a body',
    send: () => Buffer.from([0xc0, 1, 0]),
    reason: 'malformed-packet',
    code: 0x81,
  },
  {
    name: '[MQTT-4.13.1-1] bytes behind the properties of PUBACK',
    send: () => packet(0x40, uint16(1), Buffer.from([0, 0, 0])),
    reason: 'malformed-packet',
    code: 0x81,
  },
  {
    name: '[MQTT-4.13.1-1] a packet over the limit that CONNACK told',
    send: () => Buffer.concat([Buffer.from([0x30]), remainingLength(2_000_000)]),
    reason: 'packet-too-large',
    code: 0x95,
  },
  {
    name: '[MQTT-4.13.1-1] a will that its properties call text, and that is none',
    send: (h) =>
      h.login({
        ...version5,
        will: {
          topic: 'raw/dev1/will',
          payload: Buffer.from([0xff]),
          properties: property(Id.payloadFormat, 1),
        },
      }),
    reason: 'payload-not-utf8',
    code: 0x99,
    first: true,
  },
];

/** Packets and the flags that they must have. */
const prescribedFlags: readonly [name: string, type: number, flags: number, body: Buffer][] = [
  ['PUBACK', 0x40, 0, uint16(1)],
  ['PUBREC', 0x50, 0, uint16(1)],
  ['[MQTT-3.6.1-1] PUBREL', 0x60, 2, uint16(1)],
  ['PUBCOMP', 0x70, 0, uint16(1)],
  [
    '[MQTT-3.8.1-1] SUBSCRIBE',
    0x80,
    2,
    Buffer.concat([uint16(1), sized(none), field('cmd/dev1/a'), sized(none)]),
  ],
  ['[MQTT-3.10.1-1] UNSUBSCRIBE', 0xa0, 2, Buffer.concat([uint16(1), sized(none), field('cmd/dev1/a')])],
  ['PINGREQ', 0xc0, 0, none],
  ['[MQTT-3.14.1-1] DISCONNECT', 0xe0, 0, none],
  ['[MQTT-3.15.1-1] AUTH', 0xf0, 0, none],
];
const wrongFlags = prescribedFlags.flatMap(([name, type, flags, body]) =>
  Array.from({ length: 16 }, (_, wrong) => wrong)
    .filter((wrong) => wrong !== flags)
    .map(
      (wrong): Violation5 => ({
        name: `[MQTT-2.1.3-1] ${name} with flags ${wrong}`,
        send: () => packet(type | wrong, body),
        reason: 'reserved-bits',
        code: 0x81,
      }),
    ),
);

describe('MQTT 5, what is malformed or a protocol error is answered with its reason, then the connection ends', () => {
  it.each([
    ...inEveryCarrier,
    ...withLength,
    ...inPublish,
    ...inConnect,
    ...inWill,
    ...reasonCodes,
    ...lengthOfAll,
    ...others,
    ...wrongFlags,
  ])('$name', (violation) => expectClosing5(harness, violation));
});

describe('MQTT 5, what looks odd and is allowed', () => {
  it('[MQTT-1.5.4-3] takes a byte order mark for the character that it is', async () => {
    const client = await connected5(harness);
    client.send(publish5({ topic: 'raw/dev1/\uFEFFa', qos: 1 }));
    expect((await client.next()).type).toBe(4);
    expect(Buffer.from(harness.controlled.taken.at(-1)?.headers ?? []).toString()).toContain(
      'raw/dev1/\uFEFFa',
    );
  });

  it('takes a user property of the same name more than once, and an empty one', async () => {
    const client = await connected5(harness);
    const list = properties(
      [Id.userProperty, ['a', '1']],
      [Id.userProperty, ['a', '2']],
      [Id.userProperty, ['', '']],
    );
    client.send(publishPacket({ topic: 'raw/dev1', qos: 1, properties: list }));
    expect((await client.next()).type).toBe(4);
    await ping(client);
  });
});
