import { describe, expect, it, vi } from 'vitest';
import {
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
  nextDelivery,
  nextOf,
  openHarness,
  publish,
  pubrec,
  readDelivery,
  suback,
  unsuback,
} from './harness.js';

/** `$share/<name>/<filter>`, MQTT 5.0 §4.8.2, which clients of every version may use. */

const harness = openHarness({ acl: 'open', maxQueuedMessages: 1_000 });
const confined = openHarness();

/** Publishes with these payloads, one after the other. */
async function publishAll(topic: string, payloads: readonly string[], qos = 1): Promise<void> {
  for (const payload of payloads) await harness.publish({ topic, payload, qos });
}

/** What has come to a client that was not looked at. */
async function received(client: RawClient, acknowledge = true): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  for (;;) {
    client.send(Buffer.from([0xc0, 0]));
    const before = deliveries.length;
    for (let next = await client.next(); next.type !== 13; next = await client.next()) {
      if (next.type !== publish) continue;
      const delivery = readDelivery(next);
      deliveries.push(delivery);
      if (acknowledge && delivery.qos === 1) client.send(packet(0x40, uint16(delivery.packetId)));
    }
    if (deliveries.length === before) return deliveries;
  }
}

const payloadsOf = (deliveries: readonly Delivery[]) => deliveries.map(({ payload }) => payload);
const numbers = (count: number) => Array.from({ length: count }, (_, index) => String(index + 1));

describe('a shared subscription', () => {
  it('[4.8.2] gives each message to one member, in turn, and another name or filter is another', async () => {
    const members = [
      await harness.subscribed([['$share/g/t/+', 1]]),
      await harness.subscribed([['$share/g/t/+', 1]]),
      await harness.subscribed([['$share/g/t/+', 1]], { device: 2 }),
    ];
    const others = [
      await harness.subscribed([['$share/h/t/+', 1]]),
      await harness.subscribed([['$share/g/t/#', 1]]),
      await harness.subscribed([['t/+', 1]]),
    ];
    await publishAll('t/a', numbers(6));
    const got = await Promise.all(members.map((member) => received(member)));
    expect(got.map(payloadsOf)).toEqual([
      ['1', '4'],
      ['2', '5'],
      ['3', '6'],
    ]);
    for (const other of others) expect(payloadsOf(await received(other))).toEqual(numbers(6));
  });

  it('[4.8.2] of a client that has subscribed to the topic without it too brings a copy of its own', async () => {
    const client = await harness.subscribed([
      ['$share/g/u', 1],
      ['u', 0],
    ]);
    await publishAll('u', ['1']);
    expect((await received(client)).map(({ qos }) => qos).toSorted()).toEqual([0, 1]);
  });

  it('[MQTT-4.8.2-3] respects the QoS that the member was granted', async () => {
    const members = [
      await harness.subscribed([['$share/g/q', 0]]),
      await harness.subscribed([['$share/g/q', 1]]),
    ];
    await publishAll('q', numbers(2), 2);
    const got = await Promise.all(members.map((member) => received(member)));
    expect(got.flat().map(({ qos }) => qos)).toEqual([0, 1]);
  });

  it.each(['$share/g', '$share//a', '$share/g+/a', '$share/g#/a', '$share/g/', '$share/g/a#', '$share/'])(
    '[MQTT-4.8.2-1, 4.8.2-2] whose name or filter is ill-formed is refused: %s',
    async (filter) => {
      const client = await harness.connected();
      client.send(subscribePacket(1, [[filter, 1]]));
      const answer = await client.next().catch(() => undefined);
      // A filter that no version allows ends the connection.
      expect(answer?.body[2] ?? 0x80).toBe(0x80);
    },
  );

  it('[3.3.1.3] brings no retained messages', async () => {
    await harness.publish({ topic: 'kept', retain: true });
    const client = await harness.subscribed([['$share/g/kept', 1]]);
    await expectQuiet(client);
  });

  it('is held against the policy by its filter, and takes commands as that does', async () => {
    const client = await confined.connected();
    client.send(
      subscribePacket(1, [
        ['$share/g/cmd/dev1/#', 1],
        ['$share/g/cmd/dev2/#', 1],
        ['$share/g/#', 1],
        ['$share/g/$SYS/#', 1],
        ['$share/g/$share/g/cmd/dev1/#', 1],
      ]),
    );
    expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([1, 0x80, 0x80, 0x80, 0x80]);
    expect(confined.controlled.claimed).toEqual(['dev1']);
    const other = await confined.subscribed([['$share/g/cmd/dev1/#', 1]]);
    for (const payload of ['1', '2']) confined.controlled.command('cmd/dev1/do', Buffer.from(payload));
    expect((await nextDelivery(client)).payload).toBe('1');
    expect((await nextDelivery(other)).payload).toBe('2');
    client.send(unsubscribePacket(2, ['$share/g/cmd/dev1/#']));
    await nextOf(client, unsuback);
    confined.controlled.command('cmd/dev1/do', Buffer.from('3'));
    expect((await nextDelivery(other)).payload).toBe('3');
    other.send(unsubscribePacket(2, ['$share/g/cmd/dev1/#']));
    await nextOf(other, unsuback);
    expect(confined.controlled.claimed).toEqual([]);
  });

  it('gives a message to those first that can take it: connected, with room in what they have to acknowledge', async () => {
    const clientId = 'share-away';
    await harness.leave(await harness.subscribed([['$share/g/r', 1]], { clientId, clean: false }));
    const [silent, quick] = [
      await harness.subscribed([['$share/g/r', 1]]),
      await harness.subscribed([['$share/g/r', 1]]),
    ];
    await publishAll('r', numbers(256));
    expect(await received(silent, false)).toHaveLength(128);
    expect(await received(quick)).toHaveLength(128);
    await publishAll('r', ['257', '258', '259']);
    expect(payloadsOf(await received(quick))).toEqual(['257', '258', '259']);
    const { client } = await harness.resumed({ clientId, clean: false });
    await expectQuiet(client);
  });

  it('keeps a message of QoS 1 for a member that is away where none is connected', async () => {
    const clientId = 'share-absent';
    await harness.leave(await harness.subscribed([['$share/g/w', 1]], { clientId, clean: false }));
    await publishAll('w', ['0'], 0);
    await publishAll('w', ['1']);
    const { client } = await harness.resumed({ clientId, clean: false });
    expect(payloadsOf(await received(client))).toEqual(['1']);
  });
});

describe('what a member of a shared subscription did not acknowledge', () => {
  it('goes to another when its session ends, QoS 1 that was sent and all that was not', async () => {
    const leaving = await harness.subscribed([['$share/g/s', 2]]);
    await publishAll('s', numbers(130));
    await harness.publish({ topic: 's', payload: '131', qos: 2 });
    await vi.waitFor(() => expect(leaving.received.length).toBeGreaterThanOrEqual(129));
    const staying = await harness.subscribed([['$share/g/s', 2]], { device: 2 });
    leaving.destroy();
    const left: Delivery[] = [];
    while (left.length < 131) {
      const delivery = readDelivery(await staying.next());
      left.push(delivery);
      staying.send(packet(delivery.qos === 1 ? 0x40 : 0x50, uint16(delivery.packetId)));
    }
    expect(payloadsOf(left)).toEqual(numbers(131));
    expect(left.some(({ dup }) => dup)).toBe(false);
  });

  it('[MQTT-4.8.2-4] waits for it while its session goes on', async () => {
    const clientId = 'share-back';
    const leaving = await harness.subscribed([['$share/g/v', 1]], { clientId, clean: false });
    const staying = await harness.subscribed([['$share/g/v', 1]]);
    await publishAll('v', ['1']);
    await nextDelivery(leaving, { acknowledge: false });
    leaving.destroy();
    await expectQuiet(staying);
    const { client } = await harness.resumed({ clientId, clean: false });
    expect(await received(client)).toMatchObject([{ payload: '1', dup: true }]);
  });

  it('[MQTT-4.8.2-5] goes to nobody else with QoS 2 that was begun', async () => {
    const leaving = await harness.subscribed([['$share/g/x', 2]]);
    await publishAll('x', ['1'], 2);
    await nextDelivery(leaving);
    const staying = await harness.subscribed([['$share/g/x', 2]]);
    leaving.destroy();
    await publishAll('x', ['2'], 2);
    const delivery = readDelivery(await staying.next());
    expect(delivery.payload).toBe('2');
    staying.send(packet(0x50, uint16(delivery.packetId)));
    // PUBREL alone.
    expect(await received(staying)).toEqual([]);
  });
});

it('a client that shares goes on publishing as any other', async () => {
  const client = await harness.subscribed([['$share/g/own', 1]]);
  client.send(publishPacket({ topic: 'own', qos: 2, packetId: 9 }));
  const answers = [await client.next(), await client.next()];
  expect(answers.map(({ type }) => type).toSorted()).toEqual([publish, pubrec]);
});
