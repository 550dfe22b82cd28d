import { describe, expect, it, vi } from 'vitest';
import {
  type publishPacket,
  type RawClient,
  subscribePacket,
  unsubscribePacket,
} from '../../support/raw-client.js';
import {
  acknowledgePacket,
  Id,
  type PropertyValue,
  properties,
  type ReadProperties,
  readAcknowledge,
  readPublish5,
  readSuback,
} from '../../support/raw-mqtt5.js';
import {
  expectQuiet,
  type Harness,
  type LoginOptions,
  nextDelivery,
  nextOf,
  openHarness,
  ping,
  puback,
  pubcomp,
  publish,
  pubrec,
  pubrel,
  suback,
  unsuback,
} from './harness.js';
import { connected5, expectDisconnect, nextPublish, none, publish5 } from './mqtt5.js';

/** What comes to clients of MQTT 5.0; clauses and statements are of that specification. */

const harness = openHarness({ acl: 'open', maxSubscriptionsPerClient: 5, maxTopicAliases: 3 });
const confined = openHarness();

/** Properties by their names. */
type Properties = readonly (readonly [name: keyof typeof Id, value: PropertyValue])[];

const listOf = (named: Properties) => properties(...named.map(([name, value]) => [Id[name], value] as const));

function byName(read: ReadProperties): Partial<Record<keyof typeof Id, readonly PropertyValue[]>> {
  return Object.fromEntries(
    Object.entries(Id).flatMap(([name, id]) => (read.has(id) ? [[name, read.get(id)]] : [])),
  );
}

type Options = Omit<LoginOptions, 'properties'> & { properties?: Properties };

function connected(
  { properties: named = [], ...options }: Options = {},
  on: Harness = harness,
): Promise<RawClient> {
  return connected5(on, { ...options, properties: listOf(named) });
}

/** Options of a subscription (MQTT 5.0 §3.8.3.1). */
interface SubscriptionOptions {
  qos?: number;
  noLocal?: boolean;
  retainAsPublished?: boolean;
  retainHandling?: number;
}

type Filters = readonly (readonly [filter: string, options?: SubscriptionOptions])[];

function subscribePacket5(packetId: number, filters: Filters, named: Properties = []): Buffer {
  const withBits = filters.map(([filter, options = {}]): [string, number] => {
    const { qos = 1, noLocal = false, retainAsPublished = false, retainHandling = 0 } = options;
    return [filter, qos | (noLocal ? 4 : 0) | (retainAsPublished ? 8 : 0) | (retainHandling << 4)];
  });
  return subscribePacket(packetId, withBits, listOf(named));
}

async function subscribe(client: RawClient, filters: Filters, named: Properties = []): Promise<number[]> {
  client.send(subscribePacket5(1, filters, named));
  return readSuback(await nextOf(client, suback)).codes;
}

async function subscribed(
  filters: Filters,
  options: Options = {},
  named: Properties = [],
): Promise<RawClient> {
  const client = await connected(options);
  for (const code of await subscribe(client, filters, named)) expect(code).toBeLessThan(0x80);
  return client;
}

/** Publishes over a connection of its own, and waits until it is answered. */
async function send({
  properties: named = [],
  ...message
}: Omit<Parameters<typeof publishPacket>[0], 'properties'> & { properties?: Properties }): Promise<void> {
  const client = await connected({ device: 2 });
  client.send(publish5({ qos: 1, ...message, properties: listOf(named) }));
  if (message.qos === 0) await ping(client);
  else expect(readAcknowledge(await client.next())).toMatchObject({ code: 0 });
  client.destroy();
}

/** The next packet, which must be a PUBLISH, with its properties by their names. */
async function next(client: RawClient, options = { acknowledge: true }) {
  const message = await nextPublish(client, options);
  return { ...message, properties: byName(message.properties) };
}

const acknowledge = (type: number, packetId: number, code = 0) => acknowledgePacket(type, packetId, code);

describe('properties of a message', () => {
  const properties: Properties = [
    ['payloadFormat', 1],
    ['contentType', 'text/plain'],
    ['responseTopic', 'answers/1'],
    ['correlationData', 'c-1'],
    ['userProperty', ['b', '1']],
    ['userProperty', ['a', '2']],
    ['userProperty', ['b', '1']],
  ];
  const expected = {
    payloadFormat: [1],
    contentType: ['text/plain'],
    responseTopic: ['answers/1'],
    correlationData: ['c-1'],
    userProperty: [
      ['b', '1'],
      ['a', '2'],
      ['b', '1'],
    ],
  };

  it.each([0, 1, 2])(
    '[MQTT-3.3.2-4, 3.3.2-15..18] come to a subscriber unaltered and in order, QoS %i',
    async (qos) => {
      const client = await subscribed([['p', { qos: 2 }]]);
      await send({ topic: 'p', payload: 'text', qos, properties });
      expect(await next(client)).toMatchObject({ topic: 'p', payload: 'text', qos, properties: expected });
    },
  );

  it('[MQTT-3.3.1-5] stay with a retained message', async () => {
    await send({ topic: 'kept/p', retain: true, properties });
    const client = await subscribed([['kept/p']]);
    expect(await next(client)).toMatchObject({ retain: true, properties: expected });
  });

  it('are left out for a client of 3.1.1', async () => {
    const client = await harness.subscribed([['p3', 1]]);
    await send({ topic: 'p3', payload: 'plain', properties });
    expect(await nextDelivery(client)).toMatchObject({ topic: 'p3', payload: 'plain', qos: 1 });
  });
});

describe('the expiry of a message', () => {
  it('[MQTT-3.3.2-5, 3.3.2-6] is counted down while it waits, and one that is over is not delivered', async () => {
    const options = { clientId: 'expiring', properties: [['sessionExpiry', 600]] as const };
    const first = await subscribed([['e']], options);
    await harness.leave(first);
    await send({ topic: 'e', payload: 'long', properties: [['messageExpiry', 60]] });
    await send({ topic: 'e', payload: 'short', properties: [['messageExpiry', 2]] });
    await send({ topic: 'e', payload: 'always' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10_000 });
    try {
      const client = await connected({ ...options, clean: false });
      const long = await next(client);
      expect(long.payload).toBe('long');
      expect(long.properties.messageExpiry?.[0]).toBeGreaterThan(40);
      expect(long.properties.messageExpiry?.[0]).toBeLessThanOrEqual(50);
      const always = await next(client);
      expect(always.payload).toBe('always');
      expect(always.properties.messageExpiry).toBeUndefined();
      await expectQuiet(client);
    } finally {
      vi.useRealTimers();
    }
  });

  it('[MQTT-3.3.2-5] goes on while a message waits to be stored', async () => {
    const { controlled } = harness;
    const subscriber = await subscribed([['late']]);
    const publisher = await connected({ device: 2 });
    controlled.autoStore = false;
    for (const expiry of [5, 60])
      publisher.send(
        publish5({
          topic: 'late',
          qos: 1,
          packetId: expiry,
          properties: listOf([['messageExpiry', expiry]]),
        }),
      );
    await ping(publisher);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10_000 });
    try {
      controlled.autoStore = true;
      for (const message of controlled.taken.slice(-2)) message.onStored();
      const { properties } = await next(subscriber);
      expect(properties.messageExpiry?.[0]).toBeLessThanOrEqual(50);
      await expectQuiet(subscriber);
    } finally {
      vi.useRealTimers();
    }
  });

  it('[MQTT-3.3.2-5] holds for retained messages', async () => {
    await send({ topic: 'kept/e/1', retain: true, properties: [['messageExpiry', 2]] });
    await send({ topic: 'kept/e/2', retain: true, properties: [['messageExpiry', 100]] });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10_000 });
    try {
      const client = await subscribed([['kept/e/+'], ['kept/e/1']]);
      const kept = await next(client);
      expect(kept.topic).toBe('kept/e/2');
      expect(kept.properties.messageExpiry?.[0]).toBeLessThanOrEqual(90);
      await expectQuiet(client);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('what the client takes', () => {
  it('[MQTT-3.3.4-9] is never more unacknowledged messages than its Receive Maximum', async () => {
    const client = await subscribed([['rm', { qos: 2 }]], { properties: [['receiveMaximum', 2]] });
    for (const payload of ['1', '2', '3']) await send({ topic: 'rm', payload });
    await send({ topic: 'rm', payload: '4', qos: 2 });
    const first = await next(client, { acknowledge: false });
    expect([first.payload, (await next(client, { acknowledge: false })).payload]).toEqual(['1', '2']);
    await expectQuiet(client);
    client.send(acknowledge(puback, first.packetId, 0x97));
    expect((await next(client, { acknowledge: false })).payload).toBe('3');
    await expectQuiet(client);
  });

  it('[3.3.4, 4.9] a PUBREC keeps the place of QoS 2 until PUBCOMP, or gives it back with a failure', async () => {
    const client = await subscribed([['r2', { qos: 2 }]], { properties: [['receiveMaximum', 1]] });
    for (const payload of ['1', '2', '3']) await send({ topic: 'r2', payload, qos: 2 });
    const first = await next(client);
    client.send(acknowledge(pubrec, first.packetId));
    expect(readAcknowledge(await nextOf(client, pubrel))).toMatchObject({
      packetId: first.packetId,
      code: 0,
    });
    await expectQuiet(client);
    client.send(acknowledge(pubcomp, first.packetId));
    const second = await next(client);
    client.send(acknowledge(pubrec, second.packetId, 0x80));
    expect((await next(client)).payload).toBe('3');
    await expectQuiet(client);
  });

  it('[MQTT-3.1.2-24, 3.1.2-25] a larger packet is not sent, and counts as delivered', async () => {
    const { counters } = harness.controlled.broker;
    const before = counters.deliveriesTooLarge;
    const client = await subscribed([['big']], {
      properties: [
        ['maximumPacketSize', 100],
        ['receiveMaximum', 1],
      ],
    });
    await send({ topic: 'big', payload: 'x'.repeat(200) });
    await send({ topic: 'big', payload: 'small' });
    expect((await next(client)).payload).toBe('small');
    expect(counters.deliveriesTooLarge - before).toBe(1);
  });

  it('[MQTT-3.1.2-26, 3.1.2-27, 3.3.2-11] no alias where it takes none, and none above what it takes', async () => {
    const none = await subscribed([['alias/+', { qos: 0 }]]);
    const two = await subscribed([['alias/+', { qos: 0 }]], { properties: [['topicAliasMaximum', 2]] });
    const known = new Map<unknown, string>();
    for (const payload of ['1', '1', '2', '3', '1', '3', '2']) {
      const topic = `alias/${payload}`;
      await send({ topic, payload, qos: 0 });
      expect(await next(none)).toMatchObject({ topic, properties: {} });
      const message = await next(two);
      const alias = message.properties.topicAlias?.[0];
      expect([1, 2]).toContain(alias);
      if (message.topic !== '') known.set(alias, message.topic);
      expect(known.get(alias)).toBe(topic);
    }
  });

  it('MAX_TOPIC_ALIASES bounds the aliases, however many the client takes', async () => {
    const client = await subscribed([['many/+', { qos: 0 }]], {
      properties: [['topicAliasMaximum', 65_535]],
    });
    for (const level of ['1', '2', '3', '4', '5']) {
      await send({ topic: `many/${level}`, qos: 0 });
      expect((await next(client)).properties.topicAlias?.[0]).toBeLessThanOrEqual(3);
    }
  });

  it('[MQTT-3.3.2-7] aliases end with the connection', async () => {
    const options = {
      clientId: 'aliased',
      properties: [
        ['sessionExpiry', 600],
        ['topicAliasMaximum', 5],
      ] as const,
    };
    let client = await subscribed([['alias/again']], options);
    for (const expected of ['alias/again', '']) {
      await send({ topic: 'alias/again' });
      expect((await next(client)).topic).toBe(expected);
    }
    client.destroy();
    client = await connected({ ...options, clean: false });
    await send({ topic: 'alias/again' });
    expect((await next(client)).topic).toBe('alias/again');
  });
});

describe('what is sent again', () => {
  it('[MQTT-4.4.0-1, 3.3.1-1] has its packet identifier and DUP, within the Receive Maximum of now', async () => {
    const session = ['sessionExpiry', 600] as const;
    const clientId = 'again';
    const first = await subscribed([['again']], { clientId, properties: [session] });
    for (const payload of ['1', '2', '3']) await send({ topic: 'again', payload });
    const ids = [];
    for (let count = 0; count < 3; count += 1) ids.push((await next(first, { acknowledge: false })).packetId);
    first.destroy();
    const second = await connected({ clientId, clean: false, properties: [session, ['receiveMaximum', 1]] });
    for (const [index, packetId] of ids.entries()) {
      const message = await next(second, { acknowledge: false });
      expect(message).toMatchObject({ packetId, dup: true, payload: String(index + 1) });
      await expectQuiet(second);
      second.send(acknowledge(puback, packetId));
    }
    await expectQuiet(second);
  });

  it('[MQTT-4.3.3-4] PUBREC of an exchange that is not known is answered PUBREL 0x92', async () => {
    const [subscriber, publisher] = [await subscribed([['unknown']]), await connected()];
    for (const client of [subscriber, publisher]) {
      client.send(acknowledge(pubrec, 77));
      expect(readAcknowledge(await client.next())).toMatchObject({ type: pubrel, packetId: 77, code: 0x92 });
      client.send(
        acknowledge(pubrec, 78, 0x87),
        acknowledge(pubcomp, 79, 0x92),
        acknowledge(puback, 80, 0x10),
      );
      await expectQuiet(client);
    }
  });
});

describe('several subscriptions of one client', () => {
  it('[MQTT-3.3.4-2..5] bring one copy, with the highest QoS and the identifiers of those that match', async () => {
    const client = await connected();
    await subscribe(client, [['ids/#', { qos: 0 }]], [['subscriptionId', 268_435_455]]);
    await subscribe(client, [['ids/+', { qos: 2 }]], [['subscriptionId', 3]]);
    await subscribe(client, [['ids/a', { qos: 1 }]]);
    await subscribe(client, [['other', { qos: 1 }]], [['subscriptionId', 9]]);
    await send({ topic: 'ids/a', qos: 2 });
    const message = await next(client);
    expect(message.qos).toBe(2);
    expect(message.properties.subscriptionId?.toSorted()).toEqual([268_435_455, 3]);
    await expectQuiet(client);
    await send({ topic: 'ids', qos: 1 });
    expect((await next(client)).properties.subscriptionId).toEqual([268_435_455]);
  });

  it('[3.8.2.1.2] a SUBSCRIBE without an identifier takes that of the subscription away', async () => {
    const client = await subscribed([['id']], {}, [['subscriptionId', 7]]);
    await send({ topic: 'id' });
    expect((await next(client)).properties.subscriptionId).toEqual([7]);
    await subscribe(client, [['id']]);
    await send({ topic: 'id' });
    expect((await next(client)).properties.subscriptionId).toBeUndefined();
  });

  it("[MQTT-3.3.4-6] identifiers of a PUBLISH are the server's: retained messages have those of the SUBSCRIBE", async () => {
    await send({ topic: 'kept/id', retain: true });
    const client = await subscribed([['kept/id'], ['kept/+']], {}, [['subscriptionId', 5]]);
    expect(await next(client)).toMatchObject({ retain: true, properties: { subscriptionId: [5, 5] } });
  });
});

describe('options of a subscription', () => {
  it('[MQTT-3.8.3-3] No Local: what the client publishes itself does not come to it', async () => {
    const client = await subscribed([['local', { noLocal: true }]]);
    client.send(publish5({ topic: 'local', payload: 'own', qos: 1, packetId: 5, retain: true }));
    await nextOf(client, puback);
    await send({ topic: 'local', payload: "another's" });
    expect((await next(client)).payload).toBe("another's");
    // By another subscription it does, and once; of what is retained the same holds.
    await subscribe(client, [['local', { noLocal: true }]]);
    await expectQuiet(client);
    await subscribe(client, [['+', { retainHandling: 2 }]]);
    client.send(publish5({ topic: 'local', payload: 'own', qos: 0 }));
    expect((await next(client)).payload).toBe('own');
    await expectQuiet(client);
  });

  it('[MQTT-3.3.1-12, 3.3.1-13] Retain As Published keeps the flag, else it is 0', async () => {
    const plain = await subscribed([['rap/a']]);
    const kept = await subscribed([['rap/a', { retainAsPublished: true }]]);
    const both = await subscribed([['rap/a', { retainAsPublished: true }], ['rap/+']]);
    for (const retain of [true, false]) {
      await send({ topic: 'rap/a', payload: retain ? '1' : '0', retain });
      expect(await next(plain)).toMatchObject({ payload: retain ? '1' : '0', retain: false });
      expect(await next(kept)).toMatchObject({ payload: retain ? '1' : '0', retain });
      expect(await next(both)).toMatchObject({ payload: retain ? '1' : '0', retain });
    }
  });

  it.each([
    [0, [true, true]],
    [1, [true, false]],
    [2, [false, false]],
  ])(
    '[MQTT-3.3.1-9..11] Retain Handling %i: sent to a new subscription and again %j',
    async (retainHandling, sent) => {
      const topic = `kept/h/${retainHandling}`;
      await send({ topic, retain: true });
      const client = await connected();
      for (const isSent of sent) {
        await subscribe(client, [[topic, { retainHandling }]]);
        if (isSent) expect(await next(client)).toMatchObject({ topic, retain: true });
        await expectQuiet(client);
      }
    },
  );

  it('[MQTT-3.8.4-3] of the last SUBSCRIBE hold', async () => {
    const client = await subscribed([['terms', { qos: 0, noLocal: true }]]);
    await subscribe(client, [['terms', { qos: 1, noLocal: false, retainAsPublished: true }]]);
    client.send(publish5({ topic: 'terms', qos: 1, packetId: 5, retain: true }));
    const answers = [await client.next(), await client.next()];
    const message = answers.find(({ type }) => type === publish);
    expect(message && readPublish5(message)).toMatchObject({ qos: 1, retain: true });
  });
});

describe('SUBACK and UNSUBACK', () => {
  it('[MQTT-3.9.3-2] say why a filter is refused', async () => {
    const client = await connected({}, confined);
    client.send(
      subscribePacket5(1, [
        ['cmd/dev1/#', { qos: 2 }],
        ['cmd/dev2/#'],
        ['$share/g/cmd/dev1/x', { qos: 0 }],
        ['$share/g/#'],
        [`cmd/dev1/${'x'.repeat(1_100)}`],
      ]),
    );
    expect(readSuback(await nextOf(client, suback)).codes).toEqual([2, 0x87, 0, 0x87, 0x8f]);
    confined.controlled.answerDownlink({ refused: 'no' });
    client.send(subscribePacket5(2, [['cmd/dev1/y']]));
    expect(readSuback(await nextOf(client, suback)).codes).toEqual([0x80]);
    confined.controlled.answerDownlink('held');
  });

  it('[MQTT-3.9.3-2] say that the bound on subscriptions is reached, 0x97', async () => {
    const client = await connected();
    const filters = ['1', '2', '3', '4', '5', '6'].map((level) => [`quota/${level}`] as const);
    expect(await subscribe(client, filters)).toEqual([1, 1, 1, 1, 1, 0x97]);
  });

  it('[MQTT-3.11.3-1, 3.11.3-2] say for each filter whether there was a subscription', async () => {
    const client = await subscribed([['a'], ['$share/g/b']]);
    client.send(unsubscribePacket(2, ['a', 'b', '$share/g/b', 'a'], none));
    expect(readSuback(await nextOf(client, unsuback)).codes).toEqual([0, 0x11, 0, 0x11]);
    const without = await connected();
    without.send(unsubscribePacket(2, ['a'], none));
    expect(readSuback(await nextOf(without, unsuback)).codes).toEqual([0x11]);
  });
});

describe('a shared subscription', () => {
  it('[MQTT-4.8.2-6] a message that its member refuses goes to nobody else', async () => {
    const member = await subscribed([['$share/five/m']]);
    const other = await subscribed([['$share/five/m']], { device: 2 });
    await send({ topic: 'm', payload: '1' });
    const message = await next(member, { acknowledge: false });
    member.send(acknowledge(puback, message.packetId, 0x83));
    await ping(member);
    member.destroy();
    await expectQuiet(other);
  });

  it('goes to a member with room in its Receive Maximum, of any version, with its identifier', async () => {
    const narrow = await subscribed([['$share/five/n']], { properties: [['receiveMaximum', 1]] }, [
      ['subscriptionId', 4],
    ]);
    const old = await harness.subscribed([['$share/five/n', 1]], { device: 2 });
    for (const payload of ['1', '2', '3'])
      await send({ topic: 'n', payload, properties: [['userProperty', ['a', 'b']]] });
    expect(await next(narrow, { acknowledge: false })).toMatchObject({
      payload: '1',
      properties: { subscriptionId: [4], userProperty: [['a', 'b']] },
    });
    expect((await nextDelivery(old)).payload).toBe('2');
    expect((await nextDelivery(old)).payload).toBe('3');
  });

  it.each(['$share//m', '$share/g', '$share/g/', '$share/+/m', '$share/g#/m'])(
    '[MQTT-4.8.2-1, 4.8.2-2] an ill-formed one ends the connection with 0x8F: %s',
    async (filter) => {
      const client = await connected();
      client.send(subscribePacket5(1, [[filter]]));
      await expectDisconnect(client, 0x8f);
    },
  );

  it('[MQTT-3.8.3-4] with No Local ends the connection with 0x82', async () => {
    const client = await connected();
    client.send(subscribePacket5(1, [['$share/g/m', { noLocal: true }]]));
    await expectDisconnect(client, 0x82);
  });
});
