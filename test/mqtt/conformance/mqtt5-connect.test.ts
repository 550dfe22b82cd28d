import { describe, expect, it, onTestFinished } from 'vitest';
import {
  connectPacket,
  field,
  packet,
  pubrelPacket,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../../support/raw-client.js';
import {
  authPacket,
  disconnect5Packet,
  Id,
  properties,
  property,
  readConnack,
} from '../../support/raw-mqtt5.js';
import { malformedTexts } from './closing.js';
import { connack, expectQuiet, nextOf, openHarness, ping, puback } from './harness.js';
import {
  connect5,
  connected5,
  expectClosing5,
  expectDisconnect,
  jump,
  none,
  publish5,
  subscribe5,
  type Violation5,
  version5,
} from './mqtt5.js';

const harness = openHarness({ maxSessionExpiry: '1h', maxWillBytes: 1_000 });
const bounded = openHarness({ maxKeepaliveSec: 60, maxTopicAliases: 0, maxInFlightPerClient: 20 });

/** CONNECT with these flags and this payload, of a device that is known. */
function connectOf(flags: number, ...payload: Buffer[]): Buffer {
  return packet(0x10, field('MQTT'), Buffer.from([5, flags]), uint16(0), Buffer.from([0]), ...payload);
}
const will = [Buffer.from([0]), field('raw/dev1/will'), field('x')];
const credentials = [field('dev1'), field('correct-horse')];
const first = { first: true, code: 0x81 } as const;

const violations: Violation5[] = [
  ...(
    [
      ['PUBLISH', publish5()],
      ['PUBREL', pubrelPacket(1)],
      ['SUBSCRIBE', subscribePacket(1, [['a', 0]], none)],
      ['UNSUBSCRIBE', unsubscribePacket(1, ['a'], none)],
      ['DISCONNECT', disconnect5Packet(0)],
      ['AUTH', authPacket(0x18, property(Id.authenticationMethod, 'x'))],
    ] as const
  ).map(
    ([name, bytes]): Violation5 => ({
      name: `[MQTT-3.1.0-1] [MQTT-3.14.0-1] ${name} as the first packet`,
      send: () => bytes,
      reason: 'connect-expected',
      first: true,
    }),
  ),
  {
    name: '[MQTT-3.1.2-1] another protocol name',
    send: (h) => h.login({ ...version5, protocolName: 'MQTX' }),
    reason: 'protocol-name',
    first: true,
  },
  {
    name: '[MQTT-3.1.2-3] the reserved flag',
    send: () => connectOf(0xc3, field('a'), ...credentials),
    reason: 'reserved-bits',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-11] a QoS of a will that is not there',
    send: () => connectOf(0xca, field('a'), ...credentials),
    reason: 'reserved-bits',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-13] retain of a will that is not there',
    send: () => connectOf(0xe2, field('a'), ...credentials),
    reason: 'reserved-bits',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-12] a will of QoS 3',
    send: () => connectOf(0xde, field('a'), ...will, ...credentials),
    reason: 'invalid-qos',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-9] a will by its flag that is not in the payload',
    send: () => connectOf(0x06, field('a')),
    reason: 'malformed-property',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-16] a user name that no flag announces',
    send: () => connectOf(0x02, field('a'), field('dev1')),
    reason: 'malformed-packet',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-17] a user name that its flag announces and that is not there',
    send: () => connectOf(0x82, field('a')),
    reason: 'malformed-packet',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-18] a password that no flag announces',
    send: () => connectOf(0x82, field('a'), ...credentials),
    reason: 'malformed-packet',
    ...first,
  },
  {
    name: '[MQTT-3.1.2-19] a password that its flag announces and that is not there',
    send: () => connectOf(0xc2, field('a'), field('dev1')),
    reason: 'malformed-packet',
    ...first,
  },
  {
    name: '[MQTT-3.1.3-3] no client id',
    send: () => connectOf(0x02),
    reason: 'malformed-packet',
    ...first,
  },
  {
    name: '[MQTT-3.1.3-1] a will before the client id',
    send: () => connectOf(0xc6, ...will, field('a'), ...credentials),
    reason: 'malformed-property',
    ...first,
  },
  ...malformedTexts.flatMap(([what, text]): Violation5[] => [
    {
      name: `[MQTT-3.1.3-4] a client id of ${what}`,
      send: (h) => h.login({ ...version5, clientId: text }),
      reason: 'invalid-utf8',
      ...first,
    },
    {
      name: `[MQTT-3.1.3-11] a will topic of ${what}`,
      send: (h) => h.login({ ...version5, will: { topic: text, payload: 'x' } }),
      reason: 'invalid-utf8',
      ...first,
    },
    {
      name: `[MQTT-3.1.3-12] a user name of ${what}`,
      send: (h) => h.login({ ...version5, userName: text }),
      reason: 'invalid-utf8',
      ...first,
    },
  ]),
  {
    name: '[MQTT-3.1.3-8] a client id that is too long',
    send: (h) => h.login({ ...version5, clientId: 'a'.repeat(1_025) }),
    reason: 'identifier-rejected',
    first: true,
    code: 0x85,
  },
  {
    name: '[MQTT-3.1.4-2] a wrong password',
    send: (h) => h.login({ ...version5, password: 'wrong' }),
    reason: 'bad-credentials',
    first: true,
    code: 0x86,
  },
  {
    name: '[MQTT-3.1.4-2] a password without a user name, which MQTT 5 allows, and which is nobody here',
    send: (h) => h.login({ ...version5, userName: undefined }),
    reason: 'bad-credentials',
    first: true,
    code: 0x86,
  },
  {
    name: '[MQTT-3.1.4-2] a will outside the policy',
    send: (h) => h.login({ ...version5, will: { topic: 'raw/dev2', payload: 'x' } }),
    reason: 'will-denied',
    first: true,
    code: 0x87,
  },
  {
    name: '[MQTT-3.1.4-2] a will that is too large',
    send: (h) => h.login({ ...version5, will: { topic: 'raw/dev1/w', payload: 'x'.repeat(1_001) } }),
    reason: 'will-too-large',
    first: true,
    code: 0x95,
  },
  {
    name: '[MQTT-4.12.0-1] an authentication method, of which there is none here',
    send: (h) => h.login({ ...version5, properties: property(Id.authenticationMethod, 'SCRAM-SHA-256') }),
    reason: 'auth-method',
    first: true,
    code: 0x8c,
  },
  {
    name: '[MQTT-3.1.4-6] what stands behind a CONNECT that is refused is not processed',
    send: (h) => [
      Buffer.concat([
        h.login({ ...version5, password: 'wrong' }),
        publish5({ qos: 1 }),
        publish5(),
        subscribePacket(1, [['cmd/dev1/#', 0]], none),
      ]),
    ],
    reason: 'bad-credentials',
    first: true,
    code: 0x86,
  },
  {
    name: '[MQTT-3.1.2-24] a Maximum Packet Size that CONNACK does not fit into',
    send: (h) => h.login({ ...version5, properties: property(Id.maximumPacketSize, 10) }),
    reason: 'answer-too-large',
    first: true,
    code: 0x95,
  },
  {
    name: '[MQTT-3.1.2-24] a Maximum Packet Size that no refusal fits into',
    send: (h) => h.login({ ...version5, properties: property(Id.maximumPacketSize, 4) }),
    reason: 'answer-too-large',
    first: true,
  },
];

describe('MQTT 5, a CONNECT that is refused', () => {
  it.each(violations)('$name', (violation) => expectClosing5(harness, violation));

  it('[MQTT-3.1.2-2] a version that is not spoken is told so and closed', async () => {
    const client = await harness.open();
    const expectCounted = harness.watch();
    client.send(harness.login({ level: 6 }));
    expect((await nextOf(client, connack)).body[1]).not.toBe(0);
    await client.waitClosed();
    expectCounted('protocol-version');
  });

  it('[MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-3.1.4-2] has session present 0 and a reason, though there is a session', async () => {
    const options = { clientId: 'refused-session', properties: property(Id.sessionExpiry, 100) };
    await harness.leave(await connected5(harness, options));
    const { client, connack } = await connect5(harness, { ...options, clean: false, password: 'wrong' });
    expect(connack).toMatchObject({ flags: 0, code: 0x86 });
    expect(connack.properties.get(Id.reasonString)).toHaveLength(1);
    await client.waitClosed();
    const again = await connect5(harness, { ...options, clean: false });
    expect(again.connack).toMatchObject({ flags: 1, code: 0 });
  });

  it.each([
    [5, undefined],
    [100, 1],
  ])(
    '[MQTT-3.2.2-19] has a reason in words only where the packet stays below the maximum (%i bytes)',
    async (most, count) => {
      const list = property(Id.maximumPacketSize, most);
      const { client, connack } = await connect5(harness, { password: 'wrong', properties: list });
      expect(connack.code).toBe(0x86);
      expect(connack.properties.get(Id.reasonString)?.length).toBe(count);
      await client.waitClosed();
    },
  );
});

describe('MQTT 5, CONNACK', () => {
  it('[MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1] comes first and once, before the answers to what was sent ahead', async () => {
    const client = await harness.open();
    client.send(
      Buffer.concat([
        harness.login(version5),
        publish5({ qos: 1, packetId: 9 }),
        subscribePacket(7, [['cmd/dev1/#', 1]], none),
      ]),
    );
    expect(readConnack(await nextOf(client, connack))).toMatchObject({ flags: 0, code: 0 });
    expect([(await client.next()).type, (await client.next()).type].sort()).toEqual([puback, 9].sort());
    await expectQuiet(client);
    expect(client.received.filter(({ type }) => type === connack)).toHaveLength(1);
  });

  it('[MQTT-3.2.2-15] [MQTT-3.2.2-17] [MQTT-3.2.2-9] tells the bounds of this server, and no default', async () => {
    const { connack } = await connect5(harness);
    expect(Object.fromEntries(connack.properties)).toEqual({
      [Id.receiveMaximum]: [512],
      [Id.maximumPacketSize]: [1_048_576],
      [Id.topicAliasMaximum]: [16],
    });
  });

  it('[MQTT-4.12.0-6] has no authentication method', async () => {
    const { client, connack } = await connect5(harness);
    expect(connack.properties.has(Id.authenticationMethod)).toBe(false);
    await expectQuiet(client);
  });

  it.each([
    ['a', 1],
    ['0123456789abcdefghijklm', 23],
    ['nopqrstuvwxyzABCDEFGHIJ', 23],
    ['KLMNOPQRSTUVWXYZ', 16],
  ])('[MQTT-3.1.3-5] allows the client id %s', async (clientId) => {
    const { connack } = await connect5(harness, { clientId });
    expect(connack.code).toBe(0);
    expect(connack.properties.has(Id.assignedClientId)).toBe(false);
  });

  it.each([true, false])(
    '[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] assigns a client id where there is none (Clean Start %s), with which its session is found again',
    async (clean) => {
      const options = { clientId: '', clean, properties: property(Id.sessionExpiry, 100) };
      const one = await connect5(harness, options);
      const two = await connect5(harness, options);
      const [id] = one.connack.properties.get(Id.assignedClientId) ?? [];
      const [other] = two.connack.properties.get(Id.assignedClientId) ?? [];
      expect(id).toEqual(expect.stringMatching(/^.{10,}$/));
      expect(other).not.toBe(id);
      expect([one.connack.flags, one.connack.code]).toEqual([0, 0]);
      await harness.leave(one.client);
      const again = await connect5(harness, { ...options, clean: false, clientId: id as string });
      expect(again.connack.flags).toBe(1);
    },
  );

  it('tells a session expiry that the server bounds, and only that', async () => {
    const asked = await connect5(harness, { properties: property(Id.sessionExpiry, 3_600) });
    expect(asked.connack.properties.has(Id.sessionExpiry)).toBe(false);
    for (const expiry of [3_601, 0xffff_ffff]) {
      const { connack } = await connect5(harness, { properties: property(Id.sessionExpiry, expiry) });
      expect(connack.properties.get(Id.sessionExpiry)).toEqual([3_600]);
    }
  });

  it('[MQTT-3.1.2-28] tells response information only where it is asked for', async () => {
    const asked = await connect5(harness, { properties: property(Id.requestResponseInformation, 1) });
    expect(asked.connack.properties.get(Id.responseInformation)).toEqual(['cmd/dev1/']);
    for (const list of [none, property(Id.requestResponseInformation, 0)]) {
      const { connack } = await connect5(harness, { properties: list });
      expect(connack.properties.has(Id.responseInformation)).toBe(false);
    }
  });

  it('[MQTT-3.2.2-21] tells the keep alive that the server keeps, and its other bounds', async () => {
    for (const keepaliveSec of [0, 61]) {
      const { connack } = await connect5(bounded, { keepaliveSec });
      expect(connack.properties.get(Id.serverKeepAlive)).toEqual([60]);
    }
    const { connack } = await connect5(bounded, { keepaliveSec: 60 });
    expect(connack.properties.has(Id.serverKeepAlive)).toBe(false);
    expect(connack.properties.get(Id.receiveMaximum)).toEqual([20]);
    // Absent or 0: the client may give none [MQTT-3.2.2-18].
    expect(connack.properties.get(Id.topicAliasMaximum) ?? [0]).toEqual([0]);
  });

  it('[MQTT-3.2.2-18] no topic alias is taken where CONNACK allows none', async () => {
    const client = await connected5(bounded);
    client.send(publish5({ properties: property(Id.topicAlias, 1) }));
    await expectDisconnect(client, 0x94);
  });
});

describe('MQTT 5, keep alive', () => {
  it('[MQTT-3.1.2-22] [MQTT-3.2.2-22] a client that is silent for one and a half times as long is told 0x8D', async () => {
    const client = await connected5(harness, { keepaliveSec: 10 });
    jump(14);
    await ping(client);
    jump(16);
    await expectDisconnect(client, 0x8d);
  });

  it('[MQTT-3.1.2-21] the one of CONNACK holds in place of that of CONNECT', async () => {
    const client = await connected5(bounded, { keepaliveSec: 0 });
    jump(91);
    await expectDisconnect(client, 0x8d);
  });

  it('is none with 0', async () => {
    const client = await connected5(harness, { keepaliveSec: 0 });
    jump(10_000);
    const other = await connected5(harness, { keepaliveSec: 10 });
    jump(16);
    await expectDisconnect(other, 0x8d);
    await ping(client);
  });

  it('[MQTT-3.12.4-1] PINGREQ is answered', async () => {
    await ping(await connected5(harness));
  });
});

describe('MQTT 5, take-over', () => {
  it.each([5, 4])(
    '[MQTT-3.1.4-3] [MQTT-3.1.3-2] the connection before is told 0x8E and closed, by a client of level %i',
    async (level) => {
      const client = await connected5(harness, { clientId: 'taken' });
      const other = await harness.connected({ level, clientId: 'taken' });
      await expectDisconnect(client, 0x8e);
      await ping(other);
    },
  );

  it('[MQTT-3.1.3-2] does not reach the same client id of another device', async () => {
    const client = await connected5(harness, { clientId: 'mine' });
    await connected5(harness, { clientId: 'mine', device: 2 });
    await ping(client);
  });
});

describe('MQTT 5, what CONNECT says of the client is kept to', () => {
  it('[MQTT-3.1.2-29] without problem information PUBACK, PUBREC and SUBACK have no words', async () => {
    const client = await connected5(harness, { properties: property(Id.requestProblemInformation, 0) });
    client.send(publish5({ topic: 'raw/dev2', qos: 1, packetId: 3 }));
    expect([...(await nextOf(client, puback)).body]).toEqual([0, 3, 0x87]);
    client.send(publish5({ topic: 'raw/dev2', qos: 2, packetId: 4 }));
    expect([...(await nextOf(client, 5)).body]).toEqual([0, 4, 0x87]);
    const { properties } = await subscribe5(client, [['raw/dev2/#', 0]]);
    expect(properties.size).toBe(0);
  });

  it('[MQTT-3.1.2-24] a SUBACK that is larger than the client takes ends the connection instead', async () => {
    const client = await connected5(harness, { properties: property(Id.maximumPacketSize, 30) });
    const filters = Array.from({ length: 30 }, (_, index): [string, number] => [`cmd/dev1/${index % 5}`, 0]);
    client.send(subscribePacket(1, filters, none));
    await expectDisconnect(client, 0x95);
    expect(client.received.at(-1)?.body.length).toBeLessThanOrEqual(28);
  });

  it('takes User Properties, and a receive maximum, a packet size and aliases of any size', async () => {
    const list = properties(
      [Id.userProperty, ['a', '1']],
      [Id.userProperty, ['a', '1']],
      [Id.receiveMaximum, 65_535],
      [Id.maximumPacketSize, 0xffff_ffff],
      [Id.topicAliasMaximum, 65_535],
    );
    expect((await connect5(harness, { properties: list })).connack.code).toBe(0);
  });

  it('[MQTT-3.1.4-2] it is refused with 0x88 while nobody can say who it is', async () => {
    harness.controlled.answer = () => Promise.reject(new Error('the database is away'));
    onTestFinished(() => {
      harness.controlled.answer = undefined;
    });
    const { client, connack } = await connect5(harness);
    expect(connack.code).toBe(0x88);
    await client.waitClosed();
  });
});

it('[MQTT-7.0.0-2] needs no property to let a client in', async () => {
  const client = await harness.open();
  client.send(connectPacket({ ...version5, userName: 'dev1', password: 'correct-horse' }));
  expect(readConnack(await nextOf(client, connack)).code).toBe(0);
});
