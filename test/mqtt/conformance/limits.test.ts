import { describe, expect, it } from 'vitest';
import {
  connectPacket,
  field,
  packet,
  publishPacket,
  remainingLength,
  subscribePacket,
  uint16,
} from '../../support/raw-client.js';
import { expectClosing } from './closing.js';
import { nextOf, openHarness, ping, puback, suback } from './harness.js';

const maxPacketBytes = 100_000;
const maxConnectPacketBytes = 1_000;
const harness = openHarness({ connectTimeoutSec: 1, maxPacketBytes, maxConnectPacketBytes, acl: 'open' });

/** A CONNECT of this size in all, made of a long password. */
function connectOf(bytes: number): Buffer {
  const shortest = connectPacket({ clientId: 'c', userName: 'dev1', password: '' });
  const password = 'p'.repeat(bytes - shortest.length - 1);
  const whole = connectPacket({ clientId: 'c', userName: 'dev1', password });
  expect(whole.length).toBe(bytes);
  return whole;
}

/** A PUBLISH of this size in all. */
function publishOf(bytes: number, topic = 'big'): Buffer {
  const headerBytes = 1 + remainingLength(bytes - 4).length;
  const payload = 'x'.repeat(bytes - headerBytes - 2 - topic.length - 2);
  const whole = publishPacket({ topic, qos: 1, packetId: 9, payload });
  expect(whole.length).toBe(bytes);
  return whole;
}

describe('sizes', () => {
  it('a CONNECT at the limit is read', async () => {
    await expectClosing(harness, {
      name: '',
      send: () => connectOf(maxConnectPacketBytes),
      reason: 'bad-credentials',
      connack: 4,
    });
  });

  it('a CONNECT one byte over the limit closes, without a CONNACK', async () => {
    await expectClosing(harness, {
      name: '',
      send: () => connectOf(maxConnectPacketBytes + 1),
      reason: 'packet-too-large',
    });
  });

  it.each([
    ['CONNECT', 0x10],
    ['PUBLISH', 0x30],
    ['reserved packet type 15', 0xf0],
  ])(
    'a header of %s that announces 256 MB before login closes at once, nothing else sent',
    async (_name, first) => {
      await expectClosing(harness, {
        name: '',
        send: () => Buffer.from([first, 0xff, 0xff, 0xff, 0x7f]),
        reason: 'packet-too-large',
      });
    },
  );

  it('a PUBLISH at the limit is stored and acknowledged', async () => {
    const client = await harness.connected();
    client.send(publishOf(maxPacketBytes));
    await nextOf(client, puback);
  });

  it('a PUBLISH one byte over the limit closes', async () => {
    await expectClosing(harness, {
      name: '',
      send: () => publishOf(maxPacketBytes + 1),
      reason: 'packet-too-large',
      after: {},
    });
  });

  it.each([0x30, 0x32, 0x34, 0x40, 0x62, 0x82, 0xa2, 0xc0, 0xe0])(
    'a header %i that announces more than the limit closes before its body is sent',
    async (first) => {
      await expectClosing(harness, {
        name: '',
        send: () => Buffer.concat([Buffer.from([first]), remainingLength(maxPacketBytes)]),
        reason: 'packet-too-large',
        after: {},
      });
    },
  );

  it('the small limit no longer holds for what is sent together with CONNECT', async () => {
    const client = await harness.open();
    client.send(Buffer.concat([harness.login(), publishOf(50_000)]));
    await nextOf(client, 2);
    await nextOf(client, puback);
  });

  it('a SUBSCRIBE at the limit is answered, each filter', async () => {
    const client = await harness.connected();
    const filter = 'f'.repeat(45);
    const filters = Array.from({ length: 2_000 }, (_, index): [string, number] => [
      `${filter}${String(index).padStart(4, '0')}`.slice(0, 46),
      0,
    ]);
    const whole = subscribePacket(3, filters);
    expect(whole.length).toBeLessThanOrEqual(maxPacketBytes);
    client.send(whole);
    expect((await nextOf(client, suback)).body).toHaveLength(2 + filters.length);
    await ping(client);
  });
});

describe('time', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['half a header', Buffer.from([0x10])],
    ['half a CONNECT', connectPacket({ userName: 'dev1' }).subarray(0, 9)],
  ])('[3.1.4] a client that sends %s in time is closed', async (_name, bytes) => {
    await expectClosing(harness, { name: '', send: () => bytes, reason: 'connect-timeout' });
  });

  it('[3.1.4] dripping bytes do not buy time before login', async () => {
    const client = await harness.open();
    const expectCounted = harness.watch();
    const bytes = connectPacket({ clientId: 'x'.repeat(900), userName: 'dev1' });
    let sent = 0;
    const drip = setInterval(() => {
      client.send(bytes.subarray(sent, ++sent));
    }, 50);
    try {
      await client.waitClosed();
      expectCounted('connect-timeout');
    } finally {
      clearInterval(drip);
    }
  });

  it('[3.1.4] a look-up of the device that never ends closes too', async () => {
    harness.controlled.answer = () => new Promise(() => {});
    try {
      const client = await harness.open();
      const expectCounted = harness.watch();
      client.send(harness.login());
      await client.waitClosed();
      expectCounted('connect-timeout');
    } finally {
      harness.controlled.answer = undefined;
    }
    await harness.expectServing();
  });

  it('[MQTT-3.1.2-24] a client silent for one and a half times its keep alive is closed', async () => {
    await expectClosing(harness, {
      name: '',
      send: () => [],
      reason: 'keepalive-timeout',
      after: { keepaliveSec: 1 },
    });
  });

  it('[MQTT-3.1.2-24] being sent messages does not keep a silent client', async () => {
    const client = await harness.subscribed([['tick', 0]], { keepaliveSec: 1 });
    // Opens the connection that the ticks share.
    await harness.publish({ topic: 'tick', qos: 0 });
    const ticks = setInterval(() => void harness.publish({ topic: 'tick', qos: 0 }), 200);
    try {
      await client.waitClosed();
    } finally {
      clearInterval(ticks);
    }
  });

  it('[MQTT-3.1.2-23] any packet keeps a client, not only PINGREQ; keep alive 0 asks for none', async () => {
    const busy = await harness.connected({ keepaliveSec: 1 });
    const idle = await harness.connected({ keepaliveSec: 0 });
    const sending = setInterval(() => busy.send(publishPacket({ topic: 'busy' })), 400);
    try {
      const silent = await harness.connected({ keepaliveSec: 2 });
      await silent.waitClosed();
      expect([busy.closed, idle.closed]).toEqual([false, false]);
      await ping(idle);
    } finally {
      clearInterval(sending);
    }
  });
});

describe('remaining length', () => {
  // Lengths around each step of the encoding (MQTT 3.1.1 §2.2.3, table 2.4).
  it.each([127, 128, 16_383, 16_384, 99_900])(
    'a PUBLISH of remaining length %i is taken whole',
    async (length) => {
      const client = await harness.connected();
      const before = harness.controlled.taken.length;
      const payload = Buffer.alloc(length - 5, 7);
      client.send(packet(0x32, field('l'), uint16(5), payload));
      await nextOf(client, puback);
      expect(harness.controlled.taken[before]?.payload).toHaveLength(payload.length);
    },
  );

  it.each([
    ['two bytes', [0x80, 0x00]],
    ['three bytes', [0x80, 0x80, 0x00]],
    ['four bytes', [0x80, 0x80, 0x80, 0x00]],
  ])('a remaining length of 0 in %s is understood', async (_name, length) => {
    const client = await harness.connected();
    client.send(Buffer.from([0xc0, ...length]));
    await nextOf(client, 13);
  });

  it('a longer encoding than needed is understood in every packet, also by the session engine', async () => {
    const client = await harness.open();
    const longer = (bytes: Buffer): Buffer =>
      Buffer.concat([
        bytes.subarray(0, 1),
        Buffer.from([(bytes[1] as number) | 0x80, 0x80, 0x80, 0x00]),
        bytes.subarray(2),
      ]);
    client.send(longer(harness.login()));
    await nextOf(client, 2);
    client.send(longer(subscribePacket(1, [['longer/#', 1]])));
    await nextOf(client, suback);
    client.send(longer(publishPacket({ topic: 'longer/a', qos: 1, packetId: 2 })));
    const types = [(await client.next()).type, (await client.next()).type];
    expect(types.toSorted()).toEqual([3, puback]);
    client.send(longer(packet(0x40, uint16(1))), longer(packet(0xa2, uint16(3), field('longer/#'))));
    await nextOf(client, 11);
    client.send(Buffer.from([0xe0, 0x80, 0x00]));
    await client.waitClosed();
  });
});
