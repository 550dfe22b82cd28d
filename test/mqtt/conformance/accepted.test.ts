import { describe, expect, it } from 'vitest';
import {
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  pingreqPacket,
  publishPacket,
  pubrelPacket,
  subscribePacket,
  unsubscribePacket,
} from '../../support/raw-client.js';
import { version31 } from './closing.js';
import {
  connack,
  idOf,
  nextDelivery,
  nextOf,
  openHarness,
  ping,
  pingresp,
  puback,
  pubcomp,
  pubrec,
  suback,
  unsuback,
} from './harness.js';

const harness = openHarness({ acl: 'open' });

/** The topic that the forwarder was told of last. */
function lastTopic(): string | undefined {
  const headers = Buffer.from(harness.controlled.taken.at(-1)?.headers ?? []).toString();
  return headers.match(/Mqtt-Topic: (.*)\r\n\r\n$/s)?.[1];
}

describe('CONNECT', () => {
  const accepted: [name: string, options: ConnectOptions][] = [
    ['[MQTT-3.1.3-5] a client id of one character', { clientId: 'a' }],
    ['[MQTT-3.1.3-5] of 23', { clientId: '0123456789abcdefghijklm' }],
    [
      '[MQTT-3.1.3-5] of every letter and digit',
      { clientId: 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ' },
    ],
    ['[MQTT-3.1.3-6] of 1,024 bytes', { clientId: 'ä'.repeat(512) }],
    ['[MQTT-3.1.3-4] of four-byte characters', { clientId: '😀🏳️‍🌈' }],
    ['of a slash, wildcards and blanks', { clientId: ' /+#$ ' }],
    ['[MQTT-3.1.3-6] [MQTT-3.1.3-7] of no characters, with a clean session', { clientId: '' }],
    ['MQTT 3.1', version31],
    ['MQTT 3.1 with a client id longer than its 23 characters', { ...version31, clientId: 'x'.repeat(40) }],
    ['the longest keep alive', { keepaliveSec: 65_535 }],
    ['[MQTT-3.1.3-10] a will without payload', { will: { topic: 'w', payload: '' } }],
    ['a will of QoS 2, retained', { will: { topic: 'w', payload: 'x', qos: 2, retain: true } }],
    ['a will whose payload is no text', { will: { topic: 'w', payload: Buffer.from([0, 0xff]) } }],
    ['a will topic with U+FEFF and four bytes a character', { will: { topic: '\ufeff/😀', payload: 'x' } }],
    ['a will topic of 10,000 bytes', { will: { topic: 't'.repeat(10_000), payload: 'x' } }],
  ];
  it.each(accepted)('%s', async (_name, options) => {
    const client = await harness.connected(options);
    await ping(client);
    client.send(publishPacket({ topic: 'a', qos: 1 }));
    await nextOf(client, puback);
    await harness.leave(client);
  });

  it('[MQTT-3.1.3-6] clients without an id do not take each other over', async () => {
    const first = await harness.connected({ clientId: '' });
    const second = await harness.connected({ clientId: '' });
    await ping(first);
    await ping(second);
  });

  it('[MQTT-3.1.3-5] client ids that differ in case or normal form are different clients', async () => {
    const clients = [];
    for (const clientId of ['id', 'ID', '\u00e4', 'a\u0308', '\ufeffid']) {
      clients.push(await harness.connected({ clientId }));
    }
    for (const client of clients) await ping(client);
  });

  it('[MQTT-3.2.0-1] CONNACK comes first, whatever was sent ahead', async () => {
    const client = await harness.open();
    client.send(
      Buffer.concat([harness.login(), pingreqPacket, subscribePacket(1, [['a', 0]]), pingreqPacket]),
    );
    const types = [];
    for (let index = 0; index < 4; index++) types.push((await client.next()).type);
    expect(types).toEqual([connack, pingresp, suback, pingresp]);
  });
});

describe('PUBLISH', () => {
  it.each([
    ['[MQTT-1.5.3-3] U+FEFF at the start of a topic is kept', '\ufeffa'],
    ['[MQTT-1.5.3-3] U+FEFF alone', '\ufeff'],
    ['[MQTT-1.5.3-3] U+FEFF within', 'a/\ufeff/b\ufeff'],
    ['characters of four bytes', '😀/𝄞'],
    ['the last character of Unicode', '\u{10ffff}'],
    ['non-characters and private use', '\uffff/\ufffe/\ue000'],
    ['the replacement character itself', '\ufffd'],
    ['control characters, which a server may take', '\u0001/\u001f/\u007f/\u0085'],
    ['[MQTT-4.7.3-3] one character', 'a'],
    ['a slash alone', '/'],
    ['empty levels', '//a///'],
    ['[MQTT-4.7.3-4] blanks', ' a / b '],
    ['a $ that is not first', 'a/$SYS'],
    ['the longest topic', 't'.repeat(65_535)],
    ['the longest topic, of two-byte characters', `${'ä'.repeat(32_767)}a`],
  ])('%s', async (_name, topic) => {
    const client = await harness.connected();
    client.send(publishPacket({ topic, qos: 1, packetId: 65_535 }));
    expect(idOf(await nextOf(client, puback))).toBe(65_535);
    expect(lastTopic()).toBe(topic);
  });

  it('[MQTT-1.5.3-3] U+FEFF is not lost on the way to a subscriber, nor in matching', async () => {
    const client = await harness.subscribed([
      ['\ufeffbom', 0],
      ['bom', 1],
    ]);
    await harness.publish({ topic: '\ufeffbom' });
    expect(await nextDelivery(client)).toMatchObject({ topic: '\ufeffbom', qos: 0 });
    await harness.publish({ topic: 'bom' });
    expect(await nextDelivery(client)).toMatchObject({ topic: 'bom', qos: 1 });
  });

  it.each([0, 1, 2])('an empty payload, QoS %i', async (qos) => {
    const client = await harness.connected();
    const before = harness.controlled.taken.length;
    client.send(publishPacket({ topic: 'empty', qos, payload: '' }), pingreqPacket);
    const types = qos === 0 ? [pingresp] : [qos === 1 ? puback : pubrec, pingresp];
    for (const _type of types) expect(types).toContain((await client.next()).type);
    expect(harness.controlled.taken[before]?.payload).toHaveLength(0);
  });

  it('[MQTT-3.3.1-3] DUP with QoS 1 and 2 is taken', async () => {
    const client = await harness.connected();
    client.send(publishPacket({ topic: 'dup', qos: 1, packetId: 3, dup: true }));
    expect(idOf(await nextOf(client, puback))).toBe(3);
    client.send(publishPacket({ topic: 'dup', qos: 2, packetId: 3, dup: true }));
    expect(idOf(await nextOf(client, pubrec))).toBe(3);
  });

  it('[MQTT-4.3.2-2] [MQTT-4.3.3-2] one packet identifier may be used again once it was answered', async () => {
    const client = await harness.connected();
    const before = harness.controlled.taken.length;
    for (let round = 0; round < 3; round++) {
      client.send(publishPacket({ topic: 'reuse', qos: 1, packetId: 8, payload: `${round}` }));
      await nextOf(client, puback);
      client.send(publishPacket({ topic: 'reuse', qos: 2, packetId: 8, payload: `${round}` }));
      await nextOf(client, pubrec);
      client.send(pubrelPacket(8));
      expect(idOf(await nextOf(client, pubcomp))).toBe(8);
    }
    expect(harness.controlled.taken.length - before).toBe(6);
  });

  it('[MQTT-4.3.3-2] PUBREL is answered each time, known or not', async () => {
    const client = await harness.connected();
    for (const packetId of [1, 1, 4_711, 65_535]) {
      client.send(pubrelPacket(packetId));
      expect(idOf(await nextOf(client, pubcomp))).toBe(packetId);
    }
  });
});

describe('the stream of bytes', () => {
  it('is understood wherever it is cut', async () => {
    const login = harness.login({ clientId: 'cut', will: { topic: 'w', payload: 'x' } });
    const rest = Buffer.concat([
      subscribePacket(1, [['cut/#', 1]]),
      publishPacket({ topic: 'cut', qos: 2, packetId: 2, payload: 'y'.repeat(200) }),
      pingreqPacket,
      unsubscribePacket(3, ['cut/#']),
    ]);
    const whole = Buffer.concat([login, rest]);
    for (let at = 1; at < whole.length; at++) {
      const client = await harness.open();
      client.socket.setNoDelay(true);
      client.send(whole.subarray(0, at));
      // The two halves are two chunks only when the first has arrived.
      await new Promise((resolve) => setImmediate(resolve));
      client.send(whole.subarray(at));
      const types = new Set<number>();
      while (types.size < 6) types.add((await client.next()).type);
      expect([...types].toSorted((a, b) => a - b)).toEqual([connack, 3, pubrec, suback, unsuback, pingresp]);
      client.send(disconnectPacket);
      await client.waitClosed();
    }
  });

  it('is understood byte by byte', async () => {
    const client = await harness.open();
    const whole = Buffer.concat([
      harness.login(),
      publishPacket({ topic: 'bytes', qos: 1, packetId: 9, payload: 'z'.repeat(130) }),
      pingreqPacket,
    ]);
    for (const byte of whole) {
      client.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await nextOf(client, connack);
    const types = [(await client.next()).type, (await client.next()).type];
    expect(types.toSorted((a, b) => a - b)).toEqual([puback, pingresp]);
  });

  it('may hold thousands of packets in one chunk [MQTT-3.12.4-1]', async () => {
    const client = await harness.connected();
    client.send(Buffer.concat(Array.from({ length: 5_000 }, () => pingreqPacket)));
    for (let index = 0; index < 5_000; index++) await nextOf(client, pingresp);
  });

  it('that ends with DISCONNECT loses nothing of what came before [MQTT-4.3.1-1]', async () => {
    const client = await harness.open();
    const before = harness.controlled.taken.length;
    const messages = Array.from({ length: 200 }, (_, index) =>
      publishPacket({ topic: 'last', payload: String(index) }),
    );
    client.send(Buffer.concat([harness.login(), ...messages, disconnectPacket]));
    client.socket.end();
    await client.waitClosed();
    const payloads = harness.controlled.taken
      .slice(before)
      .map(({ payload }) => Buffer.from(payload).toString());
    expect(payloads).toEqual(messages.map((_, index) => String(index)));
  });

  it('[MQTT-3.14.4-1] nothing after DISCONNECT is processed', async () => {
    const client = await harness.connected();
    const before = harness.controlled.taken.length;
    client.send(Buffer.concat([disconnectPacket, publishPacket({ topic: 'after' })]));
    await client.waitClosed();
    expect(harness.controlled.taken.length).toBe(before);
  });
});

describe('refusals without credentials', () => {
  it('say nothing about a revoked device to who does not know its secret', async () => {
    harness.controlled.revoke('dev2');
    const client = await harness.open();
    client.send(connectPacket({ userName: 'dev2', password: 'guess' }));
    expect([...(await nextOf(client, connack)).body]).toEqual([0, 4]);
    await client.waitClosed();
  });
});
