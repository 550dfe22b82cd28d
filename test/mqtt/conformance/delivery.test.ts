import { describe, expect, it } from 'vitest';
import {
  disconnectPacket,
  packet,
  publishPacket,
  type RawClient,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../../support/raw-client.js';
import {
  type Delivery,
  expectQuiet,
  idOf,
  nextDelivery,
  nextOf,
  openHarness,
  puback,
  pubcomp,
  publish,
  pubrec,
  pubrel,
  readDelivery,
  receiveAll,
  suback,
  unsuback,
} from './harness.js';

const harness = openHarness({ acl: 'open', maxSubscriptionsPerClient: 40 });

/** Takes packets until a delivery with this payload has come. */
async function deliveriesUntil(client: RawClient, payload: string): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  for (;;) {
    const received = await client.next();
    if (received.type !== publish) continue;
    const delivery = readDelivery(received);
    if (delivery.qos === 1) client.send(packet(0x40, uint16(delivery.packetId)));
    deliveries.push(delivery);
    if (delivery.payload === payload) return deliveries;
  }
}

/** SUBSCRIBE to one filter: the return code, and the retained messages that came before the answer to a PINGREQ. */
async function subscribeFor(
  client: RawClient,
  filters: [string, number][],
  packetId = 5,
): Promise<Delivery[]> {
  client.send(subscribePacket(packetId, filters));
  const deliveries: Delivery[] = [];
  let acknowledged = false;
  for (let round = 0; round < 25; round++) {
    client.send(Buffer.from([0xc0, 0]));
    for (let received = await client.next(); received.type !== 13; received = await client.next()) {
      if (received.type === suback) acknowledged = true;
      else deliveries.push(readDelivery(received));
    }
  }
  expect(acknowledged).toBe(true);
  return deliveries;
}

describe('SUBSCRIBE and SUBACK', () => {
  it('[MQTT-3.8.4-1] [MQTT-3.8.4-2] SUBACK carries the packet identifier of SUBSCRIBE, the largest too', async () => {
    const client = await harness.connected();
    for (const packetId of [1, 255, 256, 65_535]) {
      client.send(subscribePacket(packetId, [['a', 0]]));
      expect(idOf(await nextOf(client, suback))).toBe(packetId);
    }
  });

  it('[MQTT-3.8.4-4] [MQTT-3.9.3-1] one return code a filter, in their order', async () => {
    const client = await harness.connected();
    client.send(
      subscribePacket(7, [
        ['a', 2],
        ['$SYS/#', 1],
        ['b/+', 0],
        ['+/c', 1],
      ]),
    );
    const answer = await nextOf(client, suback);
    expect([...answer.body]).toEqual([0, 7, 2, 0x80, 0, 1]);
  });

  it('[MQTT-3.8.4-5] one return code for each filter, also for one named twice', async () => {
    const client = await harness.connected();
    client.send(
      subscribePacket(7, [
        ['a', 1],
        ['b', 0],
        ['a', 2],
      ]),
    );
    const answer = await nextOf(client, suback);
    expect([...answer.body]).toEqual([0, 7, 1, 0, 2]);
  });

  it('[MQTT-3.8.4-5] [MQTT-3.9.3-2] every one of 20,000 refused filters is answered', async () => {
    const client = await harness.connected();
    const filters = Array.from({ length: 20_000 }, (_, index): [string, number] => [`$SYS/${index}`, 0]);
    client.send(subscribePacket(7, filters));
    const answer = await nextOf(client, suback);
    expect(answer.body).toHaveLength(2 + filters.length);
    expect(new Set(answer.body.subarray(2))).toEqual(new Set([0x80]));
    await expectQuiet(client);
  });

  it('[MQTT-3.8.4-3] a subscription again replaces the one before, and retained messages are sent again', async () => {
    await harness.publish({ topic: 'again/retained', payload: 'kept', retain: true });
    const client = await harness.connected();
    expect(await subscribeFor(client, [['again/#', 0]])).toMatchObject([{ payload: 'kept', qos: 0 }]);
    expect(await subscribeFor(client, [['again/#', 1]])).toMatchObject([{ payload: 'kept', qos: 1 }]);
    await harness.publish({ topic: 'again/live', payload: 'once' });
    expect(await nextDelivery(client)).toMatchObject({ payload: 'once', qos: 1 });
    await expectQuiet(client);
  });

  it('[MQTT-3.8.4-3] a subscription may be replaced by one of a lower QoS', async () => {
    const client = await harness.subscribed([['lower/a', 2]]);
    client.send(subscribePacket(2, [['lower/a', 0]]));
    expect([...(await nextOf(client, suback)).body]).toEqual([0, 2, 0]);
    await harness.publish({ topic: 'lower/a', qos: 2 });
    expect(await nextDelivery(client)).toMatchObject({ qos: 0 });
    await expectQuiet(client);
  });

  it.each([
    ['without wildcards', 'cap/x'],
    ['with +', 'cap/+'],
    ['with #', 'cap/#'],
  ])('[MQTT-3.8.4-6] the QoS of a delivery is the lower of the two, %s', async (_name, filter) => {
    for (const granted of [0, 1, 2]) {
      const client = await harness.subscribed([[filter, granted]]);
      for (const qos of [0, 1, 2]) {
        await harness.publish({ topic: 'cap/x', qos });
        expect(await nextDelivery(client)).toMatchObject({ qos: Math.min(granted, qos) });
      }
      client.destroy();
    }
  });

  it('[MQTT-3.8.4-6] also of a message kept for an absent client', async () => {
    for (const filter of ['absent-cap/x', 'absent-cap/+']) {
      const clientId = `absent ${filter}`;
      await harness.leave(await harness.subscribed([[filter, 1]], { clientId, clean: false }));
      await harness.publish({ topic: 'absent-cap/x', qos: 2 });
      const client = await harness.connected({ clientId, clean: false });
      expect(await nextDelivery(client)).toMatchObject({ qos: 1 });
    }
  });

  it('[MQTT-3.3.5-1] overlapping subscriptions: a message comes with the highest QoS of them', async () => {
    for (const filters of [
      [
        ['over/+', 0],
        ['over/#', 2],
        ['over/a', 1],
      ],
      [
        ['over/#', 2],
        ['over/+', 0],
      ],
      [
        ['over/a', 0],
        ['over/+', 1],
      ],
      [
        ['over/+', 1],
        ['over/a', 0],
      ],
    ] as [string, number][][]) {
      const client = await harness.subscribed(filters);
      await harness.publish({ topic: 'over/a', qos: 2, payload: 'high' });
      await harness.publish({ topic: 'over/a', qos: 0, payload: 'end' });
      const copies = (await deliveriesUntil(client, 'end')).filter(({ payload }) => payload === 'high');
      const highest = Math.max(...filters.map(([, qos]) => qos));
      expect(Math.max(...copies.map(({ qos }) => qos)), JSON.stringify(filters)).toBe(highest);
      expect(copies.length).toBeLessThanOrEqual(filters.length);
      client.destroy();
    }
  });

  it('[MQTT-3.3.5-1] overlapping subscriptions of a persistent session leave nothing behind', async () => {
    const options = { clientId: 'overlap-persistent', clean: false };
    const client = await harness.subscribed(
      [
        ['twice/+', 2],
        ['twice/#', 2],
      ],
      options,
    );
    await harness.publish({ topic: 'twice/a', qos: 2 });
    for (let copies = 0; copies < 2; copies++) {
      const first = copies === 0 ? await nextDelivery(client) : undefined;
      if (first === undefined) break;
      client.send(packet(0x50, uint16(first.packetId)));
      expect(idOf(await nextOf(client, pubrel))).toBe(first.packetId);
      client.send(packet(0x70, uint16(first.packetId)));
    }
    await expectQuiet(client);
    await harness.leave(client);
    const { client: again, sessionPresent } = await harness.resumed(options);
    expect(sessionPresent).toBe(1);
    await expectQuiet(again);
  });
});

describe('UNSUBSCRIBE', () => {
  it('[MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] one UNSUBACK for all filters, known or not', async () => {
    const client = await harness.subscribed([['known', 0]]);
    client.send(unsubscribePacket(65_535, ['known', 'unknown', '+/#', '$SYS/a', 'known']));
    const answer = await nextOf(client, unsuback);
    expect([answer.body.length, idOf(answer)]).toEqual([2, 65_535]);
    await expectQuiet(client);
  });

  it('[MQTT-3.10.4-1] filters are compared character by character', async () => {
    const client = await harness.subscribed([
      ['exact/+', 0],
      ['Exact/a', 0],
    ]);
    client.send(unsubscribePacket(2, ['exact/a', 'exact/#', 'EXACT/a', 'exact']));
    await nextOf(client, unsuback);
    await harness.publish({ topic: 'exact/a', qos: 0 });
    expect((await nextDelivery(client)).topic).toBe('exact/a');
  });

  it('[MQTT-3.10.4-2] nothing more is delivered', async () => {
    const client = await harness.subscribed([
      ['stop/a', 1],
      ['stop/b', 1],
    ]);
    client.send(unsubscribePacket(2, ['stop/a']));
    await nextOf(client, unsuback);
    await harness.publish({ topic: 'stop/a' });
    await harness.publish({ topic: 'stop/b', payload: 'end' });
    expect(await nextDelivery(client)).toMatchObject({ topic: 'stop/b' });
    await expectQuiet(client);
  });

  it('[MQTT-3.10.4-2] nothing is kept for an absent client either', async () => {
    const options = { clientId: 'unsubscribed', clean: false };
    const client = await harness.subscribed([['gone/a', 1]], options);
    client.send(unsubscribePacket(2, ['gone/a']));
    await nextOf(client, unsuback);
    await harness.leave(client);
    await harness.publish({ topic: 'gone/a' });
    await expectQuiet(await harness.connected(options));
  });

  it('[MQTT-3.10.4-3] a delivery that has begun is completed, also over a reconnect', async () => {
    const options = { clientId: 'begun', clean: false };
    const client = await harness.subscribed([['begun/a', 1]], options);
    await harness.publish({ topic: 'begun/a' });
    const begun = await nextDelivery(client, { acknowledge: false });
    client.send(unsubscribePacket(2, ['begun/a']));
    await nextOf(client, unsuback);
    await harness.leave(client);
    const again = await nextDelivery(await harness.connected(options));
    expect(again).toMatchObject({ topic: 'begun/a', qos: 1, packetId: begun.packetId });
  });

  it('[MQTT-3.10.4-2] UNSUBSCRIBE and SUBSCRIBE of one filter take effect in their order, sent at once', async () => {
    const client = await harness.subscribed([['order/a', 1]]);
    client.send(Buffer.concat([unsubscribePacket(2, ['order/a']), subscribePacket(3, [['order/a', 1]])]));
    expect(idOf(await nextOf(client, unsuback))).toBe(2);
    expect(idOf(await nextOf(client, suback))).toBe(3);
    await harness.publish({ topic: 'order/a', payload: 'still' });
    await expect(client.next().then(readDelivery)).resolves.toMatchObject({ payload: 'still' });
    client.send(Buffer.concat([subscribePacket(4, [['order/a', 1]]), unsubscribePacket(5, ['order/a'])]));
    await nextOf(client, suback);
    await nextOf(client, unsuback);
    await harness.publish({ topic: 'order/a' });
    await expectQuiet(client);
  });
});

describe('retained messages', () => {
  it('[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] the last is sent to a new subscription, flagged', async () => {
    await harness.publish({ topic: 'keep/a', payload: 'one', retain: true });
    await harness.publish({ topic: 'keep/a', payload: 'two', qos: 2, retain: true });
    const client = await harness.connected();
    expect(await subscribeFor(client, [['keep/a', 2]])).toMatchObject([
      { payload: 'two', retain: true, qos: 2, dup: false },
    ]);
  });

  it('[MQTT-3.3.1-7] one of QoS 0 replaces the one before', async () => {
    await harness.publish({ topic: 'keep/zero', payload: 'one', retain: true });
    await harness.publish({ topic: 'keep/zero', payload: 'two', qos: 0, retain: true });
    const client = await harness.connected();
    const deliveries = await subscribeFor(client, [['keep/zero', 2]]);
    expect(deliveries.every(({ payload }) => payload !== 'one')).toBe(true);
  });

  it('[MQTT-3.3.1-9] a live delivery is not flagged', async () => {
    for (const filter of ['live/a', 'live/+', '#']) {
      const client = await harness.subscribed([['live/none', 0]]);
      await subscribeFor(client, [[filter, 1]]);
      await harness.publish({ topic: 'live/a', retain: true, payload: 'now' });
      expect(await nextDelivery(client)).toMatchObject({ topic: 'live/a', retain: false });
      await harness.publish({ topic: 'live/a', retain: true, payload: '' });
      client.destroy();
    }
  });

  it('[MQTT-3.3.1-9] nor is one kept for an absent client', async () => {
    const options = { clientId: 'absent-live', clean: false };
    await harness.leave(await harness.subscribed([['absent/live', 1]], options));
    await harness.publish({ topic: 'absent/live', retain: true });
    const client = await harness.connected(options);
    expect(await nextDelivery(client)).toMatchObject({ topic: 'absent/live', retain: false });
  });

  it('[MQTT-3.3.1-10] [MQTT-3.3.1-11] an empty payload removes it, and is delivered as any message', async () => {
    await harness.publish({ topic: 'keep/gone', payload: 'one', retain: true });
    const live = await harness.connected();
    await subscribeFor(live, [['keep/gone', 0]]);
    await harness.publish({ topic: 'keep/gone', payload: '', retain: true });
    expect(await nextDelivery(live)).toMatchObject({ payload: '', retain: false });
    const late = await harness.connected();
    expect(await subscribeFor(late, [['keep/gone', 1]])).toEqual([]);
  });

  it('[MQTT-3.3.1-12] a message without the flag neither replaces nor removes it', async () => {
    await harness.publish({ topic: 'keep/stays', payload: 'one', retain: true });
    await harness.publish({ topic: 'keep/stays', payload: 'two' });
    await harness.publish({ topic: 'keep/stays', payload: '' });
    const client = await harness.connected();
    expect(await subscribeFor(client, [['keep/stays', 1]])).toMatchObject([{ payload: 'one' }]);
  });

  it('[MQTT-3.8.4-6] is sent with the lower QoS of the two', async () => {
    await harness.publish({ topic: 'keep/qos', payload: 'x', qos: 2, retain: true });
    for (const filter of ['keep/qos', 'keep/qos/#', '+/qos']) {
      const client = await harness.connected();
      for (const qos of [0, 1, 2]) {
        expect(await subscribeFor(client, [[filter, qos]])).toMatchObject([{ qos }]);
      }
      client.destroy();
    }
  });

  it('[MQTT-4.3.3-1] a QoS 2 one is completed with a persistent session', async () => {
    await harness.publish({ topic: 'keep/exactly', payload: 'x', qos: 2, retain: true });
    const client = await harness.connected({ clientId: 'exactly', clean: false });
    const [delivery] = await subscribeFor(client, [['keep/exactly', 2]]);
    const packetId = delivery?.packetId ?? 0;
    expect(delivery?.qos).toBe(2);
    client.send(packet(0x50, uint16(packetId)));
    expect(idOf(await nextOf(client, pubrel))).toBe(packetId);
    client.send(packet(0x70, uint16(packetId)));
    await expectQuiet(client);
  });

  it('[MQTT-4.4.0-1] a QoS 1 one not acknowledged is sent again to a persistent session', async () => {
    await harness.publish({ topic: 'keep/unacked', payload: 'x', retain: true });
    const options = { clientId: 'unacked', clean: false };
    const client = await harness.connected(options);
    const [first] = await subscribeFor(client, [['keep/unacked', 1]]);
    expect(first?.qos).toBe(1);
    await harness.leave(client);
    const { client: again } = await harness.resumed(options);
    const delivery = readDelivery(await again.next());
    expect(delivery).toMatchObject({ packetId: first?.packetId, dup: true });
  });

  it.each([
    ['level/', 'level/+'],
    ['/level', '+/level'],
    ['/level', '/+'],
    ['l//l', 'l/+/l'],
    ['/', '+/+'],
    ['hash', 'hash/#'],
    ['hash/', 'hash/#'],
  ])('[MQTT-4.7.1-3] [MQTT-4.7.1-2] %s is matched by %s, retained and live', async (topic, filter) => {
    await harness.publish({ topic, payload: 'kept', retain: true });
    const client = await harness.connected();
    const kept = await subscribeFor(client, [[filter, 1]]);
    expect(kept.map((delivery) => delivery.topic)).toContain(topic);
    await harness.publish({ topic, payload: 'live' });
    expect(await nextDelivery(client)).toMatchObject({ topic, payload: 'live' });
    await harness.publish({ topic, payload: '', retain: true });
  });

  it.each([
    ['level/', 'level/+'],
    ['/level', '+/level'],
    ['l//l', 'l/+/l'],
  ])('[MQTT-4.7.1-3] %s reaches a persistent session by %s, present and absent', async (topic, filter) => {
    const options = { clientId: `empty ${filter}`, clean: false };
    const client = await harness.subscribed([[filter, 1]], options);
    await harness.publish({ topic, payload: 'present' });
    expect(await nextDelivery(client)).toMatchObject({ topic, payload: 'present', qos: 1 });
    await expectQuiet(client);
    await harness.leave(client);
    await harness.publish({ topic, payload: 'absent' });
    const again = await harness.connected(options);
    expect(readDelivery(await again.next())).toMatchObject({ topic, payload: 'absent' });
  });

  it.each([
    ['a/b', 'a/+/#', true],
    ['a', 'a/+', false],
    ['a/b/c', 'a/+', false],
    ['ab', 'a/#', false],
    ['A', 'a', false],
    ['/a', 'a', false],
    ['a/', 'a', false],
    ['a b', 'a b', true],
  ])('[MQTT-4.7.1-2] [MQTT-4.7.3-4] %s and %s', async (topic, filter, matched) => {
    const client = await harness.subscribed([
      [`m/${filter}`, 0],
      ['m-end', 0],
    ]);
    await harness.publish({ topic: `m/${topic}` });
    await harness.publish({ topic: 'm-end' });
    const deliveries = [await nextDelivery(client)];
    if (matched) deliveries.push(await nextDelivery(client));
    expect(deliveries.map((delivery) => delivery.topic)).toEqual(
      matched ? [`m/${topic}`, 'm-end'] : ['m-end'],
    );
  });
});

describe('order', () => {
  it('[MQTT-4.6.0-2] [MQTT-4.6.0-3] acknowledgements leave in the order of the messages', async () => {
    const client = await harness.connected();
    const qosOf = (packetId: number): number => (packetId % 3 === 0 ? 2 : 1);
    const ids = Array.from({ length: 300 }, (_, index) => index + 1);
    client.send(
      Buffer.concat(ids.map((packetId) => publishPacket({ topic: 'o/a', qos: qosOf(packetId), packetId }))),
    );
    for (const packetId of ids) {
      const answer = await client.next();
      expect([answer.type, idOf(answer)]).toEqual([qosOf(packetId) === 1 ? puback : pubrec, packetId]);
    }
  });

  it.each([0, 1, 2])('[MQTT-4.6.0-5] [MQTT-4.6.0-6] 500 messages of QoS %i arrive in order', async (qos) => {
    const client = await harness.subscribed([
      [`seq/${qos}/#`, 2],
      ['unused/#', 0],
    ]);
    const publisher = await harness.connected();
    publisher.send(
      Buffer.concat(
        Array.from({ length: 500 }, (_, index) =>
          publishPacket({
            topic: `seq/${qos}/${index % 3}`,
            qos,
            packetId: index + 1,
            payload: String(index),
          }),
        ),
      ),
    );
    const deliveries = await receiveAll(client, 500);
    expect(deliveries.map(({ payload }) => payload)).toEqual(
      Array.from({ length: 500 }, (_, i) => String(i)),
    );
    expect(deliveries.every((delivery) => delivery.qos === qos)).toBe(true);
  });

  it('[MQTT-4.5.0-1] no message is lost when QoS and retain flag change from one to the next', async () => {
    const client = await harness.subscribed([['mix/#', 2]]);
    const publisher = await harness.connected();
    const messages = Array.from({ length: 60 }, (_, index) => ({
      topic: `mix/${index}`,
      qos: index % 3,
      packetId: index + 1,
      retain: index % 2 === 0,
      payload: String(index),
    }));
    publisher.send(Buffer.concat(messages.map(publishPacket)));
    const arrived = new Set<string>();
    await expect(
      (async () => {
        while (arrived.size < messages.length) arrived.add(readDelivery(await client.next()).payload);
      })(),
      `missing: ${messages.filter(({ payload }) => !arrived.has(payload)).map(({ payload }) => payload)}`,
    ).resolves.toBeUndefined();
  });

  it('[MQTT-4.5.0-1] nor when two clients publish with different QoS at the same time', async () => {
    const client = await harness.subscribed([['two/#', 1]]);
    const publishers = [await harness.connected(), await harness.connected()];
    for (let index = 0; index < 100; index++) {
      for (const [qos, publisher] of publishers.entries()) {
        publisher.send(
          publishPacket({ topic: `two/${qos}`, qos, packetId: index + 1, payload: String(index) }),
        );
      }
    }
    const arrived = [0, 0];
    await expect(
      (async () => {
        while ((arrived[0] ?? 0) + (arrived[1] ?? 0) < 200) {
          const delivery = readDelivery(await client.next());
          arrived[Number(delivery.topic.slice(4))] = (arrived[Number(delivery.topic.slice(4))] ?? 0) + 1;
        }
      })(),
    ).resolves.toBeUndefined();
  });
});

describe('QoS of what is delivered', () => {
  it('[MQTT-4.3.3-1] QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP, clean and persistent', async () => {
    for (const clean of [true, false]) {
      const client = await harness.subscribed([['exact/2', 2]], { clientId: `exact2 ${clean}`, clean });
      await harness.publish({ topic: 'exact/2', qos: 2 });
      const { packetId, dup } = await nextDelivery(client);
      expect([packetId > 0, dup]).toEqual([true, false]);
      client.send(packet(0x50, uint16(packetId)));
      const release = await nextOf(client, pubrel);
      expect([release.flags, idOf(release)]).toEqual([2, packetId]);
      client.send(packet(0x70, uint16(packetId)));
      await expectQuiet(client);
      await harness.leave(client);
    }
  });

  it('[MQTT-2.3.1-4] unacknowledged messages have packet identifiers of their own', async () => {
    const client = await harness.subscribed([['ids', 1]]);
    const publisher = await harness.connected();
    const ids = new Set<number>();
    for (let packetId = 1; packetId <= 100; packetId++) {
      publisher.send(publishPacket({ topic: 'ids', qos: 1, packetId }));
    }
    for (let index = 0; index < 100; index++) {
      const { packetId } = await nextDelivery(client, { acknowledge: false });
      expect(packetId).toBeGreaterThan(0);
      ids.add(packetId);
    }
    expect(ids.size).toBe(100);
  });

  it.each([
    ['PUBACK', 0x40],
    ['PUBREC', 0x50],
    ['PUBREL', 0x62],
    ['PUBCOMP', 0x70],
  ])('%s of a message that was never sent does no harm', async (_name, firstByte) => {
    for (const clean of [true, false]) {
      const client = await harness.subscribed([['harmless', 1]], {
        clientId: `harmless ${firstByte} ${clean}`,
        clean,
      });
      client.send(packet(firstByte, uint16(4_711)), packet(firstByte, uint16(65_535)));
      client.send(Buffer.from([0xc0, 0]));
      // PUBREC is answered by PUBREL or not at all, PUBREL by PUBCOMP.
      for (let received = await client.next(); received.type !== 13; received = await client.next()) {
        expect([pubrel, pubcomp]).toContain(received.type);
      }
      await harness.publish({ topic: 'harmless' });
      let received = await client.next();
      while (received.type !== publish) received = await client.next();
      expect(readDelivery(received).topic).toBe('harmless');
      client.send(disconnectPacket);
      await client.waitClosed();
    }
  });
});

describe('topics that begin with $', () => {
  it('[MQTT-4.7.2-1] no filter that begins with a wildcard shows the engine’s own topics', async () => {
    const client = await harness.subscribed([
      ['#', 0],
      ['+/#', 0],
      ['+/+/new/clients', 0],
    ]);
    await harness.leave(await harness.subscribed([['any', 1]], { clean: false, clientId: 'dollar' }));
    await harness.publish({ topic: 'dollar-end' });
    let delivery = await nextDelivery(client);
    while (delivery.retain) delivery = await nextDelivery(client);
    expect(delivery.topic).toBe('dollar-end');
  });
});

describe('acknowledgements of the client', () => {
  const versions = [
    ['3.1.1', {}],
    ['3.1', { protocolName: 'MQIsdp', level: 3 }],
  ] as const;
  const wrong = [
    ['PUBREC for QoS 1', 1, [0x50]],
    ['PUBCOMP for QoS 1', 1, [0x70]],
    ['PUBACK for QoS 2', 2, [0x40]],
    ['PUBACK for QoS 2, after PUBREC', 2, [0x50, 0x40]],
    ['PUBCOMP for QoS 2, before PUBREC', 2, [0x70]],
  ] as const;

  it.each(
    versions.flatMap(([version, login]) =>
      wrong.map(([what, qos, types]) => [what, version, qos, types, login] as const),
    ),
  )(
    '[MQTT-4.8.0-1] %s, MQTT %s, closes, and the message is not taken for received',
    async (what, version, qos, types, login) => {
      const options = {
        clientId: `${what} ${version}`.replace(/\W/g, '').slice(-23),
        clean: false,
        ...login,
      };
      const topic = `wrong/${options.clientId}`;
      const client = await harness.subscribed([[topic, qos]], options);
      await harness.publish({ topic, qos });
      const { packetId } = await nextDelivery(client, { acknowledge: false });
      const expectCounted = harness.watch();
      client.send(...types.map((type) => packet(type, uint16(packetId))));
      await client.waitClosed();
      expectCounted('wrong-acknowledgement');

      const { client: again } = await harness.resumed(options);
      const repeated = await again.next();
      if (types.length === 1) expect(readDelivery(repeated)).toMatchObject({ packetId, dup: true, qos });
      else expect([repeated.type, idOf(repeated)]).toEqual([pubrel, packetId]);
    },
  );

  it.each(versions)(
    'with an identifier that is not in use: PUBREC is answered PUBREL, others are not, MQTT %s',
    async (_version, login) => {
      const withoutSession = await harness.connected(login);
      const withSession = await harness.subscribed([['in/use', 1]], login);
      for (const client of [withoutSession, withSession]) {
        client.send(packet(0x40, uint16(9)), packet(0x70, uint16(9)), packet(0x50, uint16(9)));
        const release = await nextOf(client, pubrel);
        expect([release.flags, idOf(release)]).toEqual([2, 9]);
        await expectQuiet(client);
      }
    },
  );
});
