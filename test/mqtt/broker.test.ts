import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openLog } from '../../src/log.js';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  openRawClient,
  packet,
  pingreqPacket,
  publishPacket,
  pubrelPacket,
  type RawClient,
  subscribePacket,
  unsubscribePacket,
} from '../support/raw-client.js';

let controlled: ControlledBroker;
let clients: RawClient[];
/** The broker's ends of the connections, in the order in which they were accepted. */
let accepted: Socket[];
const onAccepted = (message: unknown) => void accepted.push((message as { socket: Socket }).socket);

beforeEach(async () => {
  clients = [];
  accepted = [];
  subscribe('net.server.socket', onAccepted);
  controlled = await openControlledBroker();
});

afterEach(async () => {
  unsubscribe('net.server.socket', onAccepted);
  for (const client of clients) client.destroy();
  await controlled.close();
});

async function open(): Promise<RawClient> {
  const client = await openRawClient(controlled.port);
  clients.push(client);
  return client;
}

async function connected(options: ConnectOptions = {}): Promise<RawClient> {
  const client = await open();
  const { id, password } = controlled.device;
  client.send(connectPacket({ userName: id, password, ...options }));
  const connack = await client.next();
  expect([connack.type, connack.body[1]]).toEqual([2, 0]);
  return client;
}

const idOf = (body: Buffer): number => body.readUInt16BE(0);

describe('uplink', () => {
  it('answers PUBACK only after the message is stored, in the order of arrival', async () => {
    controlled.autoStore = false;
    const client = await connected();
    for (const packetId of [1, 2, 3]) client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId }));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(3));
    client.send(pingreqPacket);
    expect((await client.next()).type).toBe(13);

    controlled.taken[2]?.onStored();
    controlled.taken[1]?.onStored();
    client.send(pingreqPacket);
    expect((await client.next()).type).toBe(13);
    controlled.taken[0]?.onStored();
    const answers = [await client.next(), await client.next(), await client.next()];
    expect(answers.map(({ type, body }) => [type, idOf(body)])).toEqual([
      [4, 1],
      [4, 2],
      [4, 3],
    ]);
  });

  it('forwards topic, subject and payload as they are', async () => {
    const client = await connected();
    const payload = Buffer.from([0, 1, 2, 255, 10, 13]);
    client.send(publishPacket({ topic: 'raw/dev1/ä b', qos: 1, payload }));
    await client.next();
    const [message] = controlled.taken;
    expect(Buffer.from(message?.subject ?? []).toString()).toBe('raw.dev1');
    expect(Buffer.from(message?.headers ?? []).toString()).toContain('Mqtt-Topic: raw/dev1/ä b\r\n');
    expect(Buffer.compare(Buffer.from(message?.payload ?? []), payload)).toBe(0);
  });

  it('forwards a QoS 2 message once, whatever is repeated before PUBREL [MQTT-4.3.3-2]', async () => {
    const client = await connected();
    const publish = publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 7 });
    client.send(publish);
    expect((await client.next()).type).toBe(5);
    client.send(publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 7, dup: true }));
    expect((await client.next()).type).toBe(5);
    client.send(pubrelPacket(7));
    expect((await client.next()).type).toBe(7);
    expect(controlled.taken).toHaveLength(1);
    client.send(publish);
    expect((await client.next()).type).toBe(5);
    expect(controlled.taken).toHaveLength(2);
  });

  it('says of a message whether its client sends it again, and counts a will that is refused', async () => {
    controlled.autoStore = false;
    const client = await connected({ will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 1 }));
    await vi.waitFor(() => expect(controlled.taken).toMatchObject([{ comesAgain: true }]));
    client.destroy();
    await vi.waitFor(() =>
      expect(controlled.taken).toMatchObject([{ comesAgain: false }, { comesAgain: false }]),
    );
    controlled.taken[1]?.onRefused('message size exceeds maximum allowed', undefined, true);
    expect(controlled.broker.counters.willsDropped).toBe(1);
  });

  it('says of a QoS 2 message whether it is repeated, and nothing else of where it goes', async () => {
    const client = await connected();
    client.send(publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 7 }));
    client.send(publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 8, dup: true }));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(2));
    expect(controlled.taken).toMatchObject([
      { batchable: true, repeated: false },
      { batchable: true, repeated: true },
    ]);
  });

  it('keeps a QoS 2 exchange of a persistent session over a reconnect, also while it is being stored', async () => {
    controlled.autoStore = false;
    const first = await connected({ clean: false });
    first.send(publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 9 }));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(1));
    first.destroy();

    const second = await open();
    const { id, password } = controlled.device;
    second.send(connectPacket({ userName: id, password, clean: false }));
    expect((await second.next()).body[0]).toBe(1);
    second.send(publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 9, dup: true }), pingreqPacket);
    expect((await second.next()).type).toBe(13);
    controlled.taken[0]?.onStored();
    expect((await second.next()).type).toBe(5);
    second.send(pubrelPacket(9));
    expect((await second.next()).type).toBe(7);
    expect(controlled.taken).toHaveLength(1);
  });

  it('answers PUBREC in the order of arrival also after a reconnect, and for what was stored meanwhile', async () => {
    controlled.autoStore = false;
    const first = await connected({ clean: false });
    const packets = [1, 2].map((packetId) => publishPacket({ topic: 'raw/dev1', qos: 2, packetId }));
    first.send(...packets);
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(2));
    controlled.taken[1]?.onStored();
    first.destroy();
    const second = await connected({ clean: false });
    second.send(...packets, pingreqPacket);
    expect((await second.next()).type).toBe(13);
    second.send(pubrelPacket(1));
    await second.waitClosed();
    const third = await connected({ clean: false });
    third.send(...packets, pingreqPacket);
    expect((await third.next()).type).toBe(13);
    controlled.taken[0]?.onStored();
    expect(idOf((await third.next()).body)).toBe(1);
    expect(idOf((await third.next()).body)).toBe(2);
    expect(controlled.taken).toHaveLength(2);
  });

  it('gives each QoS 2 message an id of its own for the duplicate window, and QoS 1 none', async () => {
    const client = await connected();
    client.send(
      publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 1 }),
      publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 2 }),
      publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 3 }),
    );
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(3));
    const [first, second, third] = controlled.taken.map((message) => message.messageId);
    expect(first).toBeTypeOf('string');
    expect(second).toBeTypeOf('string');
    expect(first).not.toBe(second);
    expect(third).toBeUndefined();
  });

  it('stops reading a client at its bound and goes on when messages are stored', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxInFlightPerClient: 4 });
    controlled.autoStore = false;
    const client = await connected();
    for (let packetId = 1; packetId <= 20; packetId++) {
      client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId }));
    }
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(4));
    for (let stored = 0; stored < 20; stored++) {
      await vi.waitFor(() => expect(controlled.taken.length).toBeGreaterThan(stored));
      expect(controlled.taken.length).toBeLessThanOrEqual(stored + 4);
      controlled.taken[stored]?.onStored();
      expect(idOf((await client.next()).body)).toBe(stored + 1);
    }
  });

  it('keeps what comes behind a message that waits for room in order, and answers pings meanwhile', async () => {
    const client = await connected();
    controlled.setFull(true);
    client.send(publishPacket({ topic: 'raw/dev1', qos: 0, payload: 'first' }), pingreqPacket);
    client.send(
      publishPacket({ topic: 'raw/dev1', qos: 1, payload: 'second' }),
      subscribePacket(1, [['cmd/dev1', 0]]),
    );
    client.send(pingreqPacket);
    expect((await client.next()).type).toBe(13);
    expect((await client.next()).type).toBe(13);
    expect(controlled.taken).toHaveLength(0);
    controlled.setFull(false);
    expect([(await client.next()).type, (await client.next()).type].toSorted()).toEqual([4, 9]);
    expect(controlled.taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual([
      'first',
      'second',
    ]);
  });

  it('processes what waits although the client has ended its side, DISCONNECT included', async () => {
    const client = await connected({ will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    controlled.setFull(true);
    for (const payload of ['a', 'b', 'c']) client.send(publishPacket({ topic: 'raw/dev1', qos: 0, payload }));
    client.send(disconnectPacket);
    client.socket.end();
    await vi.waitFor(() => expect(accepted[0]?.readableEnded).toBe(true));
    controlled.setFull(false);
    await client.waitClosed();
    expect(controlled.taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['a', 'b', 'c']);
    expect(controlled.broker.counters.closed['client-disconnect']).toBe(1);
  });

  it('processes what was sent before the end of the side, also what was not read yet', async () => {
    const client = await connected({ will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    controlled.setFull(true);
    const payloads = Array.from({ length: 1_000 }, (_, index) => `${index}`.padEnd(500));
    const packets = payloads.map((payload) => publishPacket({ topic: 'raw/dev1', qos: 0, payload }));
    client.socket.end(Buffer.concat([...packets, disconnectPacket]));
    await vi.waitFor(() =>
      expect([accepted[0]?.isPaused(), accepted[0]?.readableEnded]).toEqual([true, false]),
    );
    controlled.setFull(false);
    await client.waitClosed();
    expect(controlled.taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual(payloads);
    expect(controlled.broker.counters.closed['client-disconnect']).toBe(1);
  });

  it('processes what came with CONNECT although the client ended its side while it was looked up', async () => {
    const { id, password } = controlled.device;
    const client = await open();
    const ended = once(client.socket, 'finish');
    controlled.beforeAnswer = async () => void (await ended);
    client.socket.end(
      Buffer.concat([
        connectPacket({ userName: id, password }),
        publishPacket({ topic: 'raw/dev1', qos: 0, payload: 'reading' }),
        disconnectPacket,
      ]),
    );
    await client.waitClosed();
    expect(controlled.taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['reading']);
    expect(controlled.broker.counters.closed['client-disconnect']).toBe(1);
  });

  it('reads a client no further that repeats answered messages of QoS 2 behind one that waits', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxInFlightPerClient: 4 });
    const client = await connected();
    const repeated = publishPacket({ topic: 'raw/dev1', qos: 2, packetId: 1 });
    client.send(repeated);
    expect((await client.next()).type).toBe(5);
    controlled.autoStore = false;
    client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 2 }));
    client.send(Buffer.concat(Array.from({ length: 100 }, () => repeated)));
    await vi.waitFor(() =>
      expect(controlled.broker.counters.limits['in-flight-per-client']).toBeGreaterThan(0),
    );
    controlled.taken.at(-1)?.onStored();
    expect((await client.next()).type).toBe(4);
    for (let answer = 0; answer < 100; answer++) expect((await client.next()).type).toBe(5);
    expect(controlled.taken).toHaveLength(2);
  });

  it('counts the id of a QoS 2 message in its size', async () => {
    const client = await connected();
    const headers = 'NATS/1.0\r\nMqtt-Topic: raw/dev1\r\n\r\n';
    const payload = Buffer.alloc(1_048_576 - headers.length - 10);
    // Less than the largest packet, so that it is not refused for that.
    client.send(publishPacket({ topic: 'raw/dev1', qos: 2, payload }));
    await client.waitClosed();
    expect(controlled.broker.counters.closed['packet-too-large']).toBe(1);
    expect(controlled.taken).toHaveLength(0);
  });

  it('goes on for a client that came back while its earlier messages filled the bound', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxInFlightPerClient: 4 });
    controlled.autoStore = false;
    const payload = Buffer.alloc(6_000);
    const packets = [1, 2, 3, 4, 5, 6].map((packetId) =>
      publishPacket({ topic: 'raw/dev1', qos: 1, packetId, payload }),
    );
    const first = await connected();
    first.send(...packets);
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(4));
    const { limits } = controlled.broker.counters;
    const waits = limits['in-flight-per-client'];
    const second = await connected();
    second.send(...packets);
    await vi.waitFor(() => expect(limits['in-flight-per-client']).toBeGreaterThan(waits));
    for (let stored = 0; stored < 10; stored++) {
      await vi.waitFor(() => expect(controlled.taken.length).toBeGreaterThan(stored));
      controlled.taken[stored]?.onStored();
    }
    for (const packetId of [1, 2, 3, 4, 5, 6]) expect(idOf((await second.next()).body)).toBe(packetId);
  });

  it('stops reading when too much waits, without closing a client that is silent meanwhile', async () => {
    const client = await connected({ keepaliveSec: 1 });
    controlled.setFull(true);
    const payload = Buffer.alloc(30_000);
    for (let packetId = 1; packetId <= 500; packetId++) {
      client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId, payload }));
    }
    await vi.waitFor(() => expect(accepted[0]?.isPaused()).toBe(true));
    // Another client that is silent for as long, and is read, shows when its time is over.
    const silent = await connected({ keepaliveSec: 1, clientId: 'silent' });
    await silent.waitClosed();
    expect(controlled.broker.counters.closed['keepalive-timeout']).toBe(1);
    expect(client.closed).toBe(false);
    expect(client.socket.writableLength).toBeGreaterThan(0);
    controlled.setFull(false);
    for (let packetId = 1; packetId <= 500; packetId++) {
      const answer = await client.next();
      expect([answer.type, idOf(answer.body)]).toEqual([4, packetId]);
    }
  });

  it('lets go of the chunk that a small waiting payload is a view of', async () => {
    controlled.autoStore = false;
    const client = await connected();
    client.send(
      Buffer.concat([
        publishPacket({ topic: 'raw/dev1', qos: 1, payload: 'small' }),
        publishPacket({ topic: 'raw/dev1', qos: 0, payload: Buffer.alloc(50_000) }),
      ]),
    );
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(2));
    const [message] = controlled.taken;
    message?.compact();
    expect(Buffer.from(message?.payload ?? []).toString()).toBe('small');
    expect(message?.payload.buffer.byteLength).toBeLessThan(1_000);
  });

  it('closes on a topic outside the policy, and forwards nothing', async () => {
    const client = await connected();
    client.send(publishPacket({ topic: 'raw/dev2', qos: 1 }));
    await client.waitClosed();
    expect(controlled.taken).toHaveLength(0);
    expect(controlled.broker.counters.closed['publish-denied']).toBe(1);
  });

  it('processes packets that came with CONNECT in one chunk', async () => {
    const client = await open();
    const { id, password } = controlled.device;
    client.send(
      Buffer.concat([
        connectPacket({ userName: id, password }),
        publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 5 }),
        disconnectPacket,
      ]),
    );
    expect((await client.next()).type).toBe(2);
    await client.waitClosed();
    expect(controlled.taken).toHaveLength(1);
  });
});

describe('wills', () => {
  const will = { topic: 'raw/dev1/gone', payload: 'bye', qos: 1 };

  it('are forwarded when the connection is lost [MQTT-3.1.2-8]', async () => {
    const client = await connected({ will });
    client.destroy();
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(1));
    expect(Buffer.from(controlled.taken[0]?.payload ?? []).toString()).toBe('bye');
  });

  it('are forwarded when the client is taken over or breaks the protocol', async () => {
    const first = await connected({ will });
    await connected({ will: { ...will, payload: 'second' } });
    await first.waitClosed();
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(1));
    const third = await connected({ clientId: 'other', will });
    third.send(Buffer.from([0xf0, 0]));
    await third.waitClosed();
    expect(controlled.taken).toHaveLength(2);
  });

  it('are not forwarded after DISCONNECT [MQTT-3.14.4-3] nor when the device is revoked', async () => {
    const client = await connected({ will });
    client.send(disconnectPacket);
    await client.waitClosed();
    const other = await connected({ will });
    controlled.revoke('dev1');
    await other.waitClosed();
    expect(controlled.taken).toHaveLength(0);
  });

  it('outside the policy refuse the connection', async () => {
    const client = await open();
    const { id, password } = controlled.device;
    client.send(connectPacket({ userName: id, password, will: { ...will, topic: 'raw/dev2' } }));
    expect((await client.next()).body[1]).toBe(5);
    await client.waitClosed();
  });
});

describe('subscriptions', () => {
  it('are granted or refused filter by filter', async () => {
    const client = await connected();
    client.send(
      subscribePacket(1, [
        ['cmd/dev1/#', 1],
        ['cmd/dev2/#', 1],
        ['#', 0],
      ]),
    );
    const suback = await client.next();
    expect([suback.type, idOf(suback.body), ...suback.body.subarray(2)]).toEqual([9, 1, 1, 0x80, 0x80]);
    client.send(subscribePacket(2, [['raw/dev1', 2]]));
    const refused = await client.next();
    expect([refused.type, idOf(refused.body), ...refused.body.subarray(2)]).toEqual([9, 2, 0x80]);
    expect(controlled.broker.counters.subscribeDenied).toBe(3);
  });

  it('of a client that sends many hold nobody up', async () => {
    const [many, other] = [await connected(), await connected({ clientId: 'other' })];
    const count = 5_000;
    const subscribe = subscribePacket(1, [['cmd/dev1', 0]]);
    let answered = 0;
    many.send(Buffer.concat(Array.from({ length: count }, () => subscribe)));
    const answers = (async () => {
      while (answered < count) {
        expect((await many.next()).type).toBe(9);
        answered += 1;
      }
    })();
    await vi.waitFor(() => expect(answered).toBeGreaterThan(0), { interval: 1 });
    other.send(pingreqPacket);
    expect((await other.next()).type).toBe(13);
    expect(answered).toBeLessThan(count);
    await answers;
  });

  it('are bounded for each client', async () => {
    const client = await connected();
    for (let index = 0; index < 12; index++) {
      client.send(subscribePacket(index + 1, [[`cmd/dev1/${index}`, 0]]));
      const suback = await client.next();
      expect(suback.body[2], `subscription ${index}`).toBe(index < 10 ? 0 : 0x80);
    }
    client.send(unsubscribePacket(20, ['cmd/dev1/0']));
    expect((await client.next()).type).toBe(11);
    client.send(subscribePacket(21, [['cmd/dev1/new', 0]]));
    expect((await client.next()).body[2]).toBe(0);
  });

  it('UNSUBSCRIBE is answered without any subscription [MQTT-3.10.4-5]', async () => {
    const client = await connected();
    client.send(unsubscribePacket(3, ['a/b']));
    const unsuback = await client.next();
    expect([unsuback.type, idOf(unsuback.body)]).toEqual([11, 3]);
  });

  it('deliver to subscribers with ACL=open, also retained messages, with the QoS granted', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ acl: 'open' });
    const subscriber = await connected({ clientId: 'sub' });
    subscriber.send(subscribePacket(1, [['room/+', 0]]));
    await subscriber.next();
    const publisher = await connected({ clientId: 'pub' });
    publisher.send(publishPacket({ topic: 'room/1', qos: 1, payload: 'warm', retain: true }));
    expect((await publisher.next()).type).toBe(4);
    const delivered = await subscriber.next();
    expect([delivered.type, delivered.flags & 0x06]).toEqual([3, 0]);
    expect(delivered.body.toString()).toContain('warm');

    const late = await connected({ clientId: 'late' });
    late.send(subscribePacket(1, [['room/#', 1]]));
    const packets = [await late.next(), await late.next()].toSorted((a, b) => a.type - b.type);
    expect(packets.map(({ type }) => type)).toEqual([3, 9]);
    expect(packets[0]?.flags).toBe(0b0011);
  });
});

describe('commands', () => {
  it('of more levels than there may be are refused and logged, and the others delivered', async () => {
    await controlled.close();
    const lines: string[] = [];
    const log = openLog({
      level: 'info',
      format: 'json',
      destination: { write: (line) => lines.push(line) },
    });
    controlled = await openControlledBroker({}, { log });
    const client = await connected();
    client.send(subscribePacket(1, [['cmd/dev1/#', 0]]));
    await client.next();
    const topicOf = (levels: number) => `cmd/dev1${'/x'.repeat(levels - 2)}`;
    for (const levels of [101, 200, 2_000, 100]) controlled.command(topicOf(levels), Buffer.from('x'));
    const { body } = await client.next();
    expect(body.toString('utf8', 2, 2 + body.readUInt16BE(0))).toBe(topicOf(100));
    const warnings = lines.map((line) => JSON.parse(line)).filter(({ level }) => level >= 40);
    expect(warnings[0]).toMatchObject({
      event: 'downlink_refused',
      topic: topicOf(101),
      reason: expect.stringMatching(/MAX_TOPIC_LEVELS, 100/),
    });
    expect(new Set(warnings.map(({ event }) => event))).toEqual(new Set(['downlink_refused']));
    expect(controlled.broker.counters.limits['topic-levels']).toBe(3);
  });

  it('are not kept once they are acknowledged', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const client = await connected();
    client.send(subscribePacket(1, [['cmd/dev1/#', 1]]));
    await client.next();
    const payloads = [1, 2, 3].map((byte) => {
      const payload = Buffer.alloc(100_000, byte);
      controlled.command(`cmd/dev1/${byte}`, payload);
      return new WeakRef(payload);
    });
    for (const _each of payloads) {
      const { body } = await client.next();
      const topicBytes = body.readUInt16BE(0);
      client.send(packet(0x40, Buffer.from(body.subarray(2 + topicBytes, 4 + topicBytes))));
    }
    await vi.waitFor(() => {
      collect();
      expect(payloads.filter((payload) => payload.deref() !== undefined)).toHaveLength(0);
    });
  });

  it('reach a client that reads all the time, however long one takes', async () => {
    await controlled.close();
    const bytes = 48_000_000;
    controlled = await openControlledBroker({
      slowReaderTimeoutSec: 3,
      maxOutgoingBytes: 2 * bytes,
      maxPacketBytes: 2 * bytes,
    });
    const client = await connected();
    client.send(subscribePacket(1, [['cmd/dev1/#', 0]]));
    await client.next();
    const { socket } = client;
    socket.removeAllListeners('data');
    socket.pause();
    controlled.command('cmd/dev1/firmware', Buffer.alloc(bytes));
    let read = 0;
    while (read < bytes && !client.closed) {
      await delay(20);
      const chunk = socket.read(Math.min(socket.readableLength, 131_072)) as Buffer | null;
      read += chunk?.length ?? 0;
    }
    expect(read).toBeGreaterThanOrEqual(bytes);
    expect(controlled.broker.counters.closed['slow-reader']).toBe(0);
  });
});

describe('sessions', () => {
  it('take over the same client id of the same device only', async () => {
    const first = await connected({ clientId: 'c' });
    const other = await open();
    const { id, password } = controlled.otherDevice;
    other.send(connectPacket({ userName: id, password, clientId: 'c' }));
    expect((await other.next()).body[1]).toBe(0);
    expect(first.closed).toBe(false);
    await connected({ clientId: 'c' });
    await first.waitClosed();
    expect(other.closed).toBe(false);
    expect(controlled.broker.counters.closed['taken-over']).toBe(1);
  });

  it('leave one connection after many simultaneous take-overs', async () => {
    const { id, password } = controlled.device;
    const rivals = await Promise.all(Array.from({ length: 20 }, () => open()));
    for (const rival of rivals) {
      rival.send(
        connectPacket({ userName: id, password, clientId: 'c', clean: false }),
        subscribePacket(1, [['cmd/dev1/#', 1]]),
      );
    }
    await vi.waitFor(() => expect(rivals.filter((rival) => !rival.closed)).toHaveLength(1));
    const survivor = rivals.find((rival) => !rival.closed) as RawClient;
    survivor.send(pingreqPacket);
    await vi.waitFor(() => expect(survivor.received.some(({ type }) => type === 13)).toBe(true));
    expect(controlled.broker.connectionCount()).toBe(1);
  });

  it('are present again for a client that asked to keep them, and gone after a clean one [MQTT-3.1.2-6]', async () => {
    const present = async (clean: boolean): Promise<number | undefined> => {
      const client = await open();
      const { id, password } = controlled.device;
      client.send(connectPacket({ userName: id, password, clean }));
      const connack = await client.next();
      client.send(disconnectPacket);
      await client.waitClosed();
      return connack.body[0];
    };
    expect(await present(false)).toBe(0);
    expect(await present(false)).toBe(1);
    expect(await present(true)).toBe(0);
    expect(await present(false)).toBe(0);
  });

  it('keep subscriptions and messages for an absent client', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ acl: 'open' });
    const subscriber = await connected({ clientId: 'keeper', clean: false });
    subscriber.send(subscribePacket(1, [['news', 1]]));
    await subscriber.next();
    subscriber.send(disconnectPacket);
    await subscriber.waitClosed();
    const publisher = await connected({ clientId: 'pub' });
    publisher.send(publishPacket({ topic: 'news', qos: 1, payload: 'one' }));
    await publisher.next();
    const again = await open();
    const { id, password } = controlled.device;
    again.send(connectPacket({ userName: id, password, clientId: 'keeper', clean: false }));
    expect([...(await again.next()).body]).toEqual([1, 0]);
    const delivered = await again.next();
    expect([delivered.type, delivered.flags & 0x06]).toEqual([3, 2]);
    expect(delivered.body.toString()).toContain('one');
  });
});

describe('one device among others', () => {
  it('has a share of what may be in flight, and the others go on', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxInFlightPerClient: 8 });
    controlled.room = 90;
    controlled.autoStore = false;
    const greedy = await Promise.all(['a', 'b', 'c'].map((clientId) => connected({ clientId })));
    for (const client of greedy) {
      for (let packetId = 1; packetId <= 8; packetId++) {
        client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId }));
      }
    }
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(10));
    const other = await open();
    const { id, password } = controlled.otherDevice;
    other.send(connectPacket({ userName: id, password }), publishPacket({ topic: 'raw/dev2', qos: 1 }));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(11));
    for (let stored = 0; stored < 25; stored++) {
      await vi.waitFor(() => expect(controlled.taken.length).toBeGreaterThan(stored));
      controlled.taken[stored]?.onStored();
    }
    for (const client of greedy) {
      for (let packetId = 1; packetId <= 8; packetId++)
        expect(idOf((await client.next()).body)).toBe(packetId);
    }
  });

  it('loses its own session absent longest when it has too many clients, and is refused when all are connected', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxClientsPerDevice: 2 });
    const sessionOf = async (clientId: string): Promise<number | undefined> => {
      const client = await open();
      const { id, password } = controlled.device;
      client.send(connectPacket({ userName: id, password, clientId, clean: false }));
      const present = (await client.next()).body[0];
      client.send(disconnectPacket);
      await client.waitClosed();
      return present;
    };
    await sessionOf('one');
    await sessionOf('two');
    await sessionOf('three');
    expect(await sessionOf('two')).toBe(1);
    expect(await sessionOf('one')).toBe(0);

    await connected({ clientId: 'x' });
    await connected({ clientId: 'y' });
    const third = await open();
    const { id, password } = controlled.device;
    third.send(connectPacket({ userName: id, password, clientId: 'z' }));
    expect((await third.next()).body[1]).toBe(3);
    await third.waitClosed();
    expect(controlled.broker.counters.closed['too-many-clients']).toBe(1);
  });
});

describe('keeping time', () => {
  it('closes a client silent for one and a half times its keep alive, not one that pings', async () => {
    const silent = await connected({ keepaliveSec: 1, clientId: 'silent' });
    const pinging = await connected({ keepaliveSec: 1, clientId: 'pinging' });
    const pings = setInterval(() => pinging.send(pingreqPacket), 500);
    try {
      await silent.waitClosed();
      expect(pinging.closed).toBe(false);
    } finally {
      clearInterval(pings);
    }
  });

  it('closes a socket that sends no CONNECT', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ connectTimeoutSec: 1 });
    const client = await open();
    await client.waitClosed();
    expect(controlled.broker.counters.closed['connect-timeout']).toBe(1);
  });
});

describe('refusals', () => {
  it.each([
    ['no user name', {}, 4],
    ['an unknown user', { userName: 'nobody', password: 'x' }, 4],
    ['a wrong password', { userName: 'dev1', password: 'x' }, 4],
    ['a user without password', { userName: 'dev1' }, 4],
    ['protocol level 6', { level: 6, userName: 'dev1', password: 'correct-horse' }, 1],
    [
      'an empty client id that wants a session',
      { clientId: '', clean: false, userName: 'dev1', password: 'x' },
      2,
    ],
  ] as const)('answer %s', async (_name, options, code) => {
    const client = await open();
    client.send(connectPacket(options));
    const connack = await client.next();
    expect([connack.type, ...connack.body]).toEqual([2, 0, code]);
    await client.waitClosed();
  });

  it('answer 5 to a revoked device and 3 when the database is away', async () => {
    controlled.revoke('dev1');
    const { id, password } = controlled.device;
    const revoked = await open();
    revoked.send(connectPacket({ userName: id, password }));
    expect((await revoked.next()).body[1]).toBe(5);
    controlled.answer = () => ({ found: 'away' });
    const away = await open();
    away.send(connectPacket({ userName: id, password }));
    expect((await away.next()).body[1]).toBe(3);
    controlled.answer = () => Promise.reject(new Error('broken'));
    const failed = await open();
    failed.send(connectPacket({ userName: id, password }));
    expect((await failed.next()).body[1]).toBe(3);
  });

  it('turn away what is over the limit of connections', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ maxConnections: 2 });
    await connected({ clientId: 'a' });
    await connected({ clientId: 'b' });
    const third = await open();
    await third.waitClosed();
    expect(controlled.broker.counters.closed['too-many-connections']).toBe(1);
  });
});
