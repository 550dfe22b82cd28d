import { describe, expect, it } from 'vitest';
import {
  type ConnectOptions,
  field,
  packet,
  publishPacket,
  subscribePacket,
  uint16,
} from '../../support/raw-client.js';
import { version31 } from './closing.js';
import {
  connack,
  expectQuiet,
  idOf,
  nextOf,
  openHarness,
  ping,
  pingresp,
  puback,
  pubcomp,
  pubrec,
  pubrel,
  suback,
  unsuback,
} from './harness.js';

const harness = openHarness();
const topic = 'raw/dev1';
const allFlags = Array.from({ length: 16 }, (_, flags) => flags);
/** The flags that a packet of QoS 1 may have: DUP and RETAIN say nothing there. */
const flagsOfQos1 = allFlags.filter((flags) => (flags & 0b0110) === 0b0010);

describe('MQTT 3.1 does not use', () => {
  it.each(allFlags.map((flags) => [flags]))('the flags of CONNECT: %i', async (flags) => {
    const client = await harness.open();
    const bytes = harness.login(version31);
    bytes[0] = 0x10 | flags;
    client.send(bytes);
    expect([...(await nextOf(client, connack)).body]).toEqual([0, 0]);
    await ping(client);
  });

  const connects: [name: string, options: ConnectOptions][] = [
    ['the lowest bit of the connect flags', { flags: 0xc3 }],
    ['will QoS 1 without a will', { flags: 0xca }],
    ['will QoS 2 without a will', { flags: 0xd2 }],
    ['will QoS 3 without a will', { flags: 0xda }],
    ['will retain without a will', { flags: 0xe2 }],
  ];
  it.each(connects)('%s', async (_name, options) => {
    const client = await harness.connected({ ...version31, ...options });
    await ping(client);
  });

  it('DUP of a PUBLISH of QoS 0', async () => {
    const client = await harness.connected(version31);
    const before = harness.controlled.taken.length;
    client.send(packet(0x38, field(topic), Buffer.from('x')), packet(0x39, field(topic), Buffer.from('y')));
    await ping(client);
    const taken = harness.controlled.taken.slice(before);
    expect(taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['x', 'y']);
  });

  it('DUP and RETAIN of PUBREL, SUBSCRIBE and UNSUBSCRIBE', async () => {
    const client = await harness.connected(version31);
    for (const flags of flagsOfQos1) {
      client.send(publishPacket({ topic, qos: 2, packetId: 5 }));
      await nextOf(client, pubrec);
      client.send(packet(0x60 | flags, uint16(5)));
      expect(idOf(await nextOf(client, pubcomp))).toBe(5);
      client.send(packet(0x80 | flags, uint16(1), field('cmd/dev1/a'), Buffer.from([1])));
      expect([...(await nextOf(client, suback)).body]).toEqual([0, 1, 1]);
      client.send(packet(0xa0 | flags, uint16(2), field('cmd/dev1/a')));
      expect(idOf(await nextOf(client, unsuback))).toBe(2);
    }
  });

  it('the flags of PUBACK, PUBREC, PUBCOMP, PINGREQ and DISCONNECT', async () => {
    for (const flags of allFlags) {
      const client = await harness.connected(version31);
      for (const type of [0x40, 0x70]) client.send(packet(type | flags, uint16(4_711)));
      client.send(packet(0x50 | flags, uint16(4_711)));
      expect(idOf(await nextOf(client, pubrel))).toBe(4_711);
      client.send(packet(0xc0 | flags));
      await nextOf(client, pingresp);
      const closed = harness.controlled.broker.counters.closed['client-disconnect'];
      client.send(packet(0xe0 | flags));
      await client.waitClosed();
      expect(harness.controlled.broker.counters.closed['client-disconnect']).toBe(closed + 1);
    }
  });

  it('the flags of PINGREQ, also where messages wait for NATS', async () => {
    const client = await harness.connected(version31);
    harness.controlled.setFull(true);
    client.send(publishPacket({ topic, qos: 1, packetId: 1 }), packet(0xc9));
    await nextOf(client, pingresp);
    harness.controlled.setFull(false);
    await nextOf(client, puback);
  });

  it('the upper six bits of what SUBSCRIBE asks for', async () => {
    const client = await harness.connected(version31);
    for (const unused of [0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xfc]) {
      for (const qos of [0, 1, 2]) {
        client.send(subscribePacket(1, [['cmd/dev1/a', unused | qos]]));
        expect([...(await nextOf(client, suback)).body]).toEqual([0, 1, qos]);
      }
    }
  });
});

describe('a subscription that is refused to a client of MQTT 3.1', () => {
  it('is answered the QoS that it asked for, is logged and is none (MQTT 3.1 §3.8)', async () => {
    const client = await harness.connected(version31);
    const denied = harness.controlled.broker.counters.subscribeDenied;
    client.send(
      subscribePacket(9, [
        ['raw/dev2', 2],
        ['cmd/dev1/a', 1],
        ['raw/dev2/#', 0],
      ]),
    );
    expect([...(await nextOf(client, suback)).body]).toEqual([0, 9, 2, 1, 0]);
    expect(harness.controlled.broker.counters.subscribeDenied).toBe(denied + 2);
    await harness.publish({ topic: 'raw/dev2' });
    await expectQuiet(client);
  });
});
