import { describe, expect, it, vi } from 'vitest';
import {
  connectPacket,
  disconnectPacket,
  packet,
  publishPacket,
  type RawClient,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../../support/raw-client.js';
import {
  connack,
  expectQuiet,
  idOf,
  nextDelivery,
  nextOf,
  openHarness,
  ping,
  pubrel,
  readDelivery,
  suback,
  unsuback,
} from './harness.js';

const harness = openHarness({ acl: 'open', maxSubscriptionsPerClient: 3 });
const bounded = openHarness({ acl: 'open', maxInFlightPerClient: 1 });
const maxLevels = 100;
const deep = (levels: number): string => Array.from({ length: levels }, () => 'd').join('/');

describe('session present', () => {
  it('[MQTT-3.2.2-1] is 0 with a clean session, whatever was kept', async () => {
    const clientId = 'present-clean';
    await harness.leave(await harness.subscribed([['p', 1]], { clientId, clean: false }));
    expect((await harness.resumed({ clientId })).sessionPresent).toBe(0);
  });

  it('[MQTT-3.2.2-3] is 0 without a session, [MQTT-3.2.2-2] and 1 with one, subscriptions or not', async () => {
    for (const subscribes of [true, false]) {
      const options = { clientId: `present ${subscribes}`, clean: false };
      const first = await harness.resumed(options);
      expect(first.sessionPresent).toBe(0);
      if (subscribes) {
        first.client.send(subscribePacket(1, [['p', 0]]));
        await nextOf(first.client, suback);
      }
      await harness.leave(first.client);
      const second = await harness.resumed(options);
      expect(second.sessionPresent).toBe(1);
      // A lost connection ends no session either.
      second.client.destroy();
      expect((await harness.resumed(options)).sessionPresent).toBe(1);
    }
  });

  it('[MQTT-3.2.2-2] is 1 after a take-over of a persistent session', async () => {
    const options = { clientId: 'present-taken', clean: false };
    const first = await harness.connected(options);
    expect((await harness.resumed(options)).sessionPresent).toBe(1);
    await first.waitClosed();
  });

  it('is not told to a client of MQTT 3.1, where the byte is reserved, and its session goes on', async () => {
    const options = { clientId: 'present-31', clean: false, protocolName: 'MQIsdp', level: 3 };
    await harness.leave(await harness.subscribed([['present/31', 1]], options));
    const { client, sessionPresent } = await harness.resumed(options);
    expect(sessionPresent).toBe(0);
    client.send(publishPacket({ topic: 'present/31', payload: 'kept' }));
    expect((await nextDelivery(client)).payload).toBe('kept');
  });

  it('[MQTT-3.2.2-4] is 0 with every refusal', async () => {
    const clientId = 'present-refused';
    await harness.leave(await harness.connected({ clientId, clean: false }));
    const client = await harness.open();
    client.send(connectPacket({ clientId, clean: false, userName: 'dev1', password: 'wrong' }));
    expect([...(await nextOf(client, connack)).body]).toEqual([0, 4]);
    await client.waitClosed();
    expect((await harness.resumed({ clientId, clean: false })).sessionPresent).toBe(1);
  });

  it('belongs to the device: the same client id of another device has none', async () => {
    await harness.leave(await harness.connected({ clientId: 'whose', clean: false }));
    const other = await harness.resumed({ clientId: 'whose', clean: false, device: 2 });
    expect(other.sessionPresent).toBe(0);
  });
});

describe('a persistent session', () => {
  it('[MQTT-3.1.2-4] keeps its subscriptions', async () => {
    const options = { clientId: 'keeps', clean: false };
    await harness.leave(await harness.subscribed([['keeps/+', 1]], options));
    const client = await harness.connected(options);
    await harness.publish({ topic: 'keeps/a' });
    expect(await nextDelivery(client)).toMatchObject({ topic: 'keeps/a', qos: 1, dup: false });
  });

  it('[MQTT-3.1.2-5] keeps messages of QoS 1 and 2 while the client is away, in order, not sent before: no DUP', async () => {
    const options = { clientId: 'queue', clean: false };
    await harness.leave(await harness.subscribed([['queue/#', 2]], options));
    for (let index = 0; index < 20; index++) {
      await harness.publish({ topic: `queue/${index % 4}`, qos: 1 + (index % 2), payload: String(index) });
    }
    const client = await harness.connected(options);
    for (let index = 0; index < 20; index++) {
      const delivery = await nextDelivery(client);
      expect(delivery).toMatchObject({ payload: String(index), qos: 1 + (index % 2), dup: false });
    }
  });

  it('[MQTT-3.3.1-1] [MQTT-4.4.0-1] sends again what was not acknowledged, same identifier, DUP set', async () => {
    const options = { clientId: 'again', clean: false };
    const client = await harness.subscribed([['again/#', 2]], options);
    await harness.publish({ topic: 'again/1', qos: 1 });
    const first = await nextDelivery(client, { acknowledge: false });
    await harness.publish({ topic: 'again/2', qos: 2 });
    const second = await nextDelivery(client, { acknowledge: false });
    expect([first.dup, second.dup]).toEqual([false, false]);
    for (let round = 0; round < 2; round++) {
      client.destroy();
      const again = await harness.connected(options);
      for (const sent of [first, second]) {
        expect(await nextDelivery(again, { acknowledge: false })).toEqual({ ...sent, dup: true });
      }
      again.destroy();
    }
    const last = await harness.connected(options);
    expect(await nextDelivery(last)).toEqual({ ...first, dup: true });
    expect(await nextDelivery(last)).toEqual({ ...second, dup: true });
    last.send(packet(0x50, uint16(second.packetId)));
    await nextOf(last, pubrel);
    last.send(packet(0x70, uint16(second.packetId)));
    await expectQuiet(last);
    await harness.leave(last);
    await expectQuiet(await harness.connected(options));
  });

  it('[MQTT-4.4.0-1] sends PUBREL again, not the message, when PUBREC had come', async () => {
    const options = { clientId: 'pubrel', clean: false };
    const client = await harness.subscribed([['pubrel', 2]], options);
    await harness.publish({ topic: 'pubrel', qos: 2 });
    const { packetId } = await nextDelivery(client);
    client.send(packet(0x50, uint16(packetId)));
    await nextOf(client, pubrel);
    for (let round = 0; round < 2; round++) {
      client.destroy();
      const again = await harness.connected(options);
      const release = await nextOf(again, pubrel);
      expect([release.flags, idOf(release)]).toEqual([2, packetId]);
      again.destroy();
    }
    const last = await harness.connected(options);
    await nextOf(last, pubrel);
    last.send(packet(0x70, uint16(packetId)));
    await expectQuiet(last);
    await harness.leave(last);
    await expectQuiet(await harness.connected(options));
  });

  it('[MQTT-4.4.0-1] keeps identifiers of old and new messages apart', async () => {
    const options = { clientId: 'apart', clean: false };
    const client = await harness.subscribed([['apart', 1]], options);
    const ids: number[] = [];
    for (let round = 0; round < 50; round++) {
      await harness.publish({ topic: 'apart', payload: String(round) });
      ids.push((await nextDelivery(client, { acknowledge: false })).packetId);
    }
    await harness.leave(client);
    const again = await harness.connected(options);
    for (const packetId of ids) {
      expect((await nextDelivery(again, { acknowledge: false })).packetId).toBe(packetId);
    }
    for (let round = 0; round < 50; round++) {
      await harness.publish({ topic: 'apart', payload: 'new' });
      const { packetId } = await nextDelivery(again, { acknowledge: false });
      expect(ids).not.toContain(packetId);
    }
  });

  it('[MQTT-3.1.2-6] is wiped by a clean one: subscriptions, messages and exchanges', async () => {
    const clientId = 'wiped';
    await harness.leave(await harness.subscribed([['wiped', 1]], { clientId, clean: false }));
    await harness.publish({ topic: 'wiped' });
    await harness.leave(await harness.connected({ clientId }));
    await harness.publish({ topic: 'wiped' });
    const { client, sessionPresent } = await harness.resumed({ clientId, clean: false });
    expect(sessionPresent).toBe(0);
    await harness.publish({ topic: 'wiped' });
    await expectQuiet(client);
  });

  it('[MQTT-3.1.2-6] is wiped by a clean one that is cut off at once', async () => {
    for (let round = 0; round < 10; round++) {
      const clientId = `cut ${round}`;
      await harness.leave(await harness.subscribed([['cut', 1]], { clientId, clean: false }));
      const clean = await harness.open();
      clean.send(Buffer.concat([harness.login({ clientId }), disconnectPacket]));
      await clean.waitClosed();
      const { client, sessionPresent } = await harness.resumed({ clientId, clean: false });
      expect(sessionPresent).toBe(0);
      await harness.publish({ topic: 'cut' });
      await expectQuiet(client);
      client.send(subscribePacket(2, [['cut', 1]]));
      await nextOf(client, suback);
      await harness.publish({ topic: 'cut' });
      await nextDelivery(client);
      await harness.leave(client);
    }
  });

  it('[MQTT-3.1.2-6] a clean session’s subscriptions end with it', async () => {
    const clientId = 'clean-ends';
    await harness.leave(await harness.subscribed([['ends', 1]], { clientId }));
    const client = await harness.connected({ clientId, clean: false });
    await harness.publish({ topic: 'ends' });
    await expectQuiet(client);
  });

  it('gets nothing of a subscription that was refused, present or absent', async () => {
    const options = { clientId: 'refused-filter', clean: false };
    const client = await harness.connected(options);
    client.send(
      subscribePacket(1, [
        ['granted/1', 1],
        ['granted/2', 1],
        ['granted/3', 1],
        ['refused', 1],
      ]),
    );
    expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([1, 1, 1, 0x80]);
    await harness.publish({ topic: 'refused' });
    await expectQuiet(client);
    await harness.leave(client);
    await harness.publish({ topic: 'refused', payload: 'must not come' });
    await harness.publish({ topic: 'granted/1', payload: 'end' });
    const again = await harness.connected(options);
    expect(await nextDelivery(again)).toMatchObject({ topic: 'granted/1' });
    await expectQuiet(again);
  });

  it('[MQTT-3.1.4-2] a take-over in the middle of deliveries loses and repeats nothing that was acknowledged', async () => {
    const options = { clientId: 'moving', clean: false };
    let client = await harness.subscribed([['moving', 1]], options);
    const arrived: string[] = [];
    for (let index = 0; index < 30; index++) {
      await harness.publish({ topic: 'moving', payload: String(index) });
      if (index % 3 === 0) client = await harness.connected(options);
      const delivery = await nextDelivery(client);
      arrived.push(delivery.payload);
      await ping(client);
    }
    expect(arrived).toEqual(Array.from({ length: 30 }, (_, index) => String(index)));
    await expectQuiet(client);
  });
});

describe('filters of many levels', () => {
  it.each([
    ['clean', true],
    ['persistent', false],
  ])('one level too many is refused alone, the others are granted; %s', async (name, clean) => {
    const client = await harness.connected({ clientId: `deep ${name}`, clean });
    client.send(
      subscribePacket(1, [
        [deep(maxLevels + 1), 0],
        ['shallow', 1],
        [deep(maxLevels), 1],
      ]),
    );
    expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([0x80, 1, 1]);
    await harness.publish({ topic: deep(maxLevels) });
    expect((await nextDelivery(client)).topic).toBe(deep(maxLevels));
    client.send(unsubscribePacket(2, [deep(maxLevels + 1), 'shallow', deep(5_000)]));
    await nextOf(client, unsuback);
    await ping(client);
  });
});

describe('wills', () => {
  it('[MQTT-3.1.2-8] [MQTT-3.1.2-16] reach subscribers, with their QoS, when the connection is lost', async () => {
    for (const qos of [0, 1, 2]) {
      const watcher = await harness.subscribed([['will/+', 2]]);
      const client = await harness.connected({ will: { topic: `will/${qos}`, payload: 'gone', qos } });
      client.destroy();
      expect(await nextDelivery(watcher)).toMatchObject({
        topic: `will/${qos}`,
        qos,
        retain: false,
        payload: 'gone',
      });
    }
  });

  it('[MQTT-3.1.2-17] are retained when they ask for it', async () => {
    const watcher = await harness.subscribed([['will/retained', 0]]);
    const client = await harness.connected({
      will: { topic: 'will/retained', payload: 'kept', retain: true },
    });
    client.destroy();
    expect(await nextDelivery(watcher)).toMatchObject({ retain: false });
    const late = await harness.connected();
    late.send(subscribePacket(1, [['will/retained', 0]]));
    const received = [await late.next(), await late.next()].find(({ type }) => type === 3);
    expect(received === undefined ? undefined : readDelivery(received)).toMatchObject({
      payload: 'kept',
      retain: true,
    });
  });

  it('[MQTT-3.1.2-10] [MQTT-3.14.4-3] are dropped by DISCONNECT, for good', async () => {
    const watcher = await harness.subscribed([['will/none', 1]]);
    const options = { clientId: 'leaver', clean: false };
    const client = await harness.connected({
      ...options,
      will: { topic: 'will/none', payload: 'x', qos: 1 },
    });
    await harness.leave(client);
    (await harness.connected(options)).destroy();
    await expectQuiet(watcher);
  });

  it.each([
    ['connection-lost', {}, (client: RawClient) => client.socket.resetAndDestroy()],
    ['taken-over', { clientId: 'left' }, () => bounded.connected({ clientId: 'left' })],
    ['keepalive-timeout', { keepaliveSec: 1 }, () => undefined],
  ] as const)(
    '[MQTT-3.1.2-10] are dropped by DISCONNECT also where it waits behind messages; %s',
    async (reason, options, end) => {
      const { controlled } = bounded;
      const { closed } = controlled.broker.counters;
      const watcher = await bounded.subscribed([['will/waiting', 1]]);
      const will = { topic: 'will/waiting', payload: 'x', qos: 1 };
      const client = await bounded.connected({ ...options, will });
      const before = closed[reason];
      controlled.autoStore = false;
      for (const packetId of [1, 2, 3]) client.send(publishPacket({ topic: 'a', qos: 1, packetId }));
      client.send(disconnectPacket);
      // The server has all of it.
      await ping(client);
      await end(client);
      await vi.waitFor(() => expect(closed[reason]).toBe(before + 1), 10_000);
      controlled.autoStore = true;
      controlled.taken.at(-1)?.onStored();
      await expectQuiet(watcher);
    },
  );

  it.each([
    ['a protocol error', Buffer.from([0xf0, 0])],
    ['DISCONNECT with reserved bits [MQTT-3.14.1-1]', Buffer.from([0xe1, 0])],
    ['DISCONNECT with a body', Buffer.from([0xe0, 1, 0])],
    ['a second CONNECT [MQTT-3.1.0-2]', connectPacket()],
    ['a denied PUBLISH', publishPacket({ topic: '$SYS/a' })],
  ])('[MQTT-3.1.2-8] are published after %s', async (_name, bytes) => {
    const watcher = await harness.subscribed([['will/error', 1]]);
    const client = await harness.connected({ will: { topic: 'will/error', payload: 'x', qos: 1 } });
    client.send(bytes);
    await client.waitClosed();
    expect((await nextDelivery(watcher)).topic).toBe('will/error');
    await expectQuiet(watcher);
  });

  it('[MQTT-3.1.2-8] are published at the end of the keep alive', async () => {
    const watcher = await harness.subscribed([['will/silent', 0]]);
    await harness.connected({ keepaliveSec: 1, will: { topic: 'will/silent', payload: 'x' } });
    expect((await nextDelivery(watcher)).topic).toBe('will/silent');
  });

  it('[MQTT-3.1.2-8] are published when the client is taken over, and once', async () => {
    const watcher = await harness.subscribed([['will/taken/#', 1]]);
    const willOf = (name: string) => ({ topic: `will/taken/${name}`, payload: 'x', qos: 1 });
    const first = await harness.connected({ clientId: 'heir', will: willOf('first') });
    const second = await harness.connected({ clientId: 'heir', will: willOf('second') });
    await first.waitClosed();
    expect((await nextDelivery(watcher)).topic).toBe('will/taken/first');
    await expectQuiet(watcher);
    second.destroy();
    expect((await nextDelivery(watcher)).topic).toBe('will/taken/second');
  });

  it('of a revoked device are never published', async () => {
    const watcher = await harness.subscribed([['will/revoked', 1]]);
    const client = await harness.connected({
      device: 2,
      will: { topic: 'will/revoked', payload: 'x', qos: 1 },
    });
    harness.controlled.core.kick('dev2', 'revoked');
    await client.waitClosed();
    await expectQuiet(watcher);
  });

  it('of a refused CONNECT are never published', async () => {
    const watcher = await harness.subscribed([['will/refused', 1]]);
    const client = await harness.open();
    const will = { topic: 'will/refused', payload: 'x', qos: 1 };
    client.send(connectPacket({ userName: 'dev1', password: 'wrong', will }));
    await client.waitClosed();
    await expectQuiet(watcher);
  });
});

describe('kicking', () => {
  it('a device whose secret changed loses its sessions, and one begun right afterwards is not harmed', async () => {
    const options = { clientId: 'kicked', clean: false };
    for (let round = 0; round < 10; round++) {
      const client = await harness.subscribed([['kicked', 1]], options);
      const again = await harness.open();
      harness.controlled.core.kick('dev1', 'secret-changed');
      again.send(Buffer.concat([harness.login(options), subscribePacket(1, [['kicked', 1]])]));
      await client.waitClosed();
      expect([...(await nextOf(again, connack)).body]).toEqual([0, 0]);
      await nextOf(again, suback);
      await vi.waitFor(() => expect(again.closed).toBe(false));
      await harness.publish({ topic: 'kicked' });
      await nextDelivery(again);
      await ping(again);
      again.send(disconnectPacket);
      await again.waitClosed();
      const { client: resumed, sessionPresent } = await harness.resumed(options);
      expect(sessionPresent).toBe(1);
      await harness.publish({ topic: 'kicked' });
      await nextDelivery(resumed);
      await harness.leave(resumed);
      await harness.leave(await harness.connected({ clientId: 'kicked' }));
    }
  });
});
