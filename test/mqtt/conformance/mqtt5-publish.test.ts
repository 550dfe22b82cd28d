import { describe, expect, it } from 'vitest';
import { packet, publishPacket, pubrelPacket, uint16, unsubscribePacket } from '../../support/raw-client.js';
import {
  acknowledgePacket,
  Id,
  type PropertyValue,
  properties,
  property,
  readAcknowledge,
} from '../../support/raw-mqtt5.js';
import {
  expectQuiet,
  idOf,
  nextOf,
  openHarness,
  ping,
  puback,
  pubcomp,
  pubrec,
  pubrel,
  unsuback,
} from './harness.js';
import {
  connected5,
  expectDisconnect,
  jump,
  nextPublish,
  none,
  publish5,
  subscribe5,
  subscribed5,
} from './mqtt5.js';

const harness = openHarness({
  acl: 'open',
  maxInFlightPerClient: 4,
  maxExchangesPerClient: 4,
  maxTopicBytes: 1_024,
});
const confined = openHarness();
const strict = openHarness({ onDeniedPublish: 'disconnect' });
/** Where nothing is retained. */
const fresh = openHarness({ acl: 'open' });

/** What the forwarder was given since it had `from` messages. */
const payloadsFrom = (from: number, h = harness): string[] =>
  h.controlled.taken.slice(from).map(({ payload }) => Buffer.from(payload).toString());
const headersOfLast = (): string => Buffer.from(harness.controlled.taken.at(-1)?.headers ?? []).toString();

describe('MQTT 5, PUBLISH is answered by its QoS', () => {
  it('[MQTT-3.3.4-1] [MQTT-2.2.1-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] nothing, PUBACK, or PUBREC and PUBCOMP, with its identifier', async () => {
    const client = await connected5(harness);
    client.send(publish5());
    await ping(client);
    client.send(publish5({ qos: 1, packetId: 0x1234 }));
    expect(readAcknowledge(await nextOf(client, puback))).toMatchObject({ packetId: 0x1234, code: 0 });
    client.send(publish5({ qos: 2, packetId: 0x4321 }));
    expect(readAcknowledge(await nextOf(client, pubrec))).toMatchObject({ packetId: 0x4321, code: 0 });
    client.send(pubrelPacket(0x4321));
    expect(readAcknowledge(await nextOf(client, pubcomp))).toMatchObject({ packetId: 0x4321, code: 0 });
    await expectQuiet(client);
  });

  it('[MQTT-4.3.2-5] after PUBACK the same identifier is another message, whatever DUP says', async () => {
    const client = await connected5(harness);
    const from = harness.controlled.taken.length;
    for (const [payload, dup] of [
      ['a', false],
      ['b', true],
      ['c', false],
    ] as const) {
      client.send(publish5({ qos: 1, packetId: 1, payload, dup }));
      await nextOf(client, puback);
    }
    expect(payloadsFrom(from)).toEqual(['a', 'b', 'c']);
  });

  it('[MQTT-4.3.3-10] [MQTT-4.3.3-12] until PUBREL the same identifier is the same message, after PUBCOMP another', async () => {
    const client = await connected5(harness);
    const from = harness.controlled.taken.length;
    for (const dup of [false, true]) {
      client.send(publish5({ qos: 2, packetId: 1, payload: 'a', dup }));
      await nextOf(client, pubrec);
    }
    client.send(pubrelPacket(1));
    await nextOf(client, pubcomp);
    client.send(publish5({ qos: 2, packetId: 1, payload: 'b' }));
    await nextOf(client, pubrec);
    expect(payloadsFrom(from)).toEqual(['a', 'b']);
  });

  it('[MQTT-3.7.2-1] PUBREL of no exchange is answered 0x92', async () => {
    const client = await connected5(harness);
    client.send(acknowledgePacket(6, 77, 0x92));
    expect(readAcknowledge(await nextOf(client, pubcomp))).toMatchObject({ packetId: 77, code: 0x92 });
  });

  it('[MQTT-4.3.3-13] a message whose time is over at once goes through its exchange all the same', async () => {
    const client = await connected5(harness);
    client.send(publish5({ qos: 2, packetId: 5, properties: property(Id.messageExpiry, 0) }));
    await nextOf(client, pubrec);
    client.send(pubrelPacket(5));
    expect(readAcknowledge(await nextOf(client, pubcomp)).code).toBe(0);
  });

  it('[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] its properties go to NATS, in their order', async () => {
    const client = await connected5(harness);
    const list = properties(
      [Id.userProperty, ['b', '2']],
      [Id.payloadFormat, 1],
      [Id.contentType, 'application/json'],
      [Id.responseTopic, 'cmd/dev1/answer'],
      [Id.correlationData, Buffer.from([0x61, 0xff])],
      [Id.userProperty, ['a', '1']],
      [Id.userProperty, ['b', '2']],
    );
    client.send(publish5({ qos: 1, properties: list }));
    await nextOf(client, puback);
    expect(headersOfLast().split('\r\n').slice(2, -2)).toEqual([
      'Mqtt-Payload-Format: 1',
      'Content-Type: application/json',
      'Mqtt-Response-Topic: cmd/dev1/answer',
      'Mqtt-Correlation-Data: a%FF',
      'b: 2',
      'a: 1',
      'b: 2',
    ]);
  });
});

describe('MQTT 5, a PUBLISH that is refused', () => {
  it('[MQTT-3.4.2-1] [MQTT-3.5.2-1] outside the policy is answered 0x87 with a reason, and the connection goes on', async () => {
    const client = await connected5(confined);
    const from = confined.controlled.taken.length;
    for (const [qos, type] of [
      [1, puback],
      [2, pubrec],
    ] as const) {
      client.send(publish5({ topic: 'raw/dev2', qos, packetId: qos }));
      const answer = readAcknowledge(await nextOf(client, type));
      expect(answer).toMatchObject({ packetId: qos, code: 0x87 });
      expect(answer.properties.get(Id.reasonString)).toHaveLength(1);
    }
    client.send(publish5({ topic: 'raw/dev2' }));
    await ping(client);
    expect(payloadsFrom(from, confined)).toEqual([]);
  });

  it.each([0, 1, 2])(
    'with QoS %i outside the policy ends the connection where ON_DENIED_PUBLISH says so',
    async (qos) => {
      const client = await connected5(strict);
      client.send(publish5({ topic: 'raw/dev2', qos, packetId: 1 }));
      await expectDisconnect(client, 0x87);
      expect(payloadsFrom(0, strict)).toEqual([]);
    },
  );

  it('[MQTT-4.3.3-9] with QoS 2 ends its exchange: the identifier is that of another message at once', async () => {
    const client = await connected5(confined);
    const from = confined.controlled.taken.length;
    client.send(publish5({ topic: 'raw/dev2', qos: 2, packetId: 1 }));
    expect(readAcknowledge(await nextOf(client, pubrec)).code).toBe(0x87);
    client.send(publish5({ topic: 'raw/dev1', qos: 2, packetId: 1, payload: 'another' }));
    expect(readAcknowledge(await nextOf(client, pubrec)).code).toBe(0);
    expect(payloadsFrom(from, confined)).toEqual(['another']);
  });

  it('keeps its place among the answers', async () => {
    const client = await connected5(confined);
    confined.controlled.autoStore = false;
    client.send(publish5({ qos: 1, packetId: 1 }), publish5({ topic: 'raw/dev2', qos: 1, packetId: 2 }));
    await ping(client);
    confined.controlled.taken.at(-1)?.onStored();
    confined.controlled.autoStore = true;
    const answers = [await nextOf(client, puback), await nextOf(client, puback)].map(readAcknowledge);
    expect(answers.map(({ packetId, code }) => [packetId, code])).toEqual([
      [1, 0],
      [2, 0x87],
    ]);
  });

  it.each([1, 2])('is answered 0x99 when it is no text, though it says so, QoS %i', async (qos) => {
    const client = await connected5(confined);
    const list = properties([Id.payloadFormat, 1], [Id.topicAlias, 3]);
    client.send(publish5({ qos, payload: Buffer.from([0xc0]), properties: list }));
    expect(readAcknowledge(await client.next()).code).toBe(0x99);
    // The alias was given all the same.
    client.send(publish5({ topic: '', qos: 1, packetId: 9, properties: property(Id.topicAlias, 3) }));
    expect(readAcknowledge(await nextOf(client, puback))).toMatchObject({ packetId: 9, code: 0 });
  });

  it('is answered 0x90 when its topic is too long or too deep', async () => {
    const client = await connected5(confined);
    client.send(publish5({ topic: `raw/dev1${'/a'.repeat(200)}`, qos: 1 }));
    expect(readAcknowledge(await nextOf(client, puback)).code).toBe(0x90);
  });

  it('is not what the exchange of the same identifier has begun, when the policy changes within it [MQTT-4.3.3-10]', async () => {
    const client = await connected5(confined);
    client.send(publish5({ qos: 2, packetId: 8 }));
    expect(readAcknowledge(await nextOf(client, pubrec)).code).toBe(0);
    client.send(publish5({ topic: 'raw/dev2', qos: 2, packetId: 8, dup: true }));
    expect(readAcknowledge(await nextOf(client, pubrec))).toMatchObject({ packetId: 8, code: 0 });
    client.send(pubrelPacket(8));
    expect(readAcknowledge(await nextOf(client, pubcomp)).code).toBe(0);
  });

  it.each([
    [60, 1],
    [20, undefined],
  ])(
    '[MQTT-3.4.2-2] [MQTT-3.5.2-2] says why only where the answer stays below the maximum packet size of %i',
    async (most, count) => {
      const client = await connected5(confined, {
        properties: property(Id.maximumPacketSize, most),
        clientId: 'small',
      });
      for (const qos of [1, 2]) {
        client.send(publish5({ topic: 'raw/dev2', qos }));
        const received = await client.next();
        expect(received.body.length + 2).toBeLessThanOrEqual(most);
        const { code, properties } = readAcknowledge(received);
        expect([code, properties.get(Id.reasonString)?.length]).toEqual([0x87, count]);
      }
    },
  );
});

describe('MQTT 5, topic aliases of a client', () => {
  it('[MQTT-3.3.2-12] every one up to the maximum is taken, given again, and stands for its topic', async () => {
    const client = await connected5(harness);
    const from = harness.controlled.taken.length;
    const topicsFrom = () =>
      harness.controlled.taken
        .slice(from)
        .map(({ headers }) => /Mqtt-Topic: (.*)\r/.exec(Buffer.from(headers).toString())?.[1]);
    const send = async (topic: string, alias: number) => {
      client.send(publish5({ topic, qos: 1, properties: property(Id.topicAlias, alias) }));
      expect(readAcknowledge(await nextOf(client, puback)).code).toBe(0);
    };
    const numbers = Array.from({ length: 16 }, (_, index) => index + 1);
    for (const number of numbers) await send(`alias/${number}`, number);
    for (const number of numbers) await send('', number);
    await send('alias/again', 3);
    await send('', 3);
    const topics = numbers.map((number) => `alias/${number}`);
    expect(topicsFrom()).toEqual([...topics, ...topics, 'alias/again', 'alias/again']);
  });

  it('[MQTT-3.3.2-12] are given by a PUBLISH that is refused, too', async () => {
    const client = await connected5(harness);
    const from = harness.controlled.taken.length;
    const topicOf = ({ headers }: (typeof harness.controlled.taken)[0]) =>
      /Mqtt-Topic: (.*)\r/.exec(Buffer.from(headers).toString())?.[1];
    const send = async (topic: string, ...more: (readonly [number, PropertyValue])[]) => {
      const list = properties([Id.topicAlias, 1], ...more);
      client.send(publish5({ topic, qos: 1, packetId: 1, properties: list }));
      return readAcknowledge(await nextOf(client, puback)).code;
    };
    expect(await send('alias/first')).toBe(0);
    expect(await send(`alias/${'x'.repeat(1_100)}`)).toBe(0x90);
    // It stands for the topic that is too long, and not for the one before.
    expect(await send('')).toBe(0x90);
    const long = [Id.userProperty, ['a', 'a'.repeat(40_000)]] as const;
    expect(await send('alias/second', long, long)).toBe(0x97);
    expect(await send('')).toBe(0);
    expect(harness.controlled.taken.slice(from).map(topicOf)).toEqual(['alias/first', 'alias/second']);
  });

  it('[MQTT-3.3.2-7] end with the connection, though the session goes on', async () => {
    const options = { clientId: 'alias', clean: false, properties: property(Id.sessionExpiry, 100) };
    const client = await connected5(harness, options);
    client.send(publish5({ qos: 1, properties: property(Id.topicAlias, 1) }));
    await nextOf(client, puback);
    await harness.leave(client);
    const again = await connected5(harness, options);
    again.send(publish5({ topic: '', properties: property(Id.topicAlias, 1) }));
    await expectDisconnect(again, 0x82);
  });
});

describe('MQTT 5, the receive maximum of the server', () => {
  it('[MQTT-3.3.4-7] [MQTT-4.9.0-1] [MQTT-4.9.0-2] one message of QoS 1 or 2 more than it is answered 0x93', async () => {
    harness.controlled.autoStore = false;
    const client = await connected5(harness);
    for (const [index, qos] of [1, 2, 1, 2].entries()) client.send(publish5({ qos, packetId: index + 1 }));
    await ping(client);
    client.send(publish5({ qos: 1, packetId: 99 }));
    await expectDisconnect(client, 0x93);
    harness.controlled.autoStore = true;
    for (const message of harness.controlled.taken.slice(-4)) message.onStored();
  });

  it('[MQTT-4.9.0-2] QoS 2 counts until PUBCOMP, a refusal not, and QoS 0 never', async () => {
    const client = await connected5(harness);
    for (let packetId = 1; packetId <= 4; packetId += 1) {
      client.send(publish5({ qos: 2, packetId }));
      await nextOf(client, pubrec);
    }
    for (let count = 0; count < 10; count += 1) client.send(publish5());
    await ping(client);
    client.send(pubrelPacket(1));
    await nextOf(client, pubcomp);
    // One place again, which refusals do not take.
    for (let count = 0; count < 10; count += 1) {
      client.send(
        publish5({
          qos: 2,
          packetId: 50,
          payload: Buffer.from([0xc0]),
          properties: property(Id.payloadFormat, 1),
        }),
      );
      expect(readAcknowledge(await nextOf(client, pubrec)).code).toBe(0x99);
    }
    client.send(publish5({ qos: 1, packetId: 5 }));
    await nextOf(client, puback);
    client.send(pubrelPacket(2), pubrelPacket(3), pubrelPacket(4));
    for (let count = 0; count < 3; count += 1) await nextOf(client, pubcomp);
    await ping(client);
  });

  it('a message of QoS 2 that is sent again on its connection counts once', async () => {
    const client = await connected5(harness);
    for (let round = 1; round <= 5; round += 1) {
      for (const dup of [false, true, true]) {
        client.send(publish5({ qos: 2, packetId: 1, dup }));
        await nextOf(client, pubrec);
      }
      client.send(pubrelPacket(1));
      await nextOf(client, pubcomp);
    }
    for (let packetId = 1; packetId <= 4; packetId += 1) client.send(publish5({ qos: 2, packetId }));
    for (let packetId = 1; packetId <= 4; packetId += 1) await nextOf(client, pubrec);
    await ping(client);
    client.send(publish5({ qos: 2, packetId: 5 }));
    await expectDisconnect(client, 0x93);
  });

  it('a message of QoS 2 that a connection before has begun counts once on the next one', async () => {
    const options = { clientId: 'begun-before', clean: false, properties: property(Id.sessionExpiry, 100) };
    const first = await connected5(harness, options);
    first.send(publish5({ qos: 2, packetId: 1 }));
    await nextOf(first, pubrec);
    const client = await connected5(harness, options);
    for (let copy = 1; copy <= 3; copy += 1) {
      client.send(publish5({ qos: 2, packetId: 1, dup: true }));
      await nextOf(client, pubrec);
    }
    for (let packetId = 2; packetId <= 4; packetId += 1) client.send(publish5({ qos: 2, packetId }));
    for (let packetId = 2; packetId <= 4; packetId += 1) await nextOf(client, pubrec);
    client.send(publish5({ qos: 2, packetId: 5 }));
    await expectDisconnect(client, 0x93);
  });

  it('[MQTT-4.9.0-3] other packets are answered while it is reached', async () => {
    harness.controlled.autoStore = false;
    const client = await connected5(harness);
    for (let packetId = 1; packetId <= 4; packetId += 1) client.send(publish5({ qos: 1, packetId }));
    await ping(client);
    expect((await subscribe5(client, [['quota', 0]])).codes).toEqual([0]);
    client.send(unsubscribePacket(2, ['quota'], none));
    await nextOf(client, unsuback);
    harness.controlled.autoStore = true;
    for (const message of harness.controlled.taken.slice(-4)) message.onStored();
    for (let packetId = 1; packetId <= 4; packetId += 1)
      expect(idOf(await nextOf(client, puback))).toBe(packetId);
  });
});

describe('MQTT 5, retained messages', () => {
  const retained = async (topic: string) => {
    const client = await connected5(harness);
    await subscribe5(client, [[topic, 2]]);
    await ping(client);
    await expectQuiet(client);
    return client.received.filter(({ type }) => type === 3).length;
  };

  it('[MQTT-3.3.1-5] [MQTT-3.3.1-9] the last one is sent to a new subscription, with its QoS', async () => {
    const client = await connected5(harness);
    for (const payload of ['1', '2']) {
      client.send(publish5({ topic: 'kept/a', payload, qos: 1, retain: true }));
      await nextOf(client, puback);
    }
    const other = await connected5(harness);
    await subscribe5(other, [['kept/#', 2]]);
    expect(await nextPublish(other)).toMatchObject({ payload: '2', retain: true, qos: 1 });
    await expectQuiet(other);
  });

  it('[MQTT-3.3.1-6] [MQTT-3.3.1-7] an empty one takes it away and is not kept', async () => {
    const client = await connected5(harness);
    for (const payload of ['1', '']) {
      client.send(publish5({ topic: 'gone', payload, qos: 1, retain: true }));
      await nextOf(client, puback);
    }
    expect(await retained('gone')).toBe(0);
  });

  it('[MQTT-3.3.1-8] a message without RETAIN neither is kept nor replaces one', async () => {
    const client = await connected5(harness);
    for (const [payload, retain] of [
      ['1', true],
      ['2', false],
      ['', false],
    ] as const) {
      client.send(publish5({ topic: 'stays', payload, qos: 1, retain }));
      await nextOf(client, puback);
    }
    const other = await connected5(harness);
    await subscribe5(other, [['stays', 0]]);
    expect((await nextPublish(other)).payload).toBe('1');
  });
});

describe('MQTT 5, what is sent to a client', () => {
  it('[MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-2.2.1-4] [MQTT-3.3.1-3] has an identifier of its own where QoS is 1 or 2, and no DUP', async () => {
    const client = await subscribed5(harness, [['out/#', 2]]);
    for (const qos of [0, 1, 2, 1, 2]) await harness.publish({ topic: 'out/a', qos, payload: String(qos) });
    const received = [];
    for (let count = 0; count < 5; count += 1)
      received.push(await nextPublish(client, { acknowledge: false }));
    expect(received.map(({ qos, dup }) => [qos, dup])).toEqual([0, 1, 2, 1, 2].map((qos) => [qos, false]));
    expect(new Set(received.slice(1).map(({ packetId }) => packetId)).size).toBe(4);
    expect(received.slice(1).every(({ packetId }) => packetId > 0)).toBe(true);
  });

  it('[MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT-3.3.1-1] what is not acknowledged is sent again after a reconnect, and never before', async () => {
    const options = { clientId: 'again', clean: false, properties: property(Id.sessionExpiry, 100) };
    const client = await subscribed5(harness, [['again/#', 2]], options);
    for (const qos of [1, 2, 2]) await harness.publish({ topic: 'again/a', qos, payload: String(qos) });
    const sent = [];
    for (let count = 0; count < 3; count += 1) sent.push(await nextPublish(client, { acknowledge: false }));
    const [one, two, three] = sent.map(({ packetId }) => packetId) as [number, number, number];
    client.send(acknowledgePacket(5, two, 0));
    expect(readAcknowledge(await nextOf(client, pubrel))).toMatchObject({ packetId: two, code: 0 });
    await expectQuiet(client);
    client.destroy();

    const again = await connected5(harness, options);
    expect(await nextPublish(again)).toMatchObject({ packetId: one, dup: true, qos: 1 });
    expect(readAcknowledge(await nextOf(again, pubrel)).packetId).toBe(two);
    expect(await nextPublish(again)).toMatchObject({ packetId: three, dup: true, qos: 2 });
    again.send(acknowledgePacket(7, two, 0), acknowledgePacket(5, three, 0));
    await nextOf(again, pubrel);
    again.send(acknowledgePacket(7, three, 0));
    await expectQuiet(again);
    again.destroy();
    await expectQuiet(await connected5(harness, options));
  });

  it('[MQTT-4.4.0-2] what is acknowledged with a failure is not sent again', async () => {
    const options = { clientId: 'failed', clean: false, properties: property(Id.sessionExpiry, 100) };
    const client = await subscribed5(harness, [['failed/#', 2]], options);
    for (const qos of [1, 2]) await harness.publish({ topic: 'failed/a', qos });
    const one = await nextPublish(client, { acknowledge: false });
    const two = await nextPublish(client, { acknowledge: false });
    client.send(acknowledgePacket(4, one.packetId, 0x80), acknowledgePacket(5, two.packetId, 0x97));
    await expectQuiet(client);
    client.destroy();
    await expectQuiet(await connected5(harness, options));
  });

  it('[MQTT-3.6.2-1] PUBREC of no exchange is answered PUBREL 0x92', async () => {
    const client = await connected5(harness);
    client.send(acknowledgePacket(5, 900, 0));
    expect(readAcknowledge(await nextOf(client, pubrel))).toMatchObject({ packetId: 900, code: 0x92 });
  });

  it('[MQTT-4.6.0-5] [MQTT-4.6.0-6] comes in the order in which it was sent', async () => {
    const client = await subscribed5(harness, [['order/#', 1]]);
    const count = 50;
    for (let index = 0; index < count; index += 1)
      await harness.publish({ topic: 'order/a', qos: 1 + (index % 2), payload: String(index) });
    for (let index = 0; index < count; index += 1)
      expect((await nextPublish(client)).payload).toBe(String(index));
  });

  it('[MQTT-4.5.0-1] goes to every session that has subscribed, of clients that are away too', async () => {
    const options = { clientId: 'away', clean: false, properties: property(Id.sessionExpiry, 100) };
    await harness.leave(await subscribed5(harness, [['all/#', 1]], options));
    const here = await subscribed5(harness, [['all/#', 1]]);
    await harness.publish({ topic: 'all/a', qos: 1, payload: 'x' });
    expect((await nextPublish(here)).payload).toBe('x');
    expect((await nextPublish(await connected5(harness, options))).payload).toBe('x');
  });

  it('[MQTT-3.3.2-3] [MQTT-4.7.3-4] has the topic as it was published, and nothing is made alike', async () => {
    const client = await subscribed5(harness, [['Ａ/é/+', 0]]);
    await harness.publish({ topic: 'A/é/a', qos: 0 });
    await harness.publish({ topic: 'Ａ/e\u0301/a', qos: 0 });
    await harness.publish({ topic: 'Ａ/é/b', qos: 0 });
    expect((await nextPublish(client)).topic).toBe('Ａ/é/b');
    await expectQuiet(client);
  });

  it('[MQTT-4.7.2-1] wildcards at the start do not match topics that begin with $', async () => {
    const client = await subscribed5(fresh, [
      ['#', 0],
      ['+/a', 0],
    ]);
    client.send(publishPacket({ topic: '$own/a', qos: 1, properties: none }));
    await nextOf(client, puback);
    await fresh.publish({ topic: 'plain/a', qos: 0 });
    expect((await nextPublish(client)).topic).toBe('plain/a');
    await expectQuiet(client);
  });

  it('[MQTT-4.3.3-7] is not taken back when its time is over once it was sent', async () => {
    const options = { clientId: 'late', clean: false, properties: property(Id.sessionExpiry, 1_000) };
    const client = await subscribed5(harness, [['late', 2]], options);
    const sender = await connected5(harness);
    sender.send(publish5({ topic: 'late', qos: 2, properties: property(Id.messageExpiry, 10) }));
    const { packetId } = await nextPublish(client);
    jump(20);
    client.destroy();
    const again = await connected5(harness, options);
    expect(await nextPublish(again)).toMatchObject({ packetId, dup: true });
  });

  it('[MQTT-3.3.4-10] other packets do not wait while the client has as many as it takes', async () => {
    const client = await subscribed5(harness, [['most', 1]], { properties: property(Id.receiveMaximum, 1) });
    for (const payload of ['1', '2']) await harness.publish({ topic: 'most', qos: 1, payload });
    const { packetId } = await nextPublish(client, { acknowledge: false });
    client.send(publish5({ topic: 'own', qos: 1, packetId: 3 }));
    await nextOf(client, puback);
    expect((await subscribe5(client, [['own', 0]])).codes).toEqual([0]);
    await ping(client);
    client.send(acknowledgePacket(4, packetId, 0));
    expect((await nextPublish(client)).payload).toBe('2');
  });

  it('is acknowledged with the wrong packet: 0x82', async () => {
    const client = await subscribed5(harness, [['wrong/#', 1]]);
    await harness.publish({ topic: 'wrong/a', qos: 1 });
    const { packetId } = await nextPublish(client, { acknowledge: false });
    client.send(packet(0x50, uint16(packetId)));
    await expectDisconnect(client, 0x82);
  });
});
