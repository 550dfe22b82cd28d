import { describe, expect, it } from 'vitest';
import {
  type ConnectOptions,
  connectPacket,
  packet,
  publishPacket,
  uint16,
} from '../../support/raw-client.js';
import { expectClosing, type Violation, version31 } from './closing.js';
import { openHarness } from './harness.js';

const harness = openHarness();

/** Ill-formed UTF-8 of every kind that RFC 3629 names. */
const illFormed: readonly [name: string, bytes: Buffer][] = [
  ['a lone continuation byte', Buffer.from([0x61, 0x80])],
  ['a cut two-byte character', Buffer.from([0xc3])],
  ['a cut four-byte character', Buffer.from([0xf0, 0x9f, 0x98])],
  ['an overlong /', Buffer.from([0xc0, 0xaf])],
  ['an overlong three-byte NUL', Buffer.from([0xe0, 0x80, 0x80])],
  ['the surrogate U+D800', Buffer.from([0xed, 0xa0, 0x80])],
  ['a surrogate pair in UTF-8 (CESU-8)', Buffer.from([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80])],
  ['a code point over U+10FFFF', Buffer.from([0xf4, 0x90, 0x80, 0x80])],
  ['the byte FF', Buffer.from([0xff])],
];
const nul = Buffer.from('a\u0000b');
const will = { topic: 'raw/dev1', payload: 'w' };
const login =
  (options: ConnectOptions): Violation['send'] =>
  (h) =>
    h.login(options);
const user = 'dev1';
const password = 'correct-horse';

const violations: Violation[] = [
  ...illFormed.flatMap(([name, bytes]): Violation[] => [
    {
      name: `[MQTT-1.5.3-1] [MQTT-3.1.3-4] client id: ${name}`,
      send: login({ clientId: bytes }),
      reason: 'invalid-utf8',
    },
    {
      name: `[MQTT-1.5.3-1] [MQTT-3.1.3-11] user name: ${name}`,
      send: login({ userName: bytes }),
      reason: 'invalid-utf8',
    },
    {
      name: `[MQTT-1.5.3-1] [MQTT-3.1.3-10] will topic: ${name}`,
      send: login({ will: { ...will, topic: bytes } }),
      reason: 'invalid-utf8',
    },
    {
      name: `[MQTT-1.5.3-1] protocol name: ${name}`,
      send: login({ protocolName: bytes }),
      reason: 'invalid-utf8',
    },
  ]),
  {
    name: '[MQTT-1.5.3-2] [MQTT-3.1.3-4] U+0000 in the client id',
    send: login({ clientId: nul }),
    reason: 'invalid-utf8',
  },
  {
    name: '[MQTT-1.5.3-2] [MQTT-3.1.3-11] U+0000 in the user name',
    send: login({ userName: nul }),
    reason: 'invalid-utf8',
  },
  {
    name: '[MQTT-1.5.3-2] [MQTT-3.1.3-10] U+0000 in the will topic',
    send: login({ will: { ...will, topic: nul } }),
    reason: 'invalid-utf8',
  },

  ...Array.from(
    { length: 15 },
    (_, index): Violation => ({
      name: `[MQTT-2.2.2-1] [MQTT-2.2.2-2] CONNECT with flags ${index + 1}`,
      send: (h) => {
        const bytes = h.login();
        bytes[0] = 0x10 | (index + 1);
        return bytes;
      },
      reason: 'reserved-bits',
    }),
  ),

  ...[
    'MQTTT',
    'mqtt',
    'MQTt',
    'MQT',
    '',
    'HTTP',
    '__proto__',
    'constructor',
    'MQIsdpX',
    'mqisdp',
    '\ufeffMQTT',
  ].map(
    (protocolName): Violation => ({
      name: `[MQTT-3.1.2-1] protocol name ${JSON.stringify(protocolName)}`,
      send: login({ protocolName }),
      reason: 'protocol-name',
    }),
  ),
  ...[0, 3, 6, 0x84, 0x85, 255].map(
    (level): Violation => ({
      name: `[MQTT-3.1.2-2] [MQTT-3.2.2-4] [MQTT-3.2.2-5] MQTT with level ${level}`,
      send: login({ level }),
      reason: 'protocol-version',
      connack: 1,
    }),
  ),
  ...[0, 4, 5, 0x83].map(
    (level): Violation => ({
      name: `[MQTT-3.1.2-2] MQIsdp with level ${level}`,
      send: login({ protocolName: 'MQIsdp', level }),
      reason: 'protocol-version',
      connack: 1,
    }),
  ),

  // Rules that MQTT 3.1 does not have.
  {
    name: '[MQTT-3.1.2-3] the reserved connect flag',
    send: login({ flags: 0xc3 }),
    reason: 'reserved-bits',
  },
  {
    name: '[MQTT-3.1.2-13] will QoS 1 without a will',
    send: login({ flags: 0xca }),
    reason: 'reserved-bits',
  },
  {
    name: '[MQTT-3.1.2-13] will QoS 2 without a will',
    send: login({ flags: 0xd2 }),
    reason: 'reserved-bits',
  },
  {
    name: '[MQTT-3.1.2-15] will retain without a will',
    send: login({ flags: 0xe2 }),
    reason: 'reserved-bits',
  },
  {
    name: '[MQTT-3.1.2-14] will QoS 3 without a will',
    send: login({ flags: 0xda }),
    reason: 'invalid-qos',
  },
  {
    name: '[MQTT-3.1.2-18] a user name without its flag',
    send: () => connectPacket({ userName: user, flags: 0x02 }),
    reason: 'malformed-packet',
  },
  {
    name: '[MQTT-3.1.2-20] a password without its flag',
    send: () => connectPacket({ userName: user, password, flags: 0x82 }),
    reason: 'malformed-packet',
  },
  {
    name: '[MQTT-3.1.2-21] the password flag without a password',
    send: () => connectPacket({ userName: user, flags: 0xc2 }),
    reason: 'malformed-packet',
  },

  ...[3, 4].flatMap((level): Violation[] => {
    const version = { level, protocolName: level === 3 ? 'MQIsdp' : 'MQTT' };
    return [
      {
        name: `[MQTT-3.1.2-14] will QoS 3, level ${level}`,
        send: login({ ...version, will: { ...will, qos: 3 } }),
        reason: 'invalid-qos',
      },
      {
        name: `[MQTT-3.1.2-22] a password without a user name, level ${level}`,
        send: () => connectPacket({ ...version, password }),
        reason: 'password-without-user-name',
      },
      {
        name: `[MQTT-3.1.2-11] will fields without the will flag, level ${level}`,
        send: login({ ...version, will, flags: 0xc2 }),
        reason: 'malformed-packet',
      },
      {
        name: `[MQTT-3.1.2-9] the will flag without will fields, level ${level}`,
        send: () => connectPacket({ ...version, flags: 0x06 }),
        reason: 'malformed-packet',
      },
      {
        name: `[MQTT-3.1.3-8] an empty client id that wants a session, level ${level}`,
        send: login({ ...version, clientId: '', clean: false }),
        reason: 'identifier-rejected',
        connack: 2,
      },
    ];
  }),
  // The remaining length of MQTT 3.1 has precedence over the flags of user name and password.
  ...(
    [
      ['both flags without user name and password', { flags: 0xc2 }],
      ['both flags without a password', { userName: user, flags: 0xc2 }],
      ['the user name flag without a user name', { flags: 0x82 }],
      ['a user name and password without their flags', { userName: user, password, flags: 0x02 }],
      ['a password without its flag', { userName: user, password, flags: 0x82 }],
    ] as const
  ).map(
    ([name, options]): Violation => ({
      name: `(MQTT 3.1 §3.1) ${name}: CONNACK 4, as without credentials`,
      send: () => connectPacket({ ...version31, ...options }),
      reason: 'bad-credentials',
      connack: 4,
    }),
  ),
  {
    name: '[MQTT-3.1.2-19] the user name flag without a user name',
    send: () => connectPacket({ flags: 0x82 }),
    reason: 'malformed-packet',
  },
  {
    name: '[MQTT-3.1.3-9] an empty client id of MQTT 3.1',
    send: login({ ...version31, clientId: '' }),
    reason: 'identifier-rejected',
    connack: 2,
  },
  {
    name: '[MQTT-3.1.3-9] a client id over the limit',
    send: login({ clientId: 'c'.repeat(1_025) }),
    reason: 'identifier-rejected',
    connack: 2,
  },
  {
    name: '[MQTT-3.1.3-9] a client id over the limit in bytes, not in characters',
    send: login({ clientId: 'ä'.repeat(600) }),
    reason: 'identifier-rejected',
    connack: 2,
  },
  {
    name: '[MQTT-3.1.3-3] no client id',
    send: () => packet(0x10, Buffer.from('00044d5154540402000a', 'hex')),
    reason: 'malformed-packet',
  },
  {
    name: '[MQTT-4.7.3-1] an empty will topic',
    send: login({ will: { ...will, topic: '' } }),
    reason: 'empty-topic',
  },
  ...['#', '+', 'raw/+', 'raw/dev1/#', 'raw/dev1/a#', 'raw/dev1/+a'].map(
    (topic): Violation => ({
      name: `[MQTT-3.3.2-2] [MQTT-4.7.1-1] a will topic with wildcards, ${topic}`,
      send: login({ will: { ...will, topic } }),
      reason: 'topic-with-wildcards',
    }),
  ),
  ...[Buffer.from([0]), Buffer.from([0, 0]), uint16(3), Buffer.alloc(300)].map(
    (trailing): Violation => ({
      name: `[MQTT-3.1.4-1] ${trailing.length} bytes after the last field`,
      send: login({ trailing }),
      reason: 'malformed-packet',
    }),
  ),
  {
    name: '[MQTT-3.1.4-1] [MQTT-3.1.4-5] nothing that follows a refused CONNECT is processed',
    send: (h) =>
      Buffer.concat([
        h.login({ password: 'wrong' }),
        publishPacket({ topic: 'raw/dev1', qos: 1 }),
        h.login(),
      ]),
    reason: 'bad-credentials',
    connack: 4,
  },
  {
    name: '[MQTT-3.1.4-5] nor what follows one of an unknown version',
    send: (h) => Buffer.concat([h.login({ level: 6 }), publishPacket({ topic: 'raw/dev1' }), h.login()]),
    reason: 'protocol-version',
    connack: 1,
  },
  {
    name: '[MQTT-3.1.4-5] nor what follows a malformed one',
    send: (h) => Buffer.concat([h.login({ flags: 0xc3 }), publishPacket({ topic: 'raw/dev1' }), h.login()]),
    reason: 'reserved-bits',
  },
  {
    name: '[MQTT-3.2.2-5] CONNACK 4 without user name and password',
    send: () => connectPacket(),
    reason: 'bad-credentials',
    connack: 4,
  },
  {
    name: '[MQTT-3.2.2-5] CONNACK 4 with an empty password',
    send: login({ password: '' }),
    reason: 'bad-credentials',
    connack: 4,
  },
  {
    name: '[MQTT-3.2.2-5] CONNACK 5 for a will outside the policy',
    send: login({ will: { ...will, topic: 'raw/dev2' } }),
    reason: 'will-denied',
    connack: 5,
  },
  {
    name: '[MQTT-3.2.2-5] CONNACK 5 for a will on a topic of the server',
    send: login({ will: { ...will, topic: '$SYS/a' } }),
    reason: 'will-denied',
    connack: 5,
  },
];

describe('a CONNECT that ends the connection', () => {
  it.each(violations.map((violation) => [violation.name, violation] as const))('%s', (_name, violation) =>
    expectClosing(harness, violation),
  );
});

describe('a truncated CONNECT', () => {
  // In MQTT 3.1 one that is cut where a user name or password would begin is whole.
  it('[MQTT-3.1.4-1] cut at any byte, with its remaining length right, closes without a CONNACK', async () => {
    const body = harness.login({ will: { topic: 'raw/dev1', payload: 'w', qos: 1 } }).subarray(2);
    for (let length = 0; length < body.length; length++) {
      await expectClosing(harness, {
        name: `${length} bytes`,
        send: () => packet(0x10, Buffer.from(body.subarray(0, length))),
        reason: 'malformed-packet',
      });
    }
  });

  it('[MQTT-3.1.4-1] with every length field one too long or one too short closes', async () => {
    const options = { clientId: 'abc', will: { topic: 'raw/dev1', payload: 'wxyz', qos: 1 } };
    const whole = harness.login(options);
    const lengths: number[] = [];
    let offset = 2 + 10;
    while (offset < whole.length) {
      lengths.push(offset);
      offset += 2 + whole.readUInt16BE(offset);
    }
    expect(lengths).toHaveLength(5);
    for (const at of lengths) {
      for (const difference of [-1, 1]) {
        const bytes = Buffer.from(whole);
        bytes.writeUInt16BE(bytes.readUInt16BE(at) + difference, at);
        const client = await harness.open();
        const before = harness.controlled.taken.length;
        client.send(bytes);
        await client.waitClosed();
        expect(client.received).toEqual([]);
        expect(harness.controlled.taken.length).toBe(before);
      }
    }
    await harness.expectServing();
  });
});
