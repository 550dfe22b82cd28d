import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readQuantileMs } from '../../src/server/mqtt/live/latency-histogram.js';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  type ConnectOptions,
  connectPacket,
  openRawClient,
  publishPacket,
  type RawClient,
  subscribePacket,
} from '../support/raw-client.js';

let controlled: ControlledBroker;
let clients: RawClient[];

beforeEach(async () => {
  clients = [];
  controlled = await openControlledBroker({ acl: 'open' });
});

afterEach(async () => {
  for (const client of clients) client.destroy();
  await controlled.close();
});

async function connect(options: ConnectOptions = {}): Promise<RawClient> {
  const client = await openRawClient(controlled.port);
  clients.push(client);
  const { id, password } = controlled.device;
  client.send(connectPacket({ userName: id, password, ...options }));
  await client.next();
  return client;
}

describe('the counters of the broker', () => {
  it('count messages and payload bytes by direction and QoS', async () => {
    const client = await connect();
    client.send(subscribePacket(1, [['t/#', 1]]));
    await client.next();
    client.send(publishPacket({ topic: 't/0', qos: 0, payload: 'abc' }));
    client.send(publishPacket({ topic: 't/1', qos: 1, packetId: 1, payload: 'defg' }));
    client.send(publishPacket({ topic: 't/2', qos: 2, packetId: 2, payload: 'hi' }));
    const { received, sent } = controlled.broker.counters;
    await vi.waitFor(() => expect([...sent.messages]).toEqual([1, 2, 0]));
    expect([...sent.bytes]).toEqual([3, 6, 0]);
    expect([...received.messages]).toEqual([1, 1, 1]);
    expect([...received.bytes]).toEqual([3, 4, 2]);
  });

  it('count refused connects apart from connections that ended later', async () => {
    await connect({ password: 'wrong' });
    const accepted = await connect();
    accepted.socket.destroy();
    const { counters } = controlled.broker;
    await vi.waitFor(() => expect(counters.closed['connection-lost']).toBe(1));
    expect(counters.accepted).toBe(1);
    expect(counters.refused).toMatchObject({ 'bad-credentials': 1, 'connection-lost': 0 });
    expect(counters.closed['bad-credentials']).toBe(1);
  });

  it('record the time until a message is stored, once for each with QoS 1 or 2 and never for a will', async () => {
    controlled.autoStore = false;
    const client = await connect({ will: { topic: 'will', payload: 'gone', qos: 1 } });
    client.send(publishPacket({ topic: 't', qos: 0 }));
    client.send(publishPacket({ topic: 't', qos: 1, packetId: 1 }));
    client.send(publishPacket({ topic: 't', qos: 2, packetId: 2 }));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(3));
    const { ackLatency } = controlled.broker.counters;
    expect(ackLatency.snapshot().count).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    controlled.taken[1]?.onStored();
    controlled.taken[2]?.onStored();
    client.socket.destroy();
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(4));
    controlled.taken[3]?.onStored();
    const latency = ackLatency.snapshot();
    expect(latency.count).toBe(2);
    expect(readQuantileMs(latency, 0)).toBeGreaterThan(50);
  });

  it('tell what waits for room', async () => {
    const client = await connect();
    controlled.setFull(true);
    client.send(publishPacket({ topic: 't', qos: 0, payload: 'abc' }));
    client.send(publishPacket({ topic: 't', qos: 0, payload: 'def' }));
    await vi.waitFor(() => expect(controlled.broker.waiting().packets).toBe(2));
    expect(controlled.broker.waiting().bytes).toBeGreaterThan(6);
    controlled.setFull(false);
    await vi.waitFor(() => expect(controlled.broker.waiting()).toEqual({ packets: 0, bytes: 0 }));
  });
});
