import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeReasons, type Reason } from '../../../src/server/mqtt/protocol/close-reason.js';
import { codec5, codecFor } from '../../../src/server/mqtt/protocol/v5/codec.js';
import { decodeConnect5 } from '../../../src/server/mqtt/protocol/v5/connect.js';
import { isReasonOf, ReasonCode, ReasonPlace } from '../../../src/server/mqtt/protocol/v5/reason-codes.js';

/** Spaces part the fields, for the reader. */
function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

/** Decodes a packet whose remaining length is of one byte, as every one here. */
function decode(packet: Buffer): unknown {
  const flags = codec5.checkFlags(packet[0] as number);
  const type = (packet[0] as number) >> 4;
  if (type !== 3 && flags !== undefined) return flags;
  switch (type) {
    case 1:
      return decodeConnect5(packet, 9); // Behind the name and the version.
    case 3:
      return codec5.decodePublish(packet, 2);
    case 8:
      return codec5.decodeSubscribe(packet, 2);
    case 10:
      return codec5.decodeUnsubscribe(packet, 2);
    case 14:
      return codec5.decodeDisconnect(packet, 2);
    default:
      return codec5.decodeAcknowledge(packet, 2);
  }
}

const protocol = '10 ff 0004 4d515454 05';

describe('what a client may send', () => {
  it.each([
    ['PUBACK, short', '40 02 0001', { packetId: 1, reasonCode: 0 }],
    ['PUBACK with a reason code and no properties', '40 03 0001 10', { packetId: 1, reasonCode: 0x10 }],
    ['PUBACK with no properties by their length', '40 04 0001 87 00', { packetId: 1, reasonCode: 0x87 }],
    ['PUBREC with a reason', '50 08 ffff 97 04 1f 0001 78', { packetId: 65_535, reasonCode: 0x97 }],
    ['PUBREL, identifier not found', '62 03 0001 92', { packetId: 1, reasonCode: 0x92 }],
    ['PUBCOMP with a user property', '70 0b 0001 00 07 26 0001 61 0001 62', { packetId: 1, reasonCode: 0 }],
    ['DISCONNECT, empty', 'e0 00', { withWill: false }],
    ['DISCONNECT 0', 'e0 01 00', { withWill: false }],
    ['DISCONNECT with the will', 'e0 01 04', { withWill: true }],
    ['DISCONNECT of an error [MQTT-3.14.4-3]', 'e0 02 81 00', { withWill: true }],
    [
      'DISCONNECT with a session expiry',
      'e0 07 00 05 11 0000000a',
      { withWill: false, sessionExpirySec: 10 },
    ],
    [
      'SUBSCRIBE with every option',
      '82 0a 0001 02 0b7f 0001 61 2e',
      {
        packetId: 1,
        subscriptionId: 127,
        requests: [{ filter: 'a', qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 }],
      },
    ],
    [
      'SUBSCRIBE to a share',
      '82 10 0001 00 000a 2473686172652f782f23 01',
      {
        packetId: 1,
        requests: [
          { filter: '$share/x/#', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 },
        ],
      },
    ],
    ['UNSUBSCRIBE', 'a2 09 0001 00 0001 61 0001 62', { packetId: 1, filters: ['a', 'b'] }],
  ])('%s', (_, packet, expected) => {
    expect(decode(bytes(packet))).toEqual(expected);
  });

  it('CONNECT that says nothing, with a password and no user name', () => {
    expect(decode(bytes(`${protocol} 40 003c 00 0000 0001 70`))).toEqual({
      version: 5,
      clientId: '',
      cleanStart: false,
      sessionExpirySec: 0,
      keepaliveSec: 60,
      receiveMaximum: 65_535,
      maxPacketBytes: Number.POSITIVE_INFINITY,
      topicAliasMaximum: 0,
      wantsResponseInformation: false,
      wantsProblemInformation: true,
      userProperties: [],
      password: Buffer.from('p'),
    });
  });

  it('PUBLISH with an alias instead of a topic', () => {
    const packet = bytes('3b 0a 0000 0001 03 230007 6869');
    expect(decode(packet)).toEqual({
      qos: 1,
      retain: true,
      packet,
      topicStart: 4,
      topicEnd: 4,
      packetId: 1,
      propertiesStart: 7,
      propertiesEnd: 10,
      payload: Buffer.from('hi'),
    });
    expect(codec5.decodePublishProperties(packet, 7, 10)).toEqual({ topicAlias: 7 });
  });

  it('a will keeps its bytes when those of the packet change', () => {
    const packet = bytes(`${protocol} 06 0000 00 0000 05 09 0002 6162 0001 74 0001 70`);
    const connect = decode(packet);
    packet.fill(0);
    expect(connect).toMatchObject({
      will: {
        topic: 't',
        payload: Buffer.from('p'),
        delaySec: 0,
        properties: { correlationData: Buffer.from('ab') },
      },
    });
  });
});

describe('what a client may not send', () => {
  it.each([
    ['CONNECT: the reserved flag [MQTT-3.1.2-3]', `${protocol} 01 0000 00 0000`, 'reserved-bits'],
    ['CONNECT: will QoS 3 [MQTT-3.1.2-12]', `${protocol} 1c 0000 00 0000 00 0001 74 0000`, 'invalid-qos'],
    ['CONNECT: QoS without a will [MQTT-3.1.2-11]', `${protocol} 08 0000 00 0000`, 'reserved-bits'],
    ['CONNECT: retain without a will [MQTT-3.1.2-13]', `${protocol} 20 0000 00 0000`, 'reserved-bits'],
    ['CONNECT: it ends behind the keep alive [3.1.2.11]', `${protocol} 02 0000`, 'malformed-property'],
    ['CONNECT: it ends in the keep alive', `${protocol} 02 00`, 'malformed-packet'],
    ['CONNECT: properties past the end [2.2.2.1]', `${protocol} 02 0000 03 0000`, 'malformed-property'],
    ['CONNECT: no client id [MQTT-3.1.3-3]', `${protocol} 02 0000 00`, 'malformed-packet'],
    ['CONNECT: an ill-formed client id [MQTT-3.1.3-4]', `${protocol} 02 0000 00 0001 ff`, 'invalid-utf8'],
    ['CONNECT: no will topic [MQTT-3.1.2-9]', `${protocol} 06 0000 00 0000 00`, 'malformed-packet'],
    ['CONNECT: no will properties', `${protocol} 06 0000 00 0000`, 'malformed-property'],
    [
      'CONNECT: a will property that is of CONNECT [2.2.2.2]',
      `${protocol} 06 0000 00 0000 03 210001 0001 74 0000`,
      'malformed-property',
    ],
    [
      'CONNECT: an ill-formed will topic [MQTT-3.1.3-11]',
      `${protocol} 06 0000 00 0000 00 0001 ff 0000`,
      'invalid-utf8',
    ],
    [
      'CONNECT: a will topic with wildcards [MQTT-3.3.2-2]',
      `${protocol} 06 0000 00 0000 00 0001 23 0000`,
      'topic-with-wildcards',
    ],
    [
      'CONNECT: an empty will topic [MQTT-4.7.3-1]',
      `${protocol} 06 0000 00 0000 00 0000 0000`,
      'empty-topic',
    ],
    [
      'CONNECT: a will that is text and is none [3.1.3.2.3]',
      `${protocol} 06 0000 00 0000 02 0101 0001 74 0001 ff`,
      'payload-not-utf8',
    ],
    ['CONNECT: no user name [MQTT-3.1.2-17]', `${protocol} 82 0000 00 0000`, 'malformed-packet'],
    [
      'CONNECT: an ill-formed user name [MQTT-3.1.3-12]',
      `${protocol} 82 0000 00 0000 0001 ff`,
      'invalid-utf8',
    ],
    [
      'CONNECT: a user name without its flag [MQTT-3.1.2-16]',
      `${protocol} 02 0000 00 0000 0001 61`,
      'malformed-packet',
    ],
    [
      'CONNECT: authentication data without a method [3.1.2.11.10]',
      `${protocol} 02 0000 04 16 0001 00 0000`,
      'invalid-property',
    ],

    ['PUBLISH: QoS 3 [MQTT-3.3.1-4]', '36 06 0001 61 0001 00', 'invalid-qos'],
    ['PUBLISH: DUP with QoS 0 [MQTT-3.3.1-2]', '38 04 0001 61 00', 'reserved-bits'],
    ['PUBLISH: packet identifier 0 [MQTT-2.2.1-3]', '32 06 0001 61 0000 00', 'packet-id-zero'],
    ['PUBLISH: half a packet identifier', '32 04 0001 61 00', 'malformed-packet'],
    ['PUBLISH: a topic past the end', '30 04 0003 61 00', 'malformed-packet'],
    ['PUBLISH: no properties [MQTT-2.2.2-1]', '30 03 0001 61', 'malformed-property'],
    ['PUBLISH: properties past the end [2.2.2.1]', '30 05 0001 61 02 01', 'malformed-property'],
    ['PUBLISH: a length of five bytes [1.5.5]', '30 09 0001 61 8080808001 00', 'malformed-property'],

    ['PUBACK: no packet identifier', '40 01 00', 'malformed-packet'],
    ['PUBACK: packet identifier 0 [MQTT-2.2.1-3]', '40 02 0000', 'packet-id-zero'],
    ['PUBACK: a code of PUBREL [MQTT-3.4.2-1]', '40 03 0001 92', 'invalid-reason-code'],
    ['PUBREC: a code of nobody [MQTT-3.5.2-1]', '50 03 0001 ff', 'invalid-reason-code'],
    ['PUBREL: a code of PUBACK [MQTT-3.6.2-1]', '62 03 0001 10', 'invalid-reason-code'],
    ['PUBCOMP: a code of PUBACK [MQTT-3.7.2-1]', '70 03 0001 80', 'invalid-reason-code'],
    ['PUBACK: bytes behind the properties', '40 05 0001 00 00 00', 'malformed-packet'],
    ['PUBACK: properties past the end [2.2.2.1]', '40 04 0001 00 01', 'malformed-property'],
    ['PUBACK: a session expiry [2.2.2.2]', '40 09 0001 00 05 1100000001', 'malformed-property'],
    ['PUBREL: flags 0 [MQTT-3.6.1-1]', '60 02 0001', 'reserved-bits'],

    ['SUBSCRIBE: flags 0 [MQTT-3.8.1-1]', '80 07 0001 00 0001 61 00', 'reserved-bits'],
    ['SUBSCRIBE: packet identifier 0 [MQTT-2.2.1-3]', '82 07 0000 00 0001 61 00', 'packet-id-zero'],
    ['SUBSCRIBE: no filter [MQTT-3.8.3-2]', '82 03 0001 00', 'no-topic-filter'],
    ['SUBSCRIBE: no properties', '82 02 0001', 'malformed-property'],
    ['SUBSCRIBE: an ill-formed filter [MQTT-3.8.3-1]', '82 07 0001 00 0001 ff 00', 'invalid-utf8'],
    ['SUBSCRIBE: an empty filter [MQTT-4.7.3-1]', '82 06 0001 00 0000 00', 'empty-topic'],
    ['SUBSCRIBE: misplaced wildcards [MQTT-4.7.1-1]', '82 08 0001 00 0002 6123 00', 'malformed-filter'],
    ['SUBSCRIBE: no options', '82 06 0001 00 0001 61', 'malformed-packet'],
    ['SUBSCRIBE: bit 6 of the options [MQTT-3.8.3-5]', '82 07 0001 00 0001 61 40', 'reserved-bits'],
    ['SUBSCRIBE: bit 7 of the options [MQTT-3.8.3-5]', '82 07 0001 00 0001 61 80', 'reserved-bits'],
    ['SUBSCRIBE: QoS 3 [3.8.3.1]', '82 07 0001 00 0001 61 03', 'invalid-subscription-options'],
    ['SUBSCRIBE: retain handling 3 [3.8.3.1]', '82 07 0001 00 0001 61 30', 'invalid-subscription-options'],
    [
      'SUBSCRIBE: No Local with a share [MQTT-3.8.3-4]',
      '82 10 0001 00 000a 2473686172652f782f23 04',
      'shared-no-local',
    ],
    [
      'SUBSCRIBE: a share without a name [MQTT-4.8.2-1]',
      '82 0f 0001 00 0009 2473686172652f2f61 00',
      'malformed-filter',
    ],
    [
      'SUBSCRIBE: a share without a filter [MQTT-4.8.2-2]',
      '82 0f 0001 00 0009 2473686172652f782f 00',
      'malformed-filter',
    ],
    ['SUBSCRIBE: a share with neither', '82 0d 0001 00 0007 2473686172652f 00', 'malformed-filter'],
    [
      'SUBSCRIBE: a share with a wildcard in its name [MQTT-4.8.2-2]',
      '82 10 0001 00 000a 2473686172652f2b2f61 00',
      'malformed-filter',
    ],

    ['UNSUBSCRIBE: flags 0 [MQTT-3.10.1-1]', 'a0 06 0001 00 0001 61', 'reserved-bits'],
    ['UNSUBSCRIBE: no filter [MQTT-3.10.3-2]', 'a2 03 0001 00', 'no-topic-filter'],
    ['UNSUBSCRIBE: an ill-formed filter [MQTT-3.10.3-1]', 'a2 06 0001 00 0001 ff', 'invalid-utf8'],
    ['UNSUBSCRIBE: a filter past the end', 'a2 06 0001 00 0002 61', 'malformed-packet'],
    ['UNSUBSCRIBE: a subscription identifier [2.2.2.2]', 'a2 08 0001 02 0b01 0001 61', 'malformed-property'],

    ['DISCONNECT: reserved flags [MQTT-3.14.1-1]', 'e1 00', 'reserved-bits'],
    ['DISCONNECT: a code of servers [MQTT-3.14.2-1]', 'e0 01 8b', 'invalid-reason-code'],
    ['DISCONNECT: a code of nobody [MQTT-3.14.2-1]', 'e0 01 05', 'invalid-reason-code'],
    ['DISCONNECT: bytes behind the properties', 'e0 03 00 00 00', 'malformed-packet'],
    [
      'DISCONNECT: session expiry twice [3.14.2.2.2]',
      'e0 0c 00 0a 1100000001 1100000001',
      'invalid-property',
    ],
    ['DISCONNECT: a server reference [3.14.2.2.5]', 'e0 06 00 04 1c 0001 61', 'invalid-property'],
  ])('%s', (_, packet, reason) => {
    expect(decode(bytes(packet))).toBe(reason);
  });

  it('a valid packet that ends too early', () => {
    const whole = [
      `${protocol} f6 003c 05 1100000001 0001 61 05 1800000001 0001 74 0001 70 0001 75 0001 70`,
      '82 0a 0001 02 0b7f 0001 61 2e',
      'a2 09 0001 00 0001 61 0001 62',
    ].map(bytes);
    for (const packet of whole) {
      expect(decode(packet)).toBeTypeOf('object');
      for (let end = packet[0] === 0x10 ? 9 : 2; end < packet.length; end += 1) {
        // Between two filters a packet may end.
        if (packet[0] === 0xa2 && end === 8) continue;
        expect(decode(packet.subarray(0, end))).toBeTypeOf('string');
      }
    }
  });

  it('anything: it never throws', () => {
    const first = fc.constantFrom(0x10, 0x30, 0x32, 0x3d, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xe0, 0xf0);
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.array(fc.constantFrom(0, 1, 2, 3, 4, 5, 0x0b, 0x11, 0x15, 0x1f, 0x26, 0x61, 0x80, 0xff), {
        maxLength: 60,
      }),
    );
    fc.assert(
      fc.property(first, body, (type, rest) => {
        const start = type === 0x10 ? bytes(protocol) : Buffer.from([type, 0xff]);
        const answer = decode(Buffer.concat([start, Buffer.from(rest)]));
        expect(typeof answer === 'object' || Object.hasOwn(closeReasons, answer as string)).toBe(true);
      }),
      { numRuns: 10_000 },
    );
  });
});

/** There is no room for a Reason String. */
const terse = { maxPacketBytes: 5, wantsProblemInformation: true };

describe('what the server sends', () => {
  it.each([
    ['CONNACK', codec5.encodeConnack(true, {}), '20 03 01 00 00'],
    ['CONNACK of a bounded server', codec5.encodeConnack(false, { maximumQos: 1 }), '20 05 00 00 02 2401'],
    ['CONNACK of a refusal', codecFor(terse).encodeRefusal('bad-credentials'), '20 03 00 86 00'],
    [
      'CONNACK that a code of DISCONNECT does not fit',
      codecFor(terse).encodeRefusal('server-shutdown'),
      '20 03 00 80 00',
    ],
    ['no CONNACK for bytes that are no MQTT', codec5.encodeRefusal('tls-handshake'), undefined],
    ['PUBACK', codec5.encodeAcknowledge(4, 258), '40 02 0102'],
    ['PUBREL', codec5.encodeAcknowledge(6, 258), '62 02 0102'],
    ['PUBACK with a code', codec5.encodeAcknowledge(4, 258, 0x87), '40 03 0102 87'],
    [
      'PUBACK with a reason',
      codec5.encodeAcknowledge(4, 258, 0x87, { reasonString: 'no' }),
      '40 09 0102 87 05 1f 0002 6e6f',
    ],
    [
      'PUBACK with a receipt',
      codec5.encodeAcknowledge(4, 258, 0, { userProperties: [['a', 'b']] }),
      '40 0b 0102 00 07 26 0001 61 0001 62',
    ],
    ['SUBACK', codec5.encodeSuback(258, [0, 1, 2, 0x87], []), '90 07 0102 00 00010287'],
    ['UNSUBACK', codec5.encodeUnsuback(258, [0, 0x11]), 'b0 05 0102 00 0011'],
    ['DISCONNECT', codec5.encodeDisconnect('kicked'), 'e0 01 98'],
    ['DISCONNECT with a reason', codec5.encodeDisconnect('kicked', 'no'), 'e0 07 98 05 1f 0002 6e6f'],
    ['no DISCONNECT to one that is gone', codec5.encodeDisconnect('connection-lost'), undefined],
    [
      'PUBLISH that gives an alias',
      codec5.encodePublish(
        { topic: 't', payload: Buffer.from('p'), retain: true, subscriptionIds: [1, 128] },
        { qos: 1, packetId: 258, dup: true, alias: { number: 7, isNew: true } },
      ),
      '3b 0f 0001 74 0102 08 230007 0b01 0b8001 70',
    ],
    [
      'PUBLISH by an alias',
      codec5.encodePublish(
        { topic: 't', payload: Buffer.from('p'), retain: false, properties: { isText: false } },
        { qos: 0, packetId: 0, dup: false, alias: { number: 7, isNew: false } },
      ),
      '30 09 0000 05 230007 0100 70',
    ],
  ])('%s', (_, packet, expected) => {
    expect(packet).toEqual(expected === undefined ? undefined : bytes(expected));
  });

  it('leaves out what would make a packet too large [MQTT-3.2.2-19] [MQTT-3.2.2-20]', () => {
    const details = { reasonString: 'no', userProperties: [['a', 'b']] as const };
    const puback = (max: number) =>
      codecFor({ maxPacketBytes: max, wantsProblemInformation: true }).encodeAcknowledge(
        4,
        258,
        0x87,
        details,
      );
    expect(puback(18)).toEqual(bytes('40 10 0102 87 0c 1f 0002 6e6f 26 0001 61 0001 62'));
    expect(puback(17)).toEqual(bytes('40 09 0102 87 05 1f 0002 6e6f'));
    expect(puback(11)).toEqual(bytes('40 09 0102 87 05 1f 0002 6e6f'));
    expect(puback(10)).toEqual(bytes('40 03 0102 87'));
    expect(
      codecFor({ maxPacketBytes: 4, wantsProblemInformation: true }).encodeAcknowledge(4, 258, 0, details),
    ).toEqual(bytes('40 02 0102'));
    expect(
      codecFor({ maxPacketBytes: 8, wantsProblemInformation: true }).encodeDisconnect('kicked', 'no'),
    ).toEqual(bytes('e0 01 98'));
    expect(
      codecFor({ maxPacketBytes: 9, wantsProblemInformation: true }).encodeDisconnect('kicked', 'no'),
    ).toEqual(bytes('e0 07 98 05 1f 0002 6e6f'));
    expect(
      codecFor({ maxPacketBytes: 9, wantsProblemInformation: true }).encodeConnack(false, details),
    ).toEqual(bytes('20 03 00 00 00'));
    expect(
      codecFor({ maxPacketBytes: 10, wantsProblemInformation: true }).encodeConnack(false, details),
    ).toEqual(bytes('20 08 00 00 05 1f 0002 6e6f'));
    // What is not optional stays.
    expect(
      codecFor({ maxPacketBytes: 5, wantsProblemInformation: true }).encodeConnack(false, {
        receiveMaximum: 10,
        ...details,
      }),
    ).toHaveLength(8);
  });
});

it('ends no connection with a code that no packet of the end has', () => {
  for (const [reason, { code }] of Object.entries(closeReasons) as [string, Reason][]) {
    if (code === undefined) continue;
    const isKnown = isReasonOf(code, ReasonPlace.connack) || isReasonOf(code, ReasonPlace.serverDisconnect);
    expect(isKnown, reason).toBe(true);
  }
});

it('knows the reason codes of each packet (MQTT 5.0 §2.4)', () => {
  const codesOf = (place: ReasonPlace) => Object.values(ReasonCode).filter((code) => isReasonOf(code, place));
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
  expect(codesOf(ReasonPlace.received)).toEqual([0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]);
  expect(codesOf(ReasonPlace.released)).toEqual([0, 0x92]);
  expect(codesOf(ReasonPlace.unsuback)).toEqual([0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]);
  expect(codesOf(ReasonPlace.suback)).toEqual([
    0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
  ]);
  expect(codesOf(ReasonPlace.connack)).toEqual([
    0,
    ...range(0x80, 0x8a),
    0x8c,
    0x90,
    0x95,
    0x97,
    ...range(0x99, 0x9d),
    0x9f,
  ]);
  expect(codesOf(ReasonPlace.clientDisconnect)).toEqual([
    0,
    4,
    ...range(0x80, 0x83),
    0x90,
    ...range(0x93, 0x99),
  ]);
  expect(codesOf(ReasonPlace.clientAuth)).toEqual([0x18, 0x19]);
});
