import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  type ConnectOptions,
  connectPacket,
  disconnectPacket,
  openRawClient,
  pingreqPacket,
  publishPacket,
  type RawClient,
  subscribePacket,
  unsubscribePacket,
} from '../support/raw-client.js';

/** What waits for NATS, whose answers the test plays. */

let controlled: ControlledBroker;
let clients: RawClient[];

beforeEach(async () => {
  clients = [];
  controlled = await openControlledBroker();
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
  return client;
}

async function connected(options: ConnectOptions = {}): Promise<RawClient> {
  const client = await connect(options);
  const { type, body } = await client.next();
  expect([type, body[1]]).toEqual([2, 0]);
  return client;
}

const suback = 9;
const pingresp = 13;
const refused = { refused: 'no' };

async function expectPing(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  expect((await client.next()).type).toBe(pingresp);
}

describe('a SUBSCRIBE to commands', () => {
  it('is answered when NATS has answered, and what came behind it after that, in order', async () => {
    controlled.downlinkAnswer = undefined;
    const client = await connected();
    client.send(
      subscribePacket(1, [['cmd/dev1/#', 1]]),
      publishPacket({ topic: 'raw/dev1', qos: 1, packetId: 7 }),
      unsubscribePacket(2, ['cmd/dev1/#']),
      subscribePacket(3, [['cmd/dev1/a', 0]]),
    );
    await expectPing(client);
    await expectPing(client);
    expect(controlled.taken).toHaveLength(0);
    expect(controlled.core.live.find('r1-0')?.waits).toMatchObject({ cause: 'subscription' });
    controlled.answerDownlink('held');
    const answers = [await client.next(), await client.next(), await client.next(), await client.next()];
    expect(answers.map(({ type }) => type).filter((type) => type !== 4)).toEqual([suback, 11, suback]);
    expect(answers[0]?.body[2]).toBe(1);
    expect(controlled.claimed).toEqual(['dev1']);
    expect(controlled.core.live.find('r1-0')?.waits).toBeNull();
    client.send(disconnectPacket);
    await client.waitClosed();
    expect(controlled.claimed).toEqual([]);
  });

  it('that NATS refuses is answered 0x80, and what the client had before stays', async () => {
    const client = await connected();
    client.send(subscribePacket(1, [['cmd/dev1/a', 1]]));
    expect((await client.next()).body[2]).toBe(1);
    controlled.answerDownlink(refused);
    client.send(
      subscribePacket(2, [
        ['cmd/dev2/#', 1],
        ['cmd/dev1/b', 1],
      ]),
    );
    expect([...(await client.next()).body.subarray(2)]).toEqual([0x80, 0x80]);
    expect(controlled.claimed).toEqual(['dev1']);
    controlled.command('cmd/dev1/b', Buffer.from('b'));
    controlled.command('cmd/dev1/a', Buffer.from('a'));
    expect((await client.next()).body.toString()).toContain('cmd/dev1/a');
    expect(JSON.stringify(controlled.core.live.find('r1-0'))).toContain('NATS refuses it: no');
  });

  it('of a client that leaves meanwhile claims nothing any more', async () => {
    controlled.downlinkAnswer = undefined;
    const client = await connected();
    client.send(subscribePacket(1, [['cmd/dev1/#', 1]]));
    await expectPing(client);
    expect(controlled.claimed).toEqual(['dev1']);
    client.socket.resetAndDestroy();
    await vi.waitFor(() => expect(controlled.claimed).toEqual([]));
  });

  it('waits only where a filter that the policy allows takes commands', async () => {
    await controlled.close();
    controlled = await openControlledBroker({ acl: 'open' });
    controlled.downlinkAnswer = undefined;
    const client = await connected();
    client.send(
      subscribePacket(1, [
        ['cmd/dev2/#', 0],
        ['raw/dev1/#', 1],
        ['$SYS/#', 0],
        ['cmd', 0],
      ]),
    );
    expect([...(await client.next()).body.subarray(2)]).toEqual([0, 1, 0x80, 0]);
    expect(controlled.claimed).toEqual([]);
    for (const filter of ['#', '+/dev1/x', 'cmd/+/#', 'cmd/dev1', '+/+']) {
      client.send(subscribePacket(2, [[filter, 0]]));
      await vi.waitFor(() => expect(controlled.claimed).toEqual(['dev1']));
      controlled.answerDownlink('held');
      expect([...(await client.next()).body.subarray(2)], filter).toEqual([0]);
      client.send(unsubscribePacket(3, [filter]));
      expect((await client.next()).type).toBe(11);
      expect(controlled.claimed).toEqual([]);
      controlled.downlinkAnswer = undefined;
    }
  });
});

describe('a session that takes commands', () => {
  async function leaveSession(): Promise<void> {
    const client = await connected({ clean: false });
    client.send(subscribePacket(1, [['cmd/dev1/#', 1]]));
    expect((await client.next()).type).toBe(suback);
    client.send(disconnectPacket);
    await client.waitClosed();
    controlled.downlinkAnswer = undefined;
  }

  it('is gone on with when NATS has answered', async () => {
    await leaveSession();
    const client = await connect({ clean: false });
    await vi.waitFor(() => expect(controlled.claimed).toEqual(['dev1', 'dev1']));
    controlled.command('cmd/dev1/x', Buffer.from('early'));
    expect(client.received).toEqual([]);
    controlled.answerDownlink('held');
    expect([...(await client.next()).body]).toEqual([1, 0]);
    expect((await client.next()).body.toString()).toContain('early');
    expect(controlled.claimed).toEqual(['dev1']);
  });

  it('is gone on with all the same when NATS does not answer', async () => {
    await leaveSession();
    const client = await connect({ clean: false });
    expect([...(await client.next()).body]).toEqual([1, 0]);
  });

  it('is not gone on with when NATS refuses', async () => {
    await leaveSession();
    const client = await connect({ clean: false });
    await vi.waitFor(() => expect(controlled.claimed).toEqual(['dev1', 'dev1']));
    controlled.answerDownlink(refused);
    expect([...(await client.next()).body]).toEqual([0, 0]);
    expect(controlled.claimed).toEqual([]);
    controlled.answerDownlink('held');
    client.send(subscribePacket(1, [['cmd/dev1/#', 1]]));
    expect((await client.next()).body[2]).toBe(1);
  });

  it('is not gone on with by a device that is revoked, or a client that connects again, meanwhile', async () => {
    await leaveSession();
    const first = await connect({ clean: false });
    await vi.waitFor(() => expect(controlled.claimed).toHaveLength(2));
    const second = await connect({ clean: false });
    await first.waitClosed();
    expect(first.received).toEqual([]);
    controlled.revoke('dev1');
    await second.waitClosed();
    expect(second.received.map(({ body }) => body[1])).not.toContain(0);
    await vi.waitFor(() => expect(controlled.claimed).toEqual([]));
  });
});
