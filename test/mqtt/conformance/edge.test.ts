import { describe, expect, it, vi } from 'vitest';
import {
  connectPacket,
  pingreqPacket,
  publishPacket,
  type RawClient,
  subscribePacket,
  unsubscribePacket,
} from '../../support/raw-client.js';
import { expectClosing } from './closing.js';
import {
  expectQuiet,
  nextDelivery,
  nextOf,
  openHarness,
  ping,
  pingresp,
  puback,
  readDelivery,
  receiveAll,
  suback,
  unsuback,
} from './harness.js';

/** What is dangerous in JavaScript or to a matcher, with every device allowed every topic. */
const harness = openHarness({
  acl: 'open',
  maxSubscriptionsPerClient: 2_000,
  maxQueuedMessages: 10_000,
  maxOutgoingBytes: 1_048_576,
});

const prototypeNames = [
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'prototype',
  'valueOf',
  'length',
];

describe('names of JavaScript’s own', () => {
  it.each(prototypeNames)('%s as client id, filter and topic', async (name) => {
    for (const clean of [true, false]) {
      const client = await harness.connected({ clientId: name, clean });
      client.send(
        subscribePacket(1, [
          [name, 1],
          [`${name}/${name}/+`, 1],
        ]),
      );
      expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([1, 1]);
      for (const topic of [name, `${name}/${name}/${name}`]) {
        await harness.publish({ topic, retain: true, payload: topic });
        expect(await nextDelivery(client)).toMatchObject({ topic, payload: topic });
      }
      client.send(unsubscribePacket(2, [name]));
      await nextOf(client, unsuback);
      await harness.publish({ topic: name });
      await expectQuiet(client);
      await harness.leave(client);
      for (const topic of [name, `${name}/${name}/${name}`]) {
        await harness.publish({ topic, retain: true, payload: '' });
      }
    }
  });

  it.each(prototypeNames)('%s as user name', async (userName) => {
    const client = await harness.open();
    client.send(connectPacket({ userName, password: userName }));
    expect((await client.next()).body[1]).toBe(4);
    await client.waitClosed();
  });
});

describe('deep and long topics', () => {
  it.each([
    ['101 levels', 101],
    ['5,000 levels', 5_000],
    ['65,536 levels', 65_536],
  ])('a topic of %s, more than there may be, closes and harms nobody', async (_name, levels) => {
    const topic = '/'.repeat(levels - 1);
    const send = () => publishPacket({ topic, qos: 1, packetId: 1, retain: true });
    await expectClosing(harness, { name: '', send, reason: 'topic-too-deep', after: {} });
  });

  it.each([
    ['1 level', 1],
    ['99 levels', 99],
    ['100 levels', 100],
  ])('a topic of %s is stored, retained or not, and harms nobody', async (_name, levels) => {
    const topic = `deep${'/'.repeat(levels - 1)}`;
    const watcher = await harness.subscribed([
      ['deep-end', 0],
      ['#', 0],
    ]);
    const publisher = await harness.connected({
      will: { topic, payload: 'x' },
    });
    const before = harness.controlled.taken.length;
    publisher.send(
      publishPacket({ topic, qos: 1, packetId: 1 }),
      publishPacket({ topic, qos: 2, packetId: 2, retain: true }),
      publishPacket({ topic }),
      publishPacket({ topic, qos: 1, packetId: 3 }),
    );
    for (let answers = 0; answers < 3; answers++) await publisher.next();
    expect(harness.controlled.taken.length - before).toBe(4);
    publisher.destroy();
    await harness.publish({ topic: 'deep-neighbour', retain: true });
    const late = await harness.connected();
    late.send(subscribePacket(1, [['deep-neighbour', 0]]));
    await nextOf(late, suback);
    expect((await nextDelivery(late)).topic).toBe('deep-neighbour');
    await harness.publish({ topic, retain: true, payload: '' });
    await harness.publish({ topic: 'deep-end', qos: 0 });
    let delivery = await nextDelivery(watcher);
    while (delivery.topic !== 'deep-end') delivery = await nextDelivery(watcher);
  });

  it.each([
    ['slashes', '/'.repeat(65_535)],
    ['+ and slashes', '+/'.repeat(32_767)],
    ['65,535 letters', 'f'.repeat(65_535)],
    ['# at the end of many +', `${'+/'.repeat(32_766)}#`],
  ])('a filter of 65,535 bytes, %s, is answered, and so is its UNSUBSCRIBE', async (_name, filter) => {
    for (const clean of [true, false]) {
      const client = await harness.connected({ clientId: `filter ${clean}`, clean });
      client.send(
        subscribePacket(1, [
          [filter, 0],
          ['after', 0],
        ]),
      );
      expect((await nextOf(client, suback)).body).toHaveLength(4);
      client.send(unsubscribePacket(2, [filter]));
      await nextOf(client, unsuback);
      await harness.publish({ topic: 'after' });
      expect((await nextDelivery(client)).topic).toBe('after');
      await harness.leave(client);
    }
  });

  it('a topic of 65,535 bytes reaches its subscriber, live and retained', async () => {
    const topic = `long/${'t'.repeat(65_530)}`;
    const client = await harness.subscribed([['long/#', 1]]);
    await harness.publish({ topic, payload: 'whole', retain: true });
    expect(await nextDelivery(client)).toMatchObject({ topic, payload: 'whole' });
    const late = await harness.connected();
    late.send(subscribePacket(1, [['long/+', 1]]));
    const deliveries = [await late.next(), await late.next()];
    expect(deliveries.map(({ type }) => type).toSorted((a, b) => a - b)).toEqual([3, suback]);
    await harness.publish({ topic, payload: '', retain: true });
  });

  it('a filter of more than 1,024 characters is refused, one of 1,024 is granted', async () => {
    const client = await harness.connected();
    client.send(
      subscribePacket(1, [
        ['f'.repeat(1_025), 0],
        ['f'.repeat(1_024), 0],
      ]),
    );
    expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([0x80, 0]);
  });

  it('2,000 filters that overlap neither slow nor repeat: one message, one copy', async () => {
    const client = await harness.connected();
    const filters = Array.from({ length: 2_000 }, (_, index): [string, number] => [
      Array.from({ length: 11 }, (_level, level) => ((index >> level) & 1 ? '+' : 'o')).join('/'),
      0,
    ]);
    client.send(subscribePacket(1, filters));
    expect((await nextOf(client, suback)).body).toHaveLength(2_002);
    const topic = Array.from({ length: 11 }, () => 'o').join('/');
    await harness.publish({ topic, qos: 0 });
    expect((await nextDelivery(client)).topic).toBe(topic);
    await expectQuiet(client);
  });
});

describe('many at once', () => {
  it.each([
    ['clean', true],
    ['persistent', false],
  ])(
    '30 take-overs with subscriptions leave one client, which gets each message once; %s',
    async (name, clean) => {
      for (let round = 0; round < 3; round++) {
        const rivals: RawClient[] = [];
        for (let index = 0; index < 30; index++) rivals.push(await harness.open());
        for (const rival of rivals) {
          rival.send(
            harness.login({ clientId: `rival ${name}`, clean }),
            subscribePacket(1, [['rival/#', 0]]),
          );
        }
        await vi.waitFor(() => expect(rivals.filter((rival) => !rival.closed)).toHaveLength(1), {
          interval: 5,
        });
        const survivor = rivals.find((rival) => !rival.closed) as RawClient;
        await nextOf(survivor, 2);
        await nextOf(survivor, suback);
        await harness.publish({ topic: 'rival/a', payload: 'once' });
        expect(await nextDelivery(survivor)).toMatchObject({ payload: 'once' });
        await expectQuiet(survivor);
        await harness.leave(survivor);
      }
    },
  );

  it('a frozen subscriber holds nobody up and is closed as a slow reader', async () => {
    const { counters } = harness.controlled.broker;
    const closedBefore = counters.closed['slow-reader'];
    const reading = await harness.subscribed([['flood', 1]]);
    for (const [qos, clean] of [
      [0, true],
      [1, true],
      [1, false],
    ] as const) {
      const frozen = await harness.subscribed([['flood', qos]], {
        clientId: `frozen ${qos} ${clean}`,
        clean,
      });
      frozen.socket.pause();
    }
    const publisher = await harness.connected();
    // 20 MB in all: more than the buffers of the system take.
    const payload = 'x'.repeat(4_000);
    const sending = (async () => {
      for (let index = 0; index < 5_000; index++) {
        publisher.send(publishPacket({ topic: 'flood', qos: 1, packetId: 1 + (index % 60_000), payload }));
        if (index % 100 === 99) for (let answer = 0; answer < 100; answer++) await nextOf(publisher, puback);
      }
    })();
    const [deliveries] = await Promise.all([receiveAll(reading, 5_000), sending]);
    expect(deliveries).toHaveLength(5_000);
    await vi.waitFor(() => expect(counters.closed['slow-reader'] - closedBefore).toBe(3));
    await ping(reading);
    await ping(publisher);
  });

  it('a new subscriber gets thousands of retained messages, more than may wait for a client', async () => {
    const count = 3_000;
    const payload = 'r'.repeat(1_000);
    const publisher = await harness.connected();
    for (let index = 0; index < count; index++) {
      publisher.send(publishPacket({ topic: `many/${index}`, retain: true, payload }));
    }
    await ping(publisher);
    for (const qos of [0, 1]) {
      const client = await harness.subscribed([[`many/+`, qos]]);
      const deliveries = await receiveAll(client, count);
      expect(new Set(deliveries.map(({ topic }) => topic)).size).toBe(count);
      expect(deliveries.every(({ retain }) => retain)).toBe(true);
      await ping(client);
    }
    for (let index = 0; index < count; index++) {
      publisher.send(publishPacket({ topic: `many/${index}`, retain: true, payload: '' }));
    }
    await ping(publisher);
  });

  it('a slow but steady client gets a backlog larger than the socket takes', async () => {
    const options = { clientId: 'backlog', clean: false };
    await harness.leave(await harness.subscribed([['backlog', 1]], options));
    const publisher = await harness.connected();
    const payload = 'b'.repeat(3_000);
    const count = 300;
    for (let index = 1; index <= count; index++) {
      publisher.send(publishPacket({ topic: 'backlog', qos: 1, packetId: index, payload }));
    }
    for (let index = 0; index < count; index++) await nextOf(publisher, puback);
    const client = await harness.connected(options);
    const halting = setInterval(() => {
      client.socket.pause();
      setTimeout(() => client.socket.resume(), 5);
    }, 10);
    try {
      expect(await receiveAll(client, count)).toHaveLength(count);
      await ping(client);
    } finally {
      clearInterval(halting);
    }
  });

  it('a retained message that waits for a slow client never comes after a newer one of its topic', async () => {
    const count = 6_000;
    const payload = 'o'.repeat(4_000);
    const publisher = await harness.connected();
    for (let index = 0; index < count; index++) {
      publisher.send(publishPacket({ topic: `stale/${index}`, retain: true, payload }));
    }
    await ping(publisher);
    const client = await harness.connected();
    client.send(subscribePacket(1, [['stale/+', 0]]));
    await nextOf(client, suback);
    client.socket.pause();
    await expectQuiet(publisher);
    const last = `stale/${count - 1}`;
    publisher.send(publishPacket({ topic: last, payload: 'new', retain: true }));
    publisher.send(publishPacket({ topic: 'stale/end', payload: 'end' }));
    await ping(publisher);
    client.socket.resume();
    const seen: string[] = [];
    let kept = 0;
    let ended = false;
    let rounds = 0;
    client.send(pingreqPacket);
    // All but the one that was replaced, then whatever still comes.
    while (rounds < 25) {
      const received = await client.next();
      if (received.type === pingresp) {
        if (ended && kept >= count - 1) rounds += 1;
        client.send(pingreqPacket);
        continue;
      }
      const delivery = readDelivery(received);
      if (delivery.retain) kept += 1;
      if (delivery.topic === 'stale/end') ended = true;
      if (delivery.topic === last) seen.push(delivery.payload);
    }
    for (let index = 0; index < count; index++) {
      publisher.send(publishPacket({ topic: `stale/${index}`, retain: true, payload: '' }));
    }
    await ping(publisher);
    expect(seen.at(-1)?.slice(0, 10)).toBe('new');
  });

  it('[MQTT-3.3.5-1] a message comes once by two filters, also when its delivery to another client brings a will', async () => {
    const watcher = await harness.subscribed([
      ['once/a', 2],
      ['once/+', 2],
      ['bereaved', 0],
    ]);
    const will = { topic: 'bereaved', payload: 'w' };
    for (const filter of ['once/a', 'once/+']) {
      (await harness.subscribed([[filter, 0]], { will })).socket.pause();
    }
    const publisher = await harness.connected();
    const payload = 'y'.repeat(50_000);
    const payloads = Array.from({ length: 300 }, (_, index) => `${index} ${payload}`);
    const sending = (async () => {
      for (const text of payloads) {
        publisher.send(publishPacket({ topic: 'once/a', qos: 0, payload: text }));
        await ping(publisher);
      }
      publisher.send(publishPacket({ topic: 'once/a', payload: 'end' }));
    })();
    const arrived: string[] = [];
    const receiving = (async () => {
      while (arrived.at(-1) !== 'end') {
        const delivery = await nextDelivery(watcher);
        arrived.push(delivery.topic === 'bereaved' ? 'will' : (delivery.payload.split(' ')[0] as string));
      }
    })();
    await Promise.all([sending, receiving]);
    expect(arrived.filter((name) => name === 'will')).toHaveLength(2);
    expect(arrived.filter((name) => name !== 'will')).toEqual([
      ...payloads.map((_, index) => String(index)),
      'end',
    ]);
  });
});
