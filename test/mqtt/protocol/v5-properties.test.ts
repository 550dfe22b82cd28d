import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeReasons } from '../../../src/server/mqtt/protocol/close-reason.js';
import { decodeProperties } from '../../../src/server/mqtt/protocol/v5/property-reader.js';
import { Place, properties } from '../../../src/server/mqtt/protocol/v5/property-table.js';
import {
  propertiesBytes,
  propertiesOf,
  writeProperties,
} from '../../../src/server/mqtt/protocol/v5/property-writer.js';
import {
  readVariableInteger,
  variableIntegerBytes,
  writeVariableInteger,
} from '../../../src/server/mqtt/protocol/variable-integer.js';
import { field } from '../../support/raw-client.js';

describe('variable byte integers', () => {
  it.each([
    [0, '00'],
    [127, '7f'],
    [128, '8001'],
    [16_383, 'ff7f'],
    [16_384, '808001'],
    [2_097_151, 'ffff7f'],
    [2_097_152, '80808001'],
    [268_435_455, 'ffffff7f'],
  ])('%i is %s', (value, hex) => {
    const bytes = Buffer.from(hex, 'hex');
    const target = Buffer.alloc(8);
    expect(readVariableInteger(bytes, 0)).toBe(value);
    expect(variableIntegerBytes(value)).toBe(bytes.length);
    expect(target.subarray(0, writeVariableInteger(target, 0, value))).toEqual(bytes);
  });

  it.each([
    ['five bytes', '8080808001'],
    ['more bytes than it needs [MQTT-1.5.5-1]', '8000'],
    ['more bytes than it needs, in the middle [MQTT-1.5.5-1]', 'ff8000'],
    ['no end', 'ff'],
    ['nothing', ''],
  ])('none: %s', (_, hex) => {
    expect(readVariableInteger(Buffer.from(hex, 'hex'), 0)).toBe(-1);
  });
});

/** Where a client may have which property (MQTT 5.0, table 2-4), and a value of it. */
const clientProperties: readonly (readonly [
  id: number,
  value: string | Buffer,
  places: readonly string[],
  name: string,
  decoded: unknown,
])[] = [
  [0x01, '01', ['publish', 'will'], 'isText', true],
  [0x02, '00000e10', ['publish', 'will'], 'expirySec', 3_600],
  [0x03, field('a/b'), ['publish', 'will'], 'contentType', 'a/b'],
  [0x08, field('re/ply'), ['publish', 'will'], 'responseTopic', 're/ply'],
  [0x09, field(Buffer.from([0, 255])), ['publish', 'will'], 'correlationData', Buffer.from([0, 255])],
  [0x0b, 'ffffff7f', ['subscribe'], 'subscriptionId', 268_435_455],
  [0x11, 'ffffffff', ['connect', 'disconnect'], 'sessionExpirySec', Number.POSITIVE_INFINITY],
  [0x12, field('id'), [], 'assignedClientId', 'id'],
  [0x13, '000a', [], 'serverKeepaliveSec', 10],
  [0x15, field('SCRAM'), ['connect', 'auth'], 'authenticationMethod', 'SCRAM'],
  [0x16, field(Buffer.from([1])), ['connect', 'auth'], 'authenticationData', Buffer.from([1])],
  [0x17, '00', ['connect'], 'wantsProblemInformation', false],
  [0x18, 'ffffffff', ['will'], 'willDelaySec', 0xffff_ffff],
  [0x19, '01', ['connect'], 'wantsResponseInformation', true],
  [0x1a, field('x'), [], 'responseInformation', 'x'],
  [0x1c, field('x'), [], 'serverReference', 'x'],
  [0x1f, field('why'), ['acknowledge', 'disconnect', 'auth'], 'reasonString', 'why'],
  [0x21, '0001', ['connect'], 'receiveMaximum', 1],
  [0x22, '0000', ['connect'], 'topicAliasMaximum', 0],
  [0x23, 'ffff', ['publish'], 'topicAlias', 65_535],
  [0x24, '01', [], 'maximumQos', true],
  [0x25, '01', [], 'retainAvailable', true],
  [
    0x26,
    Buffer.concat([field('n'), field('é')]),
    ['connect', 'publish', 'will', 'acknowledge', 'subscribe', 'unsubscribe', 'disconnect', 'auth'],
    'userProperties',
    [['n', 'é']],
  ],
  [0x27, '00000001', ['connect'], 'maxPacketBytes', 1],
  [0x28, '01', [], 'wildcardSubscriptionAvailable', true],
  [0x29, '01', [], 'subscriptionIdentifiersAvailable', true],
  [0x2a, '01', [], 'sharedSubscriptionAvailable', true],
];
const clientPlaces = [
  'connect',
  'publish',
  'will',
  'acknowledge',
  'subscribe',
  'unsubscribe',
  'disconnect',
  'auth',
] as const;

function bytesOf(id: number, value: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from([id]), typeof value === 'string' ? Buffer.from(value, 'hex') : value]);
}

function decode(bytes: Buffer, place: keyof typeof Place): unknown {
  return decodeProperties(bytes, 0, bytes.length, Place[place]);
}

describe('a property of a client', () => {
  it('is one of 27', () => {
    expect(clientProperties.map(([id, , , name]) => ({ id, name }))).toEqual(
      properties.map(({ id, name }) => ({ id, name })),
    );
  });

  /** Where only a server may have it, which is no question of its form. */
  const ofServers = new Set(['publish 11', 'disconnect 28']);

  it.each(clientProperties)(
    '%i belongs to its packets and to no other',
    (id, value, places, name, decoded) => {
      for (const place of clientPlaces) {
        const expected = places.includes(place)
          ? { [name]: decoded }
          : ofServers.has(`${place} ${id}`)
            ? 'invalid-property'
            : 'malformed-property';
        expect(decode(bytesOf(id, value), place), place).toEqual(expected);
      }
    },
  );

  it.each(clientProperties)('%i is there once, but for User Properties', (id, value, places) => {
    const twice = Buffer.concat([bytesOf(id, value), bytesOf(id, value)]);
    for (const place of places) {
      const expected =
        id === 0x26
          ? {
              userProperties: [
                ['n', 'é'],
                ['n', 'é'],
              ],
            }
          : 'invalid-property';
      expect(decode(twice, place as keyof typeof Place), place).toEqual(expected);
    }
  });

  it.each(clientProperties)('%i ends within the properties', (id, value, places) => {
    const whole = bytesOf(id, value);
    for (const place of places) {
      for (let end = 1; end < whole.length; end += 1) {
        expect(decodeProperties(whole, 0, end, Place[place as keyof typeof Place])).toBe(
          'malformed-property',
        );
      }
    }
  });

  it.each([
    ['an identifier that there is not [2.2.2.2]', 'publish', '0400', 'malformed-property'],
    ['an identifier of 0 [2.2.2.2]', 'publish', '00', 'malformed-property'],
    ['an identifier of two bytes [MQTT-1.5.5-1]', 'publish', '810001', 'malformed-property'],
    ['a subscription identifier of five bytes [1.5.5]', 'subscribe', '0b8080808001', 'malformed-property'],
    ['a subscription identifier too long [MQTT-1.5.5-1]', 'subscribe', '0b8100', 'malformed-property'],
    ['payload format 2 [3.3.2.3.2]', 'publish', '0102', 'invalid-property'],
    ['request problem information 2 [3.1.2.11.7]', 'connect', '1702', 'invalid-property'],
    ['request response information 255 [3.1.2.11.6]', 'connect', '19ff', 'invalid-property'],
    ['receive maximum 0 [3.1.2.11.3]', 'connect', '210000', 'invalid-property'],
    ['maximum packet size 0 [3.1.2.11.4]', 'connect', '2700000000', 'invalid-property'],
    ['subscription identifier 0 [3.8.2.1.2]', 'subscribe', '0b00', 'invalid-property'],
    ['topic alias 0 [MQTT-3.3.2-8]', 'publish', '230000', 'topic-alias-invalid'],
    ['ill-formed UTF-8 in a content type [MQTT-3.3.2-19]', 'publish', '030001ff', 'invalid-utf8'],
    ['half a character in a content type [MQTT-1.5.4-1]', 'publish', '030001c3', 'invalid-utf8'],
    ['a surrogate in a content type [MQTT-1.5.4-1]', 'will', '030003eda080', 'invalid-utf8'],
    ['U+0000 in a content type [MQTT-1.5.4-2]', 'publish', '0300026100', 'invalid-utf8'],
    [
      'ill-formed UTF-8 in the name of a user property [MQTT-1.5.7-1]',
      'publish',
      '260001ff000161',
      'invalid-utf8',
    ],
    ['ill-formed UTF-8 in a user property [MQTT-1.5.7-1]', 'publish', '260001610001ff', 'invalid-utf8'],
    ['U+0000 in a user property [MQTT-1.5.4-2]', 'connect', '26000161000100', 'invalid-utf8'],
    ['U+0000 behind another character [MQTT-1.5.4-2]', 'connect', '260001610003c3a900', 'invalid-utf8'],
    ['an ill-formed response topic [MQTT-3.3.2-13]', 'publish', '080001ff', 'invalid-utf8'],
    ['a response topic with + [MQTT-3.3.2-14]', 'publish', '080003612f2b', 'invalid-property'],
    ['a response topic with # [MQTT-3.3.2-14]', 'will', '08000123', 'invalid-property'],
    ['an empty response topic [MQTT-4.7.3-1]', 'publish', '080000', 'invalid-property'],
    ['a user property without a value [1.5.7]', 'publish', '26000161', 'malformed-property'],
    ['text that is longer than the properties [2.2.2]', 'publish', '03000361', 'malformed-property'],
  ] as const)('is refused: %s', (_, place, hex, reason) => {
    expect(decode(Buffer.from(hex, 'hex'), place)).toBe(reason);
  });

  it('ends where the properties end, whatever follows', () => {
    expect(decodeProperties(Buffer.from('0300036162', 'hex'), 0, 4, Place.publish)).toBe(
      'malformed-property',
    );
    expect(decodeProperties(Buffer.from('0b8001', 'hex'), 0, 2, Place.subscribe)).toBe('malformed-property');
  });

  it('keeps user properties in order, with their repetitions, also in a large packet', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(text(60), text(60)), { minLength: 1, maxLength: 40 }), (pairs) => {
        const values = { userProperties: pairs };
        expect(roundTrip(values, 'publish')).toEqual(values);
      }),
    );
  });

  it('is read as it was written', () => {
    const values = fc.record(
      {
        isText: fc.boolean(),
        expirySec: uint32,
        contentType: text(1_500),
        responseTopic: text(20).map((value) => `r${value.replace(/[+#]/g, '')}`),
        correlationData: fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        topicAlias: fc.integer({ min: 1, max: 65_535 }),
        userProperties: fc.array(fc.tuple(text(20), text(20)), { minLength: 1 }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(values, (value) => {
        expect(roundTrip(value, 'publish')).toEqual(value);
      }),
    );
  });

  it('never throws, whatever the bytes are', () => {
    const anyBytes = fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
        fc.constantFrom(...clientProperties.map(([id, value]) => bytesOf(id, value))),
      ),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(anyBytes, fc.constantFrom(...clientPlaces), (parts, place) => {
        const answer = decode(Buffer.concat(parts), place);
        expect(typeof answer === 'object' || Object.hasOwn(closeReasons, answer as string)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });
});

it('does not write what no field can hold', () => {
  const list = propertiesOf(Place.publish);
  expect(() => propertiesBytes({ contentType: 'é'.repeat(32_768) }, list)).toThrow(RangeError);
  expect(propertiesBytes({ contentType: 'x'.repeat(65_535) }, list)).toBe(65_538);
});

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });

function text(maxLength: number): fc.Arbitrary<string> {
  return fc
    .string({ unit: 'grapheme', maxLength })
    .filter((value) => !value.includes('\0') && value.isWellFormed());
}

function roundTrip(values: object, place: keyof typeof Place): unknown {
  const list = propertiesOf(Place[place]);
  const bytes = Buffer.alloc(propertiesBytes(values, list) + 2);
  expect(writeProperties(bytes, 1, values, list)).toBe(bytes.length - 1);
  return decodeProperties(bytes, 1, bytes.length - 1, Place[place]);
}
