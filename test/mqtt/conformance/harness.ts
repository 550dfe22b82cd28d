import { afterAll, afterEach, beforeAll, expect, vi } from 'vitest';
import type { BrokerConfig } from '../../../src/server/mqtt/broker-options.js';
import type { CloseReason } from '../../../src/server/mqtt/protocol/close-reason.js';
import { type ControlledBroker, openControlledBroker } from '../../support/controlled-broker.js';
import {
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  openRawClient,
  packet,
  pingreqPacket,
  publishPacket,
  type RawClient,
  type ReceivedPacket,
  subscribePacket,
  uint16,
} from '../../support/raw-client.js';

/** Packet types as a client receives them. */
export const connack = 2;
export const publish = 3;
export const puback = 4;
export const pubrec = 5;
export const pubrel = 6;
export const pubcomp = 7;
export const suback = 9;
export const unsuback = 11;
export const pingresp = 13;
export const disconnect = 14;

export interface LoginOptions extends ConnectOptions {
  /** Which of the two devices of the controlled broker. */
  device?: 1 | 2;
}

/** A broker shared by the tests of one file, and the raw clients that one test opens. */
export interface Harness {
  readonly controlled: ControlledBroker;
  /** A TCP connection that has sent nothing. */
  open(): Promise<RawClient>;
  /** CONNECT with valid credentials and a client id of its own; not sent. */
  login(options?: LoginOptions): Buffer;
  /** A connection accepted with CONNACK 0; the CONNACK is taken. */
  connected(options?: LoginOptions): Promise<RawClient>;
  /** As `connected`, and the session present flag. */
  resumed(options: LoginOptions): Promise<{ client: RawClient; sessionPresent: number }>;
  /** A connection with these subscriptions, its SUBACK taken. */
  subscribed(filters: [filter: string, qos: number][], options?: LoginOptions): Promise<RawClient>;
  /** Publishes over a connection of its own and waits for the last acknowledgement. */
  publish(message: { topic: string; payload?: string; qos?: number; retain?: boolean }): Promise<void>;
  /** Closes in order and waits for the end. */
  leave(client: RawClient): Promise<void>;
  /** The server still serves: connects, publishes, is answered. */
  expectServing(): Promise<void>;
  /** Notes the counters; the answered function asserts what one refused connection has changed. */
  watch(): (reason: CloseReason) => void;
}

export function openHarness(config: Partial<BrokerConfig> = {}): Harness {
  let controlled: ControlledBroker | undefined;
  let clients: RawClient[] = [];
  let publisher: RawClient | undefined;
  let clientIds = 0;

  const broker = (): ControlledBroker => {
    if (controlled === undefined) throw new Error('the broker is not open yet');
    return controlled;
  };
  const track = (client: RawClient): RawClient => {
    client.socket.setNoDelay(true);
    clients.push(client);
    return client;
  };

  beforeAll(async () => {
    controlled = await openControlledBroker(config);
  });
  afterEach(async () => {
    for (const client of clients) client.destroy();
    clients = [];
    // The next test counts from a broker that has noticed, and no connection is left behind.
    const left = publisher === undefined || publisher.closed ? 0 : 1;
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(left), {
      interval: 2,
    });
  });
  afterAll(async () => {
    publisher?.destroy();
    await controlled?.close();
  });

  const harness: Harness = {
    get controlled() {
      return broker();
    },
    open: async () => track(await openRawClient(broker().port)),
    login({ device = 1, ...options } = {}) {
      const { id, password } = device === 1 ? broker().device : broker().otherDevice;
      clientIds += 1;
      return connectPacket({ userName: id, password, clientId: `client-${clientIds}`, ...options });
    },
    connected: async (options) => (await harness.resumed(options ?? {})).client,
    async resumed(options) {
      const client = await harness.open();
      client.send(harness.login(options));
      const answer = await client.next();
      expect([answer.type, answer.body[1]]).toEqual([connack, 0]);
      return { client, sessionPresent: answer.body[0] as number };
    },
    async subscribed(filters, options) {
      const client = await harness.connected(options);
      const isMqtt5 = options?.level === 5;
      client.send(subscribePacket(1, filters, isMqtt5 ? Buffer.alloc(0) : undefined));
      const answer = await nextOf(client, suback);
      expect([...answer.body.subarray(isMqtt5 ? 3 : 2)]).toEqual(filters.map(([, qos]) => qos));
      return client;
    },
    async publish({ topic, payload = 'x', qos = 1, retain = false }) {
      if (publisher === undefined || publisher.closed) {
        publisher = await openRawClient(broker().port);
        publisher.socket.setNoDelay(true);
        publisher.send(harness.login({ clientId: 'harness-publisher', device: 2 }));
        expect((await publisher.next()).body[1]).toBe(0);
      }
      publisher.send(publishPacket({ topic, payload, qos, retain, packetId: 1 }));
      if (qos === 0) await ping(publisher);
      if (qos === 1) expect((await publisher.next()).type).toBe(puback);
      if (qos === 2) {
        expect((await publisher.next()).type).toBe(pubrec);
        publisher.send(packet(0x62, uint16(1)));
        expect((await publisher.next()).type).toBe(pubcomp);
      }
    },
    async leave(client) {
      client.send(disconnectPacket);
      await client.waitClosed();
    },
    async expectServing() {
      const client = await harness.connected();
      client.send(publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 77 }));
      const answer = await client.next();
      expect([answer.type, idOf(answer)]).toEqual([puback, 77]);
      await harness.leave(client);
    },
    watch() {
      const { broker: watched, taken } = broker();
      const before = { ...watched.counters.closed };
      const takenBefore = taken.length;
      return (reason) => {
        const changed = Object.entries(watched.counters.closed).filter(
          ([name, count]) => count !== before[name as CloseReason],
        );
        expect(changed).toEqual([[reason, before[reason] + 1]]);
        expect(taken.length - takenBefore, 'messages forwarded').toBe(0);
      };
    },
  };
  return harness;
}

export const idOf = ({ body }: ReceivedPacket): number => body.readUInt16BE(0);

/** The next packet, which must be of this type. */
export async function nextOf(client: RawClient, type: number): Promise<ReceivedPacket> {
  const received = await client.next();
  expect(received.type).toBe(type);
  return received;
}

/** A PUBLISH as received. */
export interface Delivery {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly dup: boolean;
  readonly retain: boolean;
  readonly packetId: number;
}

export function readDelivery({ type, flags, body }: ReceivedPacket): Delivery {
  expect(type).toBe(publish);
  const qos = (flags >> 1) & 3;
  const topicEnd = 2 + body.readUInt16BE(0);
  const payloadStart = topicEnd + (qos > 0 ? 2 : 0);
  return {
    topic: body.toString('utf8', 2, topicEnd),
    payload: body.toString('utf8', payloadStart),
    qos,
    dup: (flags & 8) !== 0,
    retain: (flags & 1) !== 0,
    packetId: qos > 0 ? body.readUInt16BE(topicEnd) : 0,
  };
}

/** The next packet, which must be a PUBLISH; with QoS 1 it is acknowledged. */
export async function nextDelivery(client: RawClient, options = { acknowledge: true }): Promise<Delivery> {
  const delivery = readDelivery(await client.next());
  if (options.acknowledge && delivery.qos === 1) client.send(packet(0x40, uint16(delivery.packetId)));
  return delivery;
}

/** Takes this many messages and completes the exchange of each, as a client does. */
export async function receiveAll(client: RawClient, count: number): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  let open = 0;
  while (deliveries.length < count || open > 0) {
    const received = await client.next();
    if (received.type === pubrel) {
      client.send(packet(0x70, uint16(idOf(received))));
      open -= 1;
      continue;
    }
    const delivery = readDelivery(received);
    deliveries.push(delivery);
    if (delivery.qos > 0) client.send(packet(delivery.qos === 1 ? 0x40 : 0x50, uint16(delivery.packetId)));
    if (delivery.qos === 2) open += 1;
  }
  return deliveries;
}

/** One round trip of PINGREQ and PINGRESP. */
export async function ping(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  await nextOf(client, pingresp);
}

/**
 * Nothing more comes: enough round trips on the same event loop, each answered by PINGRESP and nothing else, for
 * anything under way to have arrived.
 */
export async function expectQuiet(client: RawClient): Promise<void> {
  for (let round = 0; round < 25; round++) await ping(client);
}
