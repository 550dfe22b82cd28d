import { afterEach, describe, expect, it, vi } from 'vitest';
import type { BrokerConfig } from '../../src/server/mqtt/broker-options.js';
import { type LimitName, limitNames } from '../../src/server/mqtt/live/limit-names.js';
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
  uint16,
  unsubscribePacket,
} from '../support/raw-client.js';
import { Id, property } from '../support/raw-mqtt5.js';
import {
  expectQuiet,
  nextOf,
  ping,
  puback,
  pubcomp,
  publish,
  pubrec,
  suback,
  unsuback,
} from './conformance/harness.js';

/** Every bound of the MQTT side: what happens at it, that it is counted, and that below it nothing happens. */

let controlled: ControlledBroker | undefined;
let clients: RawClient[] = [];
const hit = new Set<LimitName>();

afterEach(async () => {
  for (const client of clients) client.destroy();
  clients = [];
  await controlled?.close();
  controlled = undefined;
});

async function openBroker(config: Partial<BrokerConfig>): Promise<ControlledBroker> {
  controlled = await openControlledBroker(config);
  return controlled;
}

const broker = (): ControlledBroker => {
  if (controlled === undefined) throw new Error('no broker is open');
  return controlled;
};

/** How often each bound was hit, those never hit left out; notes them as tested. */
function limitsHit(): Partial<Record<LimitName, number>> {
  const entries = Object.entries(broker().broker.counters.limits).filter(([, count]) => count > 0);
  for (const [name] of entries) hit.add(name as LimitName);
  return Object.fromEntries(entries);
}

async function open(address?: string): Promise<RawClient> {
  const client = await openRawClient(broker().port, address);
  client.socket.setNoDelay(true);
  clients.push(client);
  return client;
}

let clientIds = 0;
function login({ device = 1, ...options }: ConnectOptions & { device?: 1 | 2 } = {}): Buffer {
  const { id, password } = device === 1 ? broker().device : broker().otherDevice;
  clientIds += 1;
  return connectPacket({ userName: id, password, clientId: `client-${clientIds}`, ...options });
}

/** Sends CONNECT and answers the return code of the CONNACK. */
async function connectBy(client: RawClient, options?: Parameters<typeof login>[0]): Promise<number> {
  client.send(login(options));
  return (await nextOf(client, 2)).body[1] as number;
}

async function connected(options?: Parameters<typeof login>[0]): Promise<RawClient> {
  const client = await open();
  expect(await connectBy(client, options)).toBe(0);
  return client;
}

const message = (packetId: number, options: Partial<Parameters<typeof publishPacket>[0]> = {}): Buffer =>
  publishPacket({ topic: 'raw/dev1', qos: 1, packetId, ...options });

describe('connections', () => {
  it('in all: one more is closed, and taken again when one has ended', async () => {
    await openBroker({ maxConnections: 2 });
    const first = await connected();
    await connected();
    await (await open()).waitClosed();
    expect(limitsHit()).toEqual({ connections: 1 });
    first.destroy();
    await vi.waitFor(async () => {
      const next = await open();
      next.send(login());
      expect((await next.next()).body[1]).toBe(0);
    });
  });

  it('of a client that has gone while it waited: not looked up, and nobody is taken over', async () => {
    await openBroker({ maxConnectsPerSecond: 1 });
    const clientId = 'the-same';
    const first = await open();
    expect(await connectBy(first, { clientId })).toBe(0);
    const gone = await open();
    gone.socket.end(login({ clientId }));
    // One that has said all there is to say is served all the same.
    const brief = await open();
    brief.socket.end(Buffer.concat([login({ clientId: 'brief' }), message(1), disconnectPacket]));
    await brief.waitClosed();
    expect(brief.received[0]?.type).toBe(2);
    expect(broker().taken).toHaveLength(1);
    await gone.waitClosed();
    expect(gone.received).toEqual([]);
    const { accepted, refused } = broker().broker.counters;
    expect([accepted, refused['connection-lost']]).toEqual([2, 1]);
    await ping(first);
  });

  it('for which files may be open: one more is closed', async () => {
    await openBroker({ maxConnections: 3, maxOpenSockets: 2 });
    await connected();
    await connected();
    await (await open()).waitClosed();
    expect(limitsHit()).toEqual({ 'open-files': 1 });
    expect(broker().broker.counters.refused['too-many-connections']).toBe(1);
  });

  it('of one address: one more is closed, other addresses are taken', async () => {
    await openBroker({ maxConnectionsPerAddress: 2 });
    const first = await connected();
    await connected();
    await (await open()).waitClosed();
    expect(await connectBy(await open('127.0.0.2'))).toBe(0);
    expect(limitsHit()).toEqual({ 'connections-per-address': 1 });
    expect(broker().broker.counters.closed['too-many-from-address']).toBe(1);
    first.destroy();
    await vi.waitFor(async () => expect(await connectBy(await open())).toBe(0));
  });

  it('of one device: one more client is refused', async () => {
    await openBroker({ maxClientsPerDevice: 1 });
    await connected();
    const second = await open();
    expect(await connectBy(second)).toBe(3);
    expect(limitsHit()).toEqual({ 'clients-per-device': 1 });
    expect(await connectBy(await open(), { device: 2 })).toBe(0);
  });

  it('in a second: further ones wait, and none is lost nor runs out of its CONNECT timeout', async () => {
    await openBroker({ maxConnectsPerSecond: 2, connectTimeoutSec: 1 });
    const startMs = performance.now();
    const waiting = await Promise.all(Array.from({ length: 6 }, () => open()));
    for (const client of waiting) client.send(login());
    for (const client of waiting) expect((await nextOf(client, 2)).body[1]).toBe(0);
    // Two at once, and two a second.
    expect(performance.now() - startMs).toBeGreaterThan(1_900);
    expect(limitsHit()).toEqual({ 'connects-per-second': 4 });
  });

  it('of one address in a second: further ones wait, and other addresses do not', async () => {
    await openBroker({ maxConnectsPerSecondPerAddress: 1 });
    await connected();
    const waiting = await open();
    waiting.send(login());
    expect(await connectBy(await open('127.0.0.2'))).toBe(0);
    expect(waiting.received).toHaveLength(0);
    await nextOf(waiting, 2);
    expect(limitsHit()).toEqual({ 'connects-per-address': 1 });
  });

  it('that wait: one more is closed; all are when the server stops', async () => {
    await openBroker({ maxConnectsPerSecond: 1, maxWaitingConnects: 2 });
    await connected();
    const waiting = [await open(), await open()];
    await (await open()).waitClosed();
    expect(limitsHit()).toMatchObject({ 'waiting-connects': 1 });
    expect(broker().broker.counters.closed['too-many-connects']).toBe(1);
    await broker().broker.stopReading();
    for (const client of waiting) await client.waitClosed();
  });
});

describe('wrong logins', () => {
  it('as one device: refused without a look-up, also with the right secret, and from nowhere else', async () => {
    await openBroker({ maxFailedLoginsPerDevice: 3 });
    for (let time = 0; time < 3; time += 1)
      expect(await connectBy(await open(), { password: 'wrong' })).toBe(4);
    let lookUps = 0;
    broker().answer = () => {
      lookUps += 1;
      return { found: 'away' };
    };
    const refused = await open();
    expect(await connectBy(refused)).toBe(5);
    await refused.waitClosed();
    expect(lookUps).toBe(0);
    broker().answer = undefined;
    expect(await connectBy(await open(), { device: 2 })).toBe(0);
    expect(await connectBy(await open('127.0.0.2'))).toBe(0);
    expect(limitsHit()).toEqual({ 'failed-logins-per-device': 1 });
    expect(broker().broker.counters.refused['too-many-failed-logins']).toBe(1);
  });

  it('of one address: refused, except for a device that has logged in from there', async () => {
    await openBroker({ maxFailedLoginsPerAddress: 3 });
    await connected();
    for (let time = 0; time < 3; time += 1) {
      expect(await connectBy(await open(), { userName: `guess ${time}`, password: 'x' })).toBe(4);
    }
    expect(await connectBy(await open(), { device: 2 })).toBe(5);
    await connected();
    expect(await connectBy(await open('127.0.0.2'), { device: 2 })).toBe(0);
    expect(limitsHit()).toEqual({ 'failed-logins-per-address': 1 });
  });
});

describe('packets', () => {
  it('before and after CONNECT: larger ones close', async () => {
    await openBroker({ maxConnectPacketBytes: 200, maxPacketBytes: 1_024 });
    const early = await open();
    early.send(login({ clientId: 'c'.repeat(300) }));
    await early.waitClosed();
    const late = await connected();
    late.send(message(1, { payload: 'x'.repeat(1_024) }));
    await late.waitClosed();
    expect(limitsHit()).toEqual({ 'connect-packet-bytes': 1, 'packet-bytes': 1 });
  });

  const topicLimits = { maxTopicBytes: 20, maxTopicLevels: 4, acl: 'open' } as const;

  it.each([
    ['bytes', 't'.repeat(20), 't'.repeat(21), 'topic-bytes'],
    ['bytes, of longer characters', 'ä'.repeat(10), 'ä'.repeat(11), 'topic-bytes'],
    ['levels', 'a/b/c/d', 'a/b/c/d/e', 'topic-levels'],
  ] as const)(
    'topics: over the bound of %s PUBLISH closes, a filter gets 0x80, a will CONNACK 5',
    async (_what, fits, over, limit) => {
      await openBroker(topicLimits);
      const client = await connected({ will: { topic: fits, payload: 'x' } });
      client.send(message(1, { topic: fits }));
      await nextOf(client, puback);
      const filters: [string, number][] = [
        [fits, 0],
        [over, 0],
      ];
      client.send(subscribePacket(2, filters));
      expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([0, 0x80]);
      client.send(message(3, { topic: over }));
      await client.waitClosed();
      const heir = await open();
      expect(await connectBy(heir, { will: { topic: over, payload: 'x' } })).toBe(5);
      await heir.waitClosed();
      expect(limitsHit()).toEqual({ [limit]: 3 });
    },
  );

  it('wills: a CONNECT with a larger one gets CONNACK 5', async () => {
    await openBroker({ maxWillBytes: 20 });
    const topic = 'raw/dev1';
    await connected({ will: { topic, payload: 'x'.repeat(12) } });
    const client = await open();
    expect(await connectBy(client, { will: { topic, payload: 'x'.repeat(13) } })).toBe(5);
    await client.waitClosed();
    expect(limitsHit()).toEqual({ 'will-bytes': 1 });
  });
});

describe('messages to NATS', () => {
  /** Sends ten messages of QoS 1; answers how many were taken once nothing more is. */
  async function sendTen(client: RawClient, payload = 'x'): Promise<number> {
    broker().autoStore = false;
    for (let packetId = 1; packetId <= 10; packetId += 1) client.send(message(packetId, { payload }));
    await expectQuiet(client);
    return broker().taken.length;
  }

  async function storeAll(client: RawClient): Promise<void> {
    broker().autoStore = true;
    for (const each of [...broker().taken]) each.onStored();
    for (let packetId = 1; packetId <= 10; packetId += 1) {
      expect((await nextOf(client, puback)).body.readUInt16BE(0)).toBe(packetId);
    }
  }

  it('in flight of one client: further ones wait, and PINGREQ is answered', async () => {
    await openBroker({ maxInFlightPerClient: 4 });
    const client = await connected();
    expect(await sendTen(client)).toBe(4);
    expect(limitsHit()).toEqual({ 'in-flight-per-client': 1 });
    await storeAll(client);
  });

  it('bytes in flight of one client: further ones wait, and others go on', async () => {
    await openBroker({ maxInFlightBytesPerClient: 3_000 });
    const client = await connected();
    expect(await sendTen(client, 'x'.repeat(1_000))).toBe(3);
    expect(limitsHit()).toEqual({ 'in-flight-bytes-per-client': 1 });
    const other = await connected();
    other.send(message(1));
    await vi.waitFor(() => expect(broker().taken).toHaveLength(4));
    await storeAll(client);
  });

  it('in flight of one device: an eighth of what is free, however many others hold theirs', async () => {
    await openBroker({});
    broker().room = 45;
    const client = await connected();
    expect(await sendTen(client)).toBe(5);
    expect(limitsHit()).toEqual({ 'in-flight-per-device': 1 });
    broker().room = 6;
    const other = await connected({ device: 2 });
    other.send(message(1, { topic: 'raw/dev2' }), message(2, { topic: 'raw/dev2' }));
    await expectQuiet(other);
    expect(broker().taken).toHaveLength(6);
    broker().room = Number.POSITIVE_INFINITY;
    await storeAll(client);
  });

  it('in flight of one device: what waits goes on when others have made room, as does a will', async () => {
    await openBroker({});
    broker().room = 45;
    const client = await connected();
    expect(await sendTen(client)).toBe(5);
    const other = await connected({ will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    other.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(1));
    // No message of the device leaves.
    broker().room = Number.POSITIVE_INFINITY;
    await vi.waitFor(() => expect(broker().taken).toHaveLength(11), 5_000);
    expect(broker().taken.filter(({ payload }) => Buffer.from(payload).toString() === 'will')).toHaveLength(
      1,
    );
    await storeAll(client);
  });

  it('in flight of all: messages wait', async () => {
    await openBroker({});
    broker().full = true;
    const client = await connected();
    expect(await sendTen(client)).toBe(0);
    expect(limitsHit()).toEqual({ 'in-flight': 1 });
    broker().setFull(false);
    await vi.waitFor(() => expect(broker().taken).toHaveLength(10));
    await storeAll(client);
  });

  it('wills that wait for their delay: a further one is published at once', async () => {
    await openBroker({ maxDelayedWills: 2 });
    const will = { topic: 'raw/dev1', payload: 'w', qos: 1, properties: property(Id.willDelay, 1_000) };
    const properties = property(Id.sessionExpiry, 1_000);
    const dying = await Promise.all(
      Array.from({ length: 3 }, () => connected({ level: 5, clean: false, properties, will })),
    );
    for (const client of dying) client.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(0));
    await vi.waitFor(() => expect(broker().taken).toHaveLength(1));
    expect(limitsHit()).toEqual({ 'delayed-wills': 1 });
  });

  it('wills that wait: a further one is dropped, and counted among what is left at the end', async () => {
    await openBroker({ maxWillBytes: 1_048_576, maxConnectPacketBytes: 1_048_576 });
    const will = { topic: 'raw/dev1', payload: 'w'.repeat(65_000), qos: 1 };
    const dying = await Promise.all(Array.from({ length: 130 }, () => connected({ will })));
    broker().setFull(true);
    for (const client of dying) client.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(0));
    const waiting = broker().broker.waitingWills();
    expect(waiting).toBe(Math.floor(8_388_608 / (65_000 + 2_048)));
    expect(limitsHit()).toEqual({ 'waiting-wills': 130 - waiting });
    broker().setFull(false);
    await vi.waitFor(() => expect(broker().taken).toHaveLength(waiting));
    expect(broker().broker.waitingWills()).toBe(0);
  });

  it.each<{ bound: string; config: Partial<BrokerConfig>; room?: number }>([
    { bound: 'in flight of its client', config: { maxInFlightPerClient: 3 } },
    { bound: 'bytes in flight of its client', config: { maxInFlightBytesPerClient: 100 } },
    { bound: 'in flight of its device', config: {}, room: 20 },
  ])('a will waits at a bound ($bound), and goes before what the client sends next', async (given) => {
    await openBroker(given.config);
    broker().autoStore = false;
    broker().room = given.room ?? Number.POSITIVE_INFINITY;
    const mine = { clientId: 'busy', clean: false };
    const client = await connected({ ...mine, will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    for (const packetId of [1, 2, 3]) client.send(message(packetId, { payload: `m${packetId}` }));
    await vi.waitFor(() => expect(broker().taken).toHaveLength(3));
    client.destroy();
    await vi.waitFor(() => expect(broker().broker.waitingWills()).toBe(1));
    expect(limitsHit()).toEqual({});

    const next = await connected(mine);
    next.send(message(4, { payload: 'm4' }));
    await expectQuiet(next);
    const payloads = () => broker().taken.map(({ payload }) => Buffer.from(payload).toString());
    expect(payloads()).toEqual(['m1', 'm2', 'm3']);
    broker().taken[0]?.onStored();
    expect(payloads()).toEqual(['m1', 'm2', 'm3', 'will']);
    expect(broker().broker.waitingWills()).toBe(0);
    broker().taken[1]?.onStored();
    await vi.waitFor(() => expect(payloads()).toEqual(['m1', 'm2', 'm3', 'will', 'm4']));
    expect(broker().broker.counters.willsDropped).toBe(0);
  });

  it('a will that waits for room in all goes before what the client sends next, whoever finds the room', async () => {
    await openBroker({});
    broker().full = true;
    const mine = { clientId: 'back', clean: false };
    const client = await connected({ ...mine, will: { topic: 'raw/dev1', payload: 'will', qos: 1 } });
    client.destroy();
    await vi.waitFor(() => expect(broker().broker.waitingWills()).toBe(1));
    broker().full = false;
    const next = await connected(mine);
    next.send(message(1, { payload: 'm1' }));
    await nextOf(next, puback);
    expect(broker().taken.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['will', 'm1']);
    expect(broker().broker.waitingWills()).toBe(0);
    // The request that is still open finds nothing left to send.
    broker().setFull(false);
    expect(broker().taken).toHaveLength(2);
  });

  it('QoS 2 exchanges: one more than may be begun closes, and ended ones do not count', async () => {
    await openBroker({ maxExchangesPerClient: 3 });
    const client = await connected();
    for (let packetId = 1; packetId <= 6; packetId += 1) {
      client.send(message(packetId, { qos: 2 }));
      await nextOf(client, pubrec);
      if (packetId > 3) continue;
      client.send(pubrelPacket(packetId));
      await nextOf(client, pubcomp);
    }
    // A repetition is no further exchange.
    client.send(message(6, { qos: 2, dup: true }));
    await nextOf(client, pubrec);
    client.send(message(7, { qos: 2 }));
    await client.waitClosed();
    expect(limitsHit()).toEqual({ 'exchanges-per-client': 1 });
    expect(broker().broker.counters.closed['too-many-exchanges']).toBe(1);
  });

  it('QoS 2 exchanges, MQTT 5: a client that comes back with all of them open has its whole quota, and is told', async () => {
    await openBroker({ maxExchangesPerClient: 3 });
    const session = {
      level: 5,
      clientId: 'returns',
      clean: false,
      properties: property(Id.sessionExpiry, 100),
    };
    const begin = (client: RawClient, packetId: number) =>
      client.send(message(packetId, { qos: 2, properties: Buffer.alloc(0) }));
    const first = await connected(session);
    for (const packetId of [1, 2, 3]) {
      begin(first, packetId);
      await nextOf(first, pubrec);
    }
    first.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(0));

    const again = await connected(session);
    begin(again, 4);
    expect([...(await nextOf(again, pubrec)).body.subarray(0, 3)]).toEqual([0, 4, 0x97]);
    again.send(pubrelPacket(1));
    await nextOf(again, pubcomp);
    begin(again, 4);
    expect([...(await nextOf(again, pubrec)).body]).toEqual([0, 4]);
    expect(broker().taken).toHaveLength(4);
    expect(broker().broker.counters.publishesRefused['too-many-exchanges']).toBe(1);
    expect(limitsHit()).toEqual({ 'exchanges-per-client': 1 });
  });

  describe('QoS 2 exchanges of all clients', () => {
    /** Begins exchanges until the connection is closed; answers how many were begun. */
    async function begin(options: Parameters<typeof login>[0] = {}): Promise<number> {
      const client = await connected(options);
      const topic = `raw/dev${options.device ?? 1}`;
      const before = broker().taken.length;
      for (let packetId = 1; packetId <= 20; packetId += 1) client.send(message(packetId, { qos: 2, topic }));
      await client.waitClosed();
      return broker().taken.length - before;
    }

    const persistent = { clean: false };

    it('a device has a share of what is free; one more closes', async () => {
      await openBroker({ maxExchangesInAll: 100 });
      expect(await begin(persistent)).toBe(11);
      expect(await begin(persistent)).toBe(0);
      expect(await begin({ ...persistent, device: 2 })).toBe(10);
      expect(limitsHit()).toEqual({ 'exchanges-in-all': 3 });
      expect(broker().broker.counters.closed['too-many-exchanges-in-all']).toBe(3);
    });

    it.each<[string, () => unknown]>([
      [
        'PUBREL',
        async () => {
          const client = await connected({ clientId: 'keeper', clean: false });
          for (let packetId = 1; packetId <= 11; packetId += 1) client.send(pubrelPacket(packetId));
          for (let packetId = 1; packetId <= 11; packetId += 1) await nextOf(client, pubcomp);
        },
      ],
      ['a CONNECT that begins a new session', () => connected({ clientId: 'keeper' })],
      ['a kick', () => broker().core.kick('dev1', 'revoked')],
    ])('are given back by %s', async (_how, end) => {
      await openBroker({ maxExchangesInAll: 100 });
      expect(await begin({ clientId: 'keeper', clean: false })).toBe(11);
      await end();
      // Without a persistent session they are given back by the end of the connection.
      for (let time = 0; time < 2; time += 1) expect(await begin()).toBe(11);
    });
  });
});

describe('the publish rate', () => {
  it.each([0, 1])(
    'of QoS %i: over it messages wait, PINGREQ is answered, none is lost, others go on',
    async (qos) => {
      await openBroker({ maxPublishRatePerDevice: 20, publishBurstSec: 1 });
      const client = await connected();
      for (let packetId = 1; packetId <= 100; packetId += 1) client.send(message(packetId, { qos }));
      await vi.waitFor(() => expect(broker().taken.length).toBeGreaterThanOrEqual(20));
      expect(broker().taken.length).toBeLessThan(100);
      client.send(pingreqPacket);
      await vi.waitFor(() => expect(client.received.some(({ type }) => type === 13)).toBe(true));
      expect(broker().taken.length).toBeLessThan(100);
      const other = await connected({ device: 2 });
      other.send(message(1, { topic: 'raw/dev2' }));
      await nextOf(other, puback);
      await vi.waitFor(() => expect(broker().taken).toHaveLength(101));
      expect(limitsHit()).toEqual({ 'publish-rate': 1 });
    },
  );

  it('is one for all clients of the device, which take turns', async () => {
    await openBroker({ maxPublishRatePerDevice: 30, publishBurstSec: 1 });
    const [one, two] = [await connected(), await connected()];
    for (let packetId = 1; packetId <= 300; packetId += 1) one.send(message(packetId, { payload: 'one' }));
    await vi.waitFor(() => expect(broker().taken.length).toBeGreaterThanOrEqual(30));
    two.send(message(1, { payload: 'two' }));
    await nextOf(two, puback);
    expect(broker().taken.length).toBeLessThan(301);
  });

  it.each([
    ['with the same client id', 'same'],
    ['with another', undefined],
  ])('holds for a device that connects anew %s: it does not have its burst again', async (_how, clientId) => {
    // At one a second nothing to speak of comes back while the test runs.
    await openBroker({ maxPublishRatePerDevice: 1, publishBurstSec: 100 });
    const options = clientId === undefined ? {} : { clientId };
    const first = await connected(options);
    for (let packetId = 1; packetId <= 100; packetId += 1) first.send(message(packetId));
    for (let packetId = 1; packetId <= 100; packetId += 1) await nextOf(first, puback);
    first.send(disconnectPacket);
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(0));
    const again = await connected(options);
    for (let packetId = 1; packetId <= 100; packetId += 1) again.send(message(packetId));
    await vi.waitFor(() => expect(limitsHit()).toEqual({ 'publish-rate': 1 }));
    expect(broker().taken.length).toBeLessThan(200);
    const other = await connected({ device: 2 });
    other.send(message(1, { topic: 'raw/dev2' }));
    await nextOf(other, puback);
  });

  it('reads the socket no further, and goes on when there are tokens again', async () => {
    await openBroker({ maxPublishRatePerDevice: 100, publishBurstSec: 1 });
    const client = await connected();
    const payload = 'x'.repeat(20_000);
    for (let packetId = 1; packetId <= 150; packetId += 1) client.send(message(packetId, { payload }));
    await vi.waitFor(() => expect(broker().taken.length).toBeGreaterThanOrEqual(100));
    expect(broker().broker.waiting().bytes).toBeLessThan(45_000);
    for (let packetId = 1; packetId <= 150; packetId += 1) {
      expect((await nextOf(client, puback)).body.readUInt16BE(0)).toBe(packetId);
    }
  });

  it('is that of the policy where it has one, also when that changes while the client is connected', async () => {
    await openBroker({});
    const setRate = (publishRate: number | null) =>
      broker().core.setPolicies([
        {
          type: 'sensor',
          publish: ['raw/{id}'],
          subscribe: [],
          publishRate,
          maxPacketBytes: null,
          natsSubject: null,
          ackLevel: null,
          onRefusal: null,
          receipts: null,
          createdAt: new Date(),
          updatedAt: new Date(),
        },
      ]);
    const client = await connected();
    setRate(10);
    for (let packetId = 1; packetId <= 500; packetId += 1) client.send(message(packetId));
    await vi.waitFor(() => expect(broker().taken.length).toBeGreaterThanOrEqual(50));
    expect(broker().taken.length).toBeLessThan(500);
    expect(limitsHit()).toEqual({ 'publish-rate': 1 });
    setRate(null);
    await vi.waitFor(() => expect(broker().taken).toHaveLength(500));
  });

  it('is off by default', async () => {
    await openBroker({});
    const client = await connected();
    for (let packetId = 1; packetId <= 500; packetId += 1) client.send(message(packetId));
    await vi.waitFor(() => expect(broker().taken).toHaveLength(500));
    expect(limitsHit()).toEqual({});
  });
});

describe('messages to clients', () => {
  it('subscriptions: a further filter gets 0x80', async () => {
    await openBroker({ maxSubscriptionsPerClient: 2, acl: 'open' });
    const client = await connected();
    client.send(
      subscribePacket(1, [
        ['a', 0],
        ['b', 0],
        ['c', 0],
        ['a', 1],
      ]),
    );
    expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([0, 0, 0x80, 1]);
    expect(limitsHit()).toEqual({ 'subscriptions-per-client': 1 });
  });

  describe('bytes of the subscriptions of all clients', () => {
    /** Room for 100 of the filters of `subscribe`; a device alone gets 11, as 12 would be over an eighth of the other 89. */
    const openNarrow = (config: Partial<BrokerConfig> = {}) =>
      openBroker({
        maxSubscriptionBytesInAll: 100 * (768 + 256 + 3),
        maxSubscriptionsPerClient: 1_000,
        acl: 'open',
        ...config,
      });

    /** Subscribes to 20 filters; answers how many were granted. */
    async function subscribe(client: RawClient): Promise<number> {
      const filters = Array.from({ length: 20 }, (_, index): [string, number] => [`f${10 + index}`, 0]);
      client.send(subscribePacket(1, filters));
      const codes = [...(await nextOf(client, suback)).body.subarray(2)];
      expect(codes.toSorted((a, b) => a - b)).toEqual(codes);
      return codes.filter((code) => code === 0).length;
    }

    it('a device has a share of what is free, over which a filter gets 0x80', async () => {
      await openNarrow();
      const client = await connected();
      expect(await subscribe(client)).toBe(11);
      expect(await subscribe(await connected())).toBe(0);
      expect(await subscribe(await connected({ device: 2 }))).toBe(10);
      expect(limitsHit()).toEqual({ 'subscription-bytes-in-all': 39 });
      client.send(subscribePacket(2, [['f10', 1]]));
      expect([...(await nextOf(client, suback)).body.subarray(2)]).toEqual([1]);
    });

    it('longer filters and those of more levels take more of it', async () => {
      await openNarrow();
      const client = await connected();
      const filters = ['/'.repeat(40), 'x'.repeat(1_000), 'f10'].map((filter): [string, number] => [
        filter,
        0,
      ]);
      client.send(subscribePacket(1, filters));
      await nextOf(client, suback);
      expect(await subscribe(await connected())).toBeLessThan(11 - filters.length);
    });

    const gone = () => vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(0));
    const keeper = { clientId: 'keeper', clean: false };

    it.each<[string, (client: RawClient) => Promise<unknown>]>([
      [
        'UNSUBSCRIBE',
        async (client) => {
          const filters = Array.from({ length: 20 }, (_, index) => `f${10 + index}`);
          client.send(unsubscribePacket(2, filters));
          await nextOf(client, unsuback);
        },
      ],
      [
        'a CONNECT that begins a new session',
        async (client) => {
          client.send(disconnectPacket);
          await gone();
          await connected({ ...keeper, clean: true });
        },
      ],
      [
        'a kick',
        async () => {
          broker().core.kick('dev1', 'revoked');
          await gone();
        },
      ],
      [
        'a kick while the client is absent',
        async (client) => {
          client.send(disconnectPacket);
          await gone();
          broker().core.kick('dev1', 'revoked');
        },
      ],
      [
        'MAX_SESSIONS',
        async (client) => {
          client.send(disconnectPacket);
          await gone();
          (await connected({ device: 2, clean: false })).send(disconnectPacket);
          await vi.waitFor(() => expect(limitsHit()).toMatchObject({ sessions: 1 }));
        },
      ],
    ])('are given back by %s', async (_how, end) => {
      await openNarrow({ maxSessions: 1 });
      const client = await connected(keeper);
      expect(await subscribe(client)).toBe(11);
      await end(client);
      expect(await subscribe(await connected())).toBe(11);
    });

    it('are given back by the end of a connection without a persistent session', async () => {
      await openNarrow();
      const client = await connected();
      expect(await subscribe(client)).toBe(11);
      client.destroy();
      await gone();
      expect(await subscribe(await connected())).toBe(11);
    });
  });

  /** A client with a persistent session that has subscribed to `t` and left. */
  async function leaveSession(clientId: string): Promise<void> {
    const client = await connected({ clientId, clean: false });
    client.send(subscribePacket(1, [['t', 1]]));
    await nextOf(client, suback);
    client.send(disconnectPacket);
    await client.waitClosed();
  }

  it('messages and bytes that wait for an absent client: further ones are dropped', async () => {
    await openBroker({ maxQueuedMessages: 3, maxOutgoingBytes: 65_536, acl: 'open' });
    await leaveSession('keeper');
    const sender = await connected({ device: 2 });
    for (let packetId = 1; packetId <= 5; packetId += 1) {
      sender.send(message(packetId, { topic: 't' }));
      await nextOf(sender, puback);
    }
    expect(limitsHit()).toEqual({ 'queued-messages': 2 });
    const back = await connected({ clientId: 'keeper', clean: false });
    for (let count = 0; count < 3; count += 1) await nextOf(back, publish);
    await expectQuiet(back);
    // The three are not acknowledged and still held.
    back.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(1));
    for (let packetId = 1; packetId <= 2; packetId += 1) {
      sender.send(message(packetId, { topic: 't', payload: 'x'.repeat(40_000) }));
      await nextOf(sender, puback);
    }
    expect(limitsHit()).toEqual({ 'queued-messages': 2, 'outgoing-bytes': 1 });
  });

  it('bytes that wait for all clients: a client has a share of what is free', async () => {
    await openBroker({ maxOutgoingBytesInAll: 1_048_576, acl: 'open' });
    for (const clientId of ['one', 'two']) await leaveSession(clientId);
    const sender = await connected({ device: 2 });
    const payload = 'x'.repeat(50_000);
    for (let packetId = 1; packetId <= 3; packetId += 1) {
      sender.send(message(packetId, { topic: 't', payload }));
      await nextOf(sender, puback);
    }
    expect(limitsHit()).toEqual({ 'outgoing-bytes-in-all': 2 });
  });

  it('messages that wait for the members of a shared subscription: when all are full one is dropped, and none closed', async () => {
    await openBroker({ maxQueuedMessages: 1, maxOutgoingBytes: 65_536, acl: 'open' });
    const away = await connected({ clientId: 'away', clean: false });
    away.send(subscribePacket(1, [['$share/g/t', 1]]));
    await nextOf(away, suback);
    away.send(disconnectPacket);
    await away.waitClosed();
    const silent = await connected();
    silent.send(subscribePacket(1, [['$share/g/t', 1]]));
    await nextOf(silent, suback);
    const sender = await connected({ device: 2 });
    const payload = 'x'.repeat(40_000);
    for (let packetId = 1; packetId <= 3; packetId += 1) {
      sender.send(message(packetId, { topic: 't', payload }));
      await nextOf(sender, puback);
    }
    expect(limitsHit()).toEqual({ 'shared-subscription': 1 });
    expect(broker().broker.counters.deliveriesDropped).toBe(1);
    const { body } = await nextOf(silent, publish);
    await ping(silent);
    // What it does not acknowledge has no room at the other, either.
    silent.destroy();
    await vi.waitFor(() => expect(limitsHit()).toEqual({ 'shared-subscription': 2 }));
    expect(body.length).toBeGreaterThan(payload.length);
  });

  it('a client that takes nothing: its connection ends after a time', async () => {
    await openBroker({ slowReaderTimeoutSec: 1, maxOutgoingBytes: 134_217_728, acl: 'open' });
    const stuck = await connected();
    stuck.send(subscribePacket(1, [['t', 0]]));
    await nextOf(stuck, suback);
    stuck.socket.pause();
    const sender = await connected({ device: 2 });
    for (let packetId = 1; packetId <= 30; packetId += 1) {
      sender.send(message(packetId, { topic: 't', payload: 'x'.repeat(500_000) }));
      await nextOf(sender, puback);
    }
    await vi.waitFor(() => expect(limitsHit()).toEqual({ 'slow-reader': 1 }), { timeout: 60_000 });
    await ping(sender);
  });

  it('retained messages: a further one is delivered and not retained', async () => {
    await openBroker({ maxRetainedMessages: 1, acl: 'open' });
    const client = await connected();
    client.send(subscribePacket(1, [['#', 0]]));
    await nextOf(client, suback);
    client.send(
      message(1, { topic: 'a', qos: 0, retain: true }),
      message(2, { topic: 'b', qos: 0, retain: true }),
    );
    await nextOf(client, publish);
    await nextOf(client, publish);
    expect(limitsHit()).toEqual({ 'retained-messages': 1 });
    client.send(subscribePacket(2, [['#', 0]]));
    const kinds = [(await client.next()).type, (await client.next()).type];
    expect(kinds.toSorted((a, b) => a - b)).toEqual([publish, suback]);
    await expectQuiet(client);
  });

  it('sessions of absent clients: those absent longest are discarded', async () => {
    await openBroker({ maxSessions: 1, acl: 'open' });
    await leaveSession('first');
    await leaveSession('second');
    await vi.waitFor(() => expect(limitsHit()).toEqual({ sessions: 1 }));
    const [first, second] = [await open(), await open()];
    second.send(login({ clientId: 'second', clean: false }));
    expect([...(await nextOf(second, 2)).body]).toEqual([1, 0]);
    first.send(login({ clientId: 'first', clean: false }));
    expect([...(await nextOf(first, 2)).body]).toEqual([0, 0]);
  });

  it('what was not acknowledged is sent again as fast as it is taken, in order', async () => {
    await openBroker({ maxOutgoingBytes: 67_108_864, acl: 'open' });
    await leaveSession('keeper');
    const sender = await connected({ device: 2 });
    const count = 40;
    for (let packetId = 1; packetId <= count; packetId += 1) {
      sender.send(message(packetId, { topic: 't', payload: `${packetId} ${'x'.repeat(400_000)}` }));
      await nextOf(sender, puback);
    }
    const first = await connected({ clientId: 'keeper', clean: false });
    for (let number = 1; number <= count; number += 1) await nextOf(first, publish);
    first.destroy();
    await vi.waitFor(() => expect(broker().broker.connectionCount()).toBe(1));
    const again = await connected({ clientId: 'keeper', clean: false });
    for (let number = 1; number <= count; number += 1) {
      const { flags, body } = await nextOf(again, publish);
      expect(flags & 8).toBe(8);
      expect(body.toString('utf8', 5, 5 + String(number).length + 1)).toBe(`${number} `);
      again.send(packet(0x40, uint16(body.readUInt16BE(3))));
    }
    await ping(again);
  });
});

it('every bound has been hit by a test above', () => {
  expect(Object.keys(limitNames).filter((name) => !hit.has(name as LimitName))).toEqual([]);
});
