import { describe, expect, it } from 'vitest';
import { field, packet, subscribePacket, uint16, unsubscribePacket } from '../../support/raw-client.js';
import { Id, properties, property, readSuback } from '../../support/raw-mqtt5.js';
import { malformedTexts } from './closing.js';
import { expectQuiet, nextOf, openHarness, ping, puback, unsuback } from './harness.js';
import {
  connected5,
  expectClosing5,
  nextPublish,
  none,
  publish5,
  subscribe5,
  subscribed5,
  type Violation5,
} from './mqtt5.js';

const harness = openHarness({ acl: 'open' });
const confined = openHarness();

const violations: Violation5[] = [
  ...([0x03, 0x30, 0x33] as const).map(
    (options): Violation5 => ({
      name: `[MQTT-4.13.1-1] QoS 3 or Retain Handling 3, options 0x${options.toString(16)}`,
      send: () => subscribePacket(1, [['a', options]], none),
      reason: 'invalid-subscription-options',
      code: 0x82,
    }),
  ),
  ...([0x40, 0x80, 0xc0] as const).map(
    (options): Violation5 => ({
      name: `[MQTT-3.8.3-5] reserved bits of options, 0x${options.toString(16)}`,
      send: () => subscribePacket(1, [['a', options]], none),
      reason: 'reserved-bits',
      code: 0x81,
    }),
  ),
  {
    name: '[MQTT-3.8.3-4] No Local of a shared subscription',
    send: () => subscribePacket(1, [['$share/g/a', 0x04]], none),
    reason: 'shared-no-local',
    code: 0x82,
  },
  ...['$share/g', '$share//a', '$share/g/', '$share/', '$share/+/a', '$share/#/a', '$share/a+/b'].map(
    (filter): Violation5 => ({
      name: `[MQTT-4.8.2-1] [MQTT-4.8.2-2] the shared subscription ${filter}`,
      send: () => subscribePacket(1, [[filter, 0]], none),
      reason: 'malformed-filter',
      code: 0x8f,
    }),
  ),
  ...['a/#/b', 'a#', '#a', '##'].map(
    (filter): Violation5 => ({
      name: `[MQTT-4.7.1-1] the filter ${filter}`,
      send: () => subscribePacket(1, [[filter, 0]], none),
      reason: 'malformed-filter',
      code: 0x8f,
    }),
  ),
  ...['a+', '+a', 'a/b+/c', '++'].map(
    (filter): Violation5 => ({
      name: `[MQTT-4.7.1-2] the filter ${filter}`,
      send: () => subscribePacket(1, [[filter, 0]], none),
      reason: 'malformed-filter',
      code: 0x8f,
    }),
  ),
  ...(['SUBSCRIBE', 'UNSUBSCRIBE'] as const).flatMap((name): Violation5[] => {
    const make = (filter: string | Buffer) =>
      name === 'SUBSCRIBE' ? subscribePacket(1, [[filter, 0]], none) : unsubscribePacket(1, [filter], none);
    const first = name === 'SUBSCRIBE' ? 0x82 : 0xa2;
    const [utf8, empty] =
      name === 'SUBSCRIBE'
        ? ['[MQTT-3.8.3-1] SUBSCRIBE', '[MQTT-3.8.3-2] SUBSCRIBE']
        : ['[MQTT-3.10.3-1] UNSUBSCRIBE', '[MQTT-3.10.3-2] UNSUBSCRIBE'];
    return [
      ...malformedTexts.map(
        ([what, text]): Violation5 => ({
          name: `${utf8} with a filter of ${what} [MQTT-4.7.3-2]`,
          send: () => make(text),
          reason: 'invalid-utf8',
          code: 0x81,
        }),
      ),
      {
        name: `${empty} without a filter`,
        send: () => packet(first, uint16(1), Buffer.from([0])),
        reason: 'no-topic-filter',
        code: 0x82,
      },
      {
        name: `[MQTT-4.7.3-1] ${name} with an empty filter`,
        send: () => make(''),
        reason: 'empty-topic',
        code: 0x82,
      },
    ];
  }),
  {
    name: '[MQTT-3.8.3-2] SUBSCRIBE with a filter without options',
    send: () => packet(0x82, uint16(1), Buffer.from([0]), field('a')),
    reason: 'malformed-packet',
    code: 0x81,
  },
  {
    name: '[MQTT-4.13.1-1] subscription identifier 0',
    send: () => subscribePacket(1, [['a', 0]], property(Id.subscriptionId, 0)),
    reason: 'invalid-property',
    code: 0x82,
  },
  {
    name: '[MQTT-4.13.1-1] two subscription identifiers',
    send: () => subscribePacket(1, [['a', 0]], properties([Id.subscriptionId, 1], [Id.subscriptionId, 2])),
    reason: 'invalid-property',
    code: 0x82,
  },
  {
    name: '[MQTT-1.5.5-1] a subscription identifier of five bytes',
    send: () => subscribePacket(1, [['a', 0]], Buffer.from([Id.subscriptionId, 0xff, 0xff, 0xff, 0xff, 1])),
    reason: 'malformed-property',
    code: 0x81,
  },
];

describe('MQTT 5, a SUBSCRIBE or UNSUBSCRIBE that ends the connection', () => {
  it.each(violations)('$name', (violation) => expectClosing5(harness, violation));
});

describe('MQTT 5, SUBSCRIBE', () => {
  it('[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] is answered once, with its identifier and a code for each filter in their order', async () => {
    const client = await connected5(confined);
    const filters: [string, number][] = [
      ['cmd/dev1/a', 2],
      ['cmd/dev2/a', 1],
      ['cmd/dev1/b', 0],
      ['#', 2],
      ['cmd/dev1/#', 1],
    ];
    const { packetId, codes } = await subscribe5(client, filters, none, 0xabcd);
    expect(packetId).toBe(0xabcd);
    expect(codes.map((code) => (code >= 0x80 ? 'refused' : code))).toEqual([2, 'refused', 0, 'refused', 1]);
    await expectQuiet(client);
  });

  it('[MQTT-3.9.3-2] has 0x87 for what the policy does not allow', async () => {
    const client = await connected5(confined);
    expect((await subscribe5(client, [['cmd/dev2/#', 0]])).codes).toEqual([0x87]);
  });

  it('[MQTT-3.8.4-3] replaces the subscription of the same filter', async () => {
    const client = await subscribed5(harness, [['same', 2]]);
    await subscribe5(client, [['same', 0]]);
    await harness.publish({ topic: 'same', qos: 2 });
    expect((await nextPublish(client)).qos).toBe(0);
    await expectQuiet(client);
  });

  it('[MQTT-3.8.4-4] sends what is retained again', async () => {
    await harness.publish({ topic: 'again', qos: 1, retain: true });
    const client = await subscribed5(harness, [['again', 1]]);
    expect((await nextPublish(client)).retain).toBe(true);
    await subscribe5(client, [['again', 1]]);
    expect((await nextPublish(client)).retain).toBe(true);
  });

  it.each([
    [0, 2, 0],
    [1, 2, 1],
    [2, 2, 2],
    [2, 1, 1],
    [2, 0, 0],
  ])('[MQTT-3.8.4-8] QoS %i to a subscription of %i is delivered with %i', async (qos, granted, expected) => {
    const client = await subscribed5(harness, [['least', granted]]);
    await harness.publish({ topic: 'least', qos });
    expect((await nextPublish(client)).qos).toBe(expected);
  });
});

describe('MQTT 5, UNSUBSCRIBE', () => {
  it('[MQTT-3.10.4-1] [MQTT-3.10.4-2] ends the subscription of exactly this filter', async () => {
    const client = await subscribed5(harness, [
      ['un/+', 0],
      ['un/#', 0],
      ['other', 0],
    ]);
    client.send(unsubscribePacket(5, ['un/a', 'un/+', 'UN/#'], none));
    const { codes } = readSuback(await nextOf(client, unsuback));
    expect(codes[1]).toBe(0);
    await harness.publish({ topic: 'un/a', qos: 0, payload: 'by #' });
    expect((await nextPublish(client)).payload).toBe('by #');
    client.send(unsubscribePacket(6, ['un/#'], none));
    await nextOf(client, unsuback);
    await harness.publish({ topic: 'un/a', qos: 0 });
    await harness.publish({ topic: 'other', qos: 0 });
    expect((await nextPublish(client)).topic).toBe('other');
    await expectQuiet(client);
  });

  it('[MQTT-3.10.4-3] what it has begun to send it completes', async () => {
    const client = await subscribed5(harness, [['begun', 2]]);
    await harness.publish({ topic: 'begun', qos: 2 });
    const { packetId } = await nextPublish(client);
    client.send(unsubscribePacket(5, ['begun'], none));
    await nextOf(client, unsuback);
    client.send(packet(0x50, uint16(packetId)));
    await nextOf(client, 6);
    client.send(packet(0x70, uint16(packetId)));
    await ping(client);
  });

  it('[MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] is answered once, with its identifier and a code for each filter', async () => {
    const client = await subscribed5(harness, [['codes', 0]]);
    client.send(unsubscribePacket(0xfedc, ['none', 'codes', 'none'], none));
    const answer = readSuback(await nextOf(client, unsuback));
    expect(answer).toMatchObject({ packetId: 0xfedc, codes: [0x11, 0, 0x11] });
    await expectQuiet(client);
  });
});

describe('MQTT 5, request and response', () => {
  it('[MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.3.2-4] an answer finds its way by response topic and correlation data', async () => {
    const asking = await subscribed5(harness, [['answers/1', 1]]);
    const answering = await subscribed5(harness, [['questions', 1]]);
    const list = properties(
      [Id.userProperty, ['z', '1']],
      [Id.responseTopic, 'answers/1'],
      [Id.correlationData, 'c-1'],
      [Id.contentType, 'text/plain'],
      [Id.payloadFormat, 1],
      [Id.userProperty, ['a', '2']],
      [Id.userProperty, ['z', '1']],
    );
    asking.send(publish5({ topic: 'questions', qos: 1, payload: 'how much?', properties: list }));
    await nextOf(asking, puback);
    const question = await nextPublish(answering);
    expect(Object.fromEntries(question.properties)).toEqual({
      [Id.responseTopic]: ['answers/1'],
      [Id.correlationData]: ['c-1'],
      [Id.contentType]: ['text/plain'],
      [Id.payloadFormat]: [1],
      [Id.userProperty]: [
        ['z', '1'],
        ['a', '2'],
        ['z', '1'],
      ],
    });
    const back = properties([Id.correlationData, 'c-1']);
    answering.send(publish5({ topic: 'answers/1', payload: 'that much', properties: back }));
    const answer = await nextPublish(asking);
    expect([answer.payload, answer.properties.get(Id.correlationData)]).toEqual(['that much', ['c-1']]);
  });
});
