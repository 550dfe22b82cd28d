import { describe, it } from 'vitest';
import { field, packet, subscribePacket, uint16, unsubscribePacket } from '../../support/raw-client.js';
import { expectClosing, inEitherVersion, malformedTexts, type Violation } from './closing.js';
import { openHarness } from './harness.js';

const harness = openHarness();

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

/** MQTT 3.1 does not use the upper bits of the options. */
const in311Only: Violation[] = [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfd].map((options) => ({
  name: `[MQTT-3-8.3-4] SUBSCRIBE with the options byte ${options.toString(16)}`,
  send: () => subscribePacket(1, [['cmd/dev1/a', options]]),
  reason: 'reserved-bits',
  after: {},
}));

const inBoth: Violation[] = [
  {
    name: '[MQTT-2.3.1-1] SUBSCRIBE with packet identifier 0',
    send: () => subscribePacket(0, [['cmd/dev1/a', 0]]),
    reason: 'packet-id-zero',
  },
  {
    name: '[MQTT-2.3.1-1] UNSUBSCRIBE with packet identifier 0',
    send: () => unsubscribePacket(0, ['cmd/dev1/a']),
    reason: 'packet-id-zero',
  },
  {
    name: '[MQTT-3.8.3-3] SUBSCRIBE without a topic filter',
    send: () => subscribePacket(1, []),
    reason: 'no-topic-filter',
  },
  {
    name: '[MQTT-3.10.3-2] UNSUBSCRIBE without a topic filter',
    send: () => unsubscribePacket(1, []),
    reason: 'no-topic-filter',
  },
  {
    name: '[MQTT-4.7.3-1] SUBSCRIBE to an empty filter',
    send: () => subscribePacket(1, [['', 0]]),
    reason: 'empty-topic',
  },
  {
    name: '[MQTT-4.7.3-1] UNSUBSCRIBE of an empty filter',
    send: () => unsubscribePacket(1, ['']),
    reason: 'empty-topic',
  },
  {
    name: '[MQTT-3-8.3-4] SUBSCRIBE with QoS 3',
    send: () => subscribePacket(1, [['cmd/dev1/a', 3]]),
    reason: 'invalid-qos',
  },
  {
    name: '[MQTT-3-8.3-4] SUBSCRIBE whose second filter has QoS 3',
    send: () =>
      subscribePacket(1, [
        ['cmd/dev1/a', 1],
        ['cmd/dev1/b', 3],
      ]),
    reason: 'invalid-qos',
  },
  ...malformedTexts.flatMap(([name, text]): Violation[] => {
    const filter = Buffer.concat([Buffer.from('cmd/dev1/'), text]);
    return [
      {
        name: `[MQTT-3.8.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] SUBSCRIBE: filter with ${name}`,
        send: () => subscribePacket(1, [[filter, 0]]),
        reason: 'invalid-utf8',
      },
      {
        name: `[MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] UNSUBSCRIBE: filter with ${name}`,
        send: () => unsubscribePacket(1, [filter]),
        reason: 'invalid-utf8',
      },
    ];
  }),
  ...malformedFilters.flatMap((filter): Violation[] => [
    {
      name: `[MQTT-4.7.1-2] [MQTT-4.7.1-3] SUBSCRIBE to ${filter}`,
      send: () => subscribePacket(1, [[filter, 0]]),
      reason: 'malformed-filter',
    },
    {
      name: `[MQTT-4.7.1-2] [MQTT-4.7.1-3] UNSUBSCRIBE of ${filter}`,
      send: () => unsubscribePacket(1, [filter]),
      reason: 'malformed-filter',
    },
  ]),
  {
    name: '[MQTT-4.8.0-1] SUBSCRIBE whose last filter lacks its QoS',
    send: () => packet(0x82, uint16(1), field('cmd/dev1/a'), Buffer.from([0]), field('cmd/dev1/b')),
    reason: 'malformed-packet',
  },
];

describe('a SUBSCRIBE or UNSUBSCRIBE that ends the connection', () => {
  const violations = [...in311Only, ...inEitherVersion(inBoth)];
  it.each(violations.map((violation) => [violation.name, violation] as const))('%s', (_name, violation) =>
    expectClosing(harness, violation),
  );
});
