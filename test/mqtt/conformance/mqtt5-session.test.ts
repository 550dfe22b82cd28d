import { describe, expect, it, vi } from 'vitest';
import { packet, type RawClient } from '../../support/raw-client.js';
import { disconnect5Packet, Id, properties, property, readDisconnect } from '../../support/raw-mqtt5.js';
import { disconnect, expectQuiet, type LoginOptions, nextOf, openHarness, ping } from './harness.js';
import {
  connect5,
  connected5,
  expectDisconnect,
  jump,
  nextPublish,
  none,
  publish5,
  subscribe5,
  subscribed5,
  version5,
} from './mqtt5.js';

const harness = openHarness({ acl: 'open' });
const bounded = openHarness({ acl: 'open', maxSessionExpiry: '1m' });

const expiring = (seconds: number, more: Partial<LoginOptions> = {}): LoginOptions => ({
  clean: false,
  properties: property(Id.sessionExpiry, seconds),
  ...more,
});
/** Whether the client finds its session again. */
async function isPresent(options: LoginOptions, h = harness): Promise<boolean> {
  const { client, connack } = await connect5(h, { ...options, clean: false });
  await h.leave(client);
  return connack.flags === 1;
}

describe('MQTT 5, the session', () => {
  it('[MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.1.4-4] is discarded with Clean Start', async () => {
    const options = expiring(100, { clientId: 'clean' });
    await harness.leave(await subscribed5(harness, [['clean', 1]], options));
    const { client, connack } = await connect5(harness, { ...options, clean: true });
    expect(connack.flags).toBe(0);
    await harness.publish({ topic: 'clean', qos: 1 });
    await expectQuiet(client);
  });

  it('[MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.2.2-3] goes on without it, with its subscriptions and what came meanwhile', async () => {
    const options = expiring(100, { clientId: 'goes-on' });
    await harness.leave(await subscribed5(harness, [['goes-on', 1]], options));
    await harness.publish({ topic: 'goes-on', qos: 1, payload: 'meanwhile' });
    const { client, connack } = await connect5(harness, options);
    expect(connack.flags).toBe(1);
    expect((await nextPublish(client)).payload).toBe('meanwhile');
  });

  it('[MQTT-3.1.2-6] [MQTT-3.2.2-3] begins where there is none', async () => {
    expect((await connect5(harness, expiring(100, { clientId: 'begins' }))).connack.flags).toBe(0);
  });

  it.each([
    ['without an expiry', none],
    ['with an expiry of 0', property(Id.sessionExpiry, 0)],
  ])('[MQTT-4.1.0-2] ends with the connection %s, though it was not begun anew', async (_, list) => {
    const options = { clientId: 'ends', clean: false, properties: list };
    await harness.leave(await connected5(harness, options));
    expect(await isPresent(options)).toBe(false);
  });

  it('[MQTT-4.1.0-2] [MQTT-3.2.2-3] ends when it has expired, and not before', async () => {
    const options = expiring(100, { clientId: 'expires' });
    await harness.leave(await subscribed5(harness, [['expires', 1]], options));
    jump(90);
    expect(await isPresent(options)).toBe(true);
    jump(101);
    expect(await isPresent(options)).toBe(false);
  });

  it('[MQTT-4.1.0-1] does not expire while the connection is open', async () => {
    const options = expiring(1, { clientId: 'open' });
    const client = await subscribed5(harness, [['open', 1]], options);
    jump(1_000);
    await ping(client);
    await harness.publish({ topic: 'open', qos: 1 });
    expect((await nextPublish(client)).topic).toBe('open');
  });

  it('never expires with 0xFFFFFFFF, unless a setting bounds it', async () => {
    const options = expiring(0xffff_ffff, { clientId: 'ever' });
    await harness.leave(await connected5(harness, options));
    await bounded.leave(await connected5(bounded, options));
    jump(100_000);
    expect(await isPresent(options)).toBe(true);
    expect(await isPresent(options, bounded)).toBe(false);
  });

  it('is kept as long as the last connection has asked for', async () => {
    const options = expiring(100, { clientId: 'asked' });
    await harness.leave(await connected5(harness, options));
    await harness.leave(await connected5(harness, { ...options, properties: none }));
    expect(await isPresent(options)).toBe(false);
  });

  it('is that of 3.1.1 too: a client may change its version', async () => {
    const options = { clientId: 'versions', clean: false };
    await harness.leave(await harness.subscribed([['versions', 1]], options));
    await harness.publish({ topic: 'versions', qos: 1, payload: 'kept' });
    const { client, connack } = await connect5(harness, expiring(100, options));
    expect(connack.flags).toBe(1);
    expect((await nextPublish(client)).payload).toBe('kept');
    await harness.leave(client);
    expect((await harness.resumed(options)).sessionPresent).toBe(1);
  });
});

describe('MQTT 5, DISCONNECT of a client', () => {
  it.each([
    [100, 10, 20, false],
    [10, 100, 20, true],
    [100, 0, 0, false],
  ])('with a session expiry: %i, then %i, is there after %i: %s', async (asked, changed, after, there) => {
    const options = expiring(asked, { clientId: 'changes' });
    const client = await connected5(harness, options);
    client.send(disconnect5Packet(0, property(Id.sessionExpiry, changed)));
    await client.waitClosed();
    jump(after);
    expect(await isPresent(options)).toBe(there);
  });

  it('with a session expiry over the bound has that of the bound', async () => {
    const options = expiring(10, { clientId: 'bounded' });
    const client = await connected5(bounded, options);
    client.send(disconnect5Packet(0, property(Id.sessionExpiry, 1_000)));
    await client.waitClosed();
    jump(61);
    expect(await isPresent(options, bounded)).toBe(false);
  });

  it('with a session expiry where CONNECT had none is a protocol error, and no DISCONNECT', async () => {
    const will = { topic: 'zero/will', payload: 'will' };
    const watcher = await subscribed5(harness, [['zero/#', 0]]);
    const client = await connected5(harness, { will });
    client.send(disconnect5Packet(0, property(Id.sessionExpiry, 5)));
    await expectDisconnect(client, 0x82);
    expect((await nextPublish(watcher)).payload).toBe('will');
  });

  it('[MQTT-3.14.4-1] nothing behind it is processed', async () => {
    const client = await connected5(harness);
    const taken = harness.controlled.taken.length;
    client.send(Buffer.concat([disconnect5Packet(0), publish5({ topic: 'after' })]));
    await client.waitClosed();
    await harness.expectServing();
    expect(harness.controlled.taken.slice(taken).map(({ payload }) => payload.length)).toHaveLength(1);
  });
});

describe('MQTT 5, DISCONNECT of the server', () => {
  it.each([
    ['kicked', 0x98],
    ['revoked', 0x87],
    ['deleted', 0x87],
    ['expired', 0x87],
    ['secret-changed', 0x87],
    ['type-changed', 0x98],
    ['policy-changed', 0x87],
  ] as const)(
    '[MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-2] [MQTT-4.13.2-1] says why: %s',
    async (reason, code) => {
      const client = await connected5(harness, expiring(100, { clientId: 'why' }));
      harness.controlled.core.kick('dev1', reason);
      const { code: told, properties } = readDisconnect(await nextOf(client, disconnect));
      expect(told).toBe(code);
      expect([...properties.keys()]).toEqual([Id.reasonString]);
      await client.waitClosed();
    },
  );

  it.each([
    [30, undefined],
    [200, 1],
  ])(
    '[MQTT-3.14.2-3] in words only where it stays below the maximum packet size of %i',
    async (most, count) => {
      const client = await connected5(harness, { properties: property(Id.maximumPacketSize, most) });
      harness.controlled.core.kick('dev1', 'kicked');
      const received = await nextOf(client, disconnect);
      expect(received.body.length + 2).toBeLessThanOrEqual(most);
      expect(readDisconnect(received).properties.get(Id.reasonString)?.length).toBe(count);
    },
  );

  it('when it stops: 0x8B', async () => {
    const client = await connected5(stopping);
    await stopping.controlled.broker.close();
    await expectDisconnect(client, 0x8b);
  });
});

const stopping = openHarness();

describe('MQTT 5, the will', () => {
  const topic = 'will/a';
  const willOf = (options: Partial<NonNullable<LoginOptions['will']>> = {}) => ({
    topic,
    payload: 'will',
    qos: 1,
    ...options,
  });
  const delayed = (seconds: number) => willOf({ properties: property(Id.willDelay, seconds) });
  const watch = () => subscribed5(harness, [['will/#', 2]]);
  /** Ends the connection without DISCONNECT, and waits until the server knows. */
  const lose = async (client: RawClient) => {
    const { broker } = harness.controlled;
    const count = broker.connectionCount();
    client.destroy();
    await vi.waitFor(() => expect(broker.connectionCount()).toBe(count - 1));
  };
  const expectWill = async (watcher: RawClient) =>
    expect(await nextPublish(watcher)).toMatchObject({ topic, payload: 'will' });

  it('[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] is published once when the connection ends without DISCONNECT', async () => {
    const watcher = await watch();
    const client = await connected5(harness, { will: willOf(), clientId: 'w' });
    client.destroy();
    await expectWill(watcher);
    await harness.leave(await connected5(harness, { clientId: 'w' }));
    await expectQuiet(watcher);
  });

  it('[MQTT-3.14.4-3] [MQTT-3.1.2-10] is not after DISCONNECT 0', async () => {
    const watcher = await watch();
    for (const bytes of [packet(0xe0), disconnect5Packet(0), disconnect5Packet(0, none)]) {
      const client = await connected5(harness, { will: willOf() });
      client.send(bytes);
      await client.waitClosed();
    }
    await expectQuiet(watcher);
  });

  it.each([0x04, 0x80, 0x81, 0x93, 0x99])('is after DISCONNECT %i', async (code) => {
    const watcher = await watch();
    const client = await connected5(harness, { will: willOf() });
    client.send(disconnect5Packet(code));
    await client.waitClosed();
    await expectWill(watcher);
  });

  it('[MQTT-3.1.2-8] is after a protocol error', async () => {
    const watcher = await watch();
    const client = await connected5(harness, { will: willOf() });
    client.send(publish5({ qos: 1, packetId: 0 }));
    await expectWill(watcher);
  });

  it.each([
    [false, '[MQTT-3.1.2-14]'],
    [true, '[MQTT-3.1.2-15]'],
  ])('is kept as it says: retain %s %s', async (retain) => {
    const watcher = await watch();
    const client = await connected5(harness, { will: willOf({ topic: `will/${retain}`, retain }) });
    client.destroy();
    await nextPublish(watcher);
    const late = await connected5(harness);
    await subscribe5(late, [[`will/${retain}`, 0]]);
    if (retain) expect((await nextPublish(late)).retain).toBe(true);
    await expectQuiet(late);
    if (!retain) return;
    await harness.publish({ topic: 'will/true', payload: '', retain: true });
  });

  it('[MQTT-3.1.3-10] has its properties, User Properties in their order', async () => {
    const client = await connected5(harness, {
      will: willOf({
        properties: properties(
          [Id.userProperty, ['b', '1']],
          [Id.contentType, 'text/plain'],
          [Id.userProperty, ['a', '2']],
          [Id.userProperty, ['b', '3']],
        ),
      }),
    });
    const count = harness.controlled.taken.length;
    client.destroy();
    await vi.waitFor(() => expect(harness.controlled.taken.length).toBe(count + 1));
    const headers = Buffer.from(harness.controlled.taken.at(-1)?.headers ?? []).toString();
    expect(headers.split('\r\n').slice(2, -2)).toEqual(['Content-Type: text/plain', 'b: 1', 'a: 2', 'b: 3']);
  });

  it('[MQTT-3.1.2-8] waits for its delay', async () => {
    const watcher = await watch();
    const client = await connected5(harness, expiring(100, { will: delayed(50), clientId: 'delay' }));
    await lose(client);
    jump(40);
    await harness.expectServing();
    await expectQuiet(watcher);
    jump(11);
    await expectWill(watcher);
  });

  it('[MQTT-3.1.2-8] comes with the end of the session where its delay is longer', async () => {
    const watcher = await watch();
    const client = await connected5(harness, expiring(10, { will: delayed(1_000), clientId: 'longer' }));
    await lose(client);
    jump(11);
    await expectWill(watcher);
  });

  it('comes at once where the session ends with the connection', async () => {
    const watcher = await watch();
    const client = await connected5(harness, { will: delayed(1_000), clientId: 'at-once' });
    client.destroy();
    await expectWill(watcher);
  });

  it.each(['after it was lost', 'by a take-over'])(
    '[MQTT-3.1.3-9] is withheld when the client is back within the delay %s',
    async (how) => {
      const watcher = await watch();
      const options = expiring(100, { clientId: 'back' });
      const client = await connected5(harness, { ...options, will: delayed(50) });
      if (how === 'after it was lost') client.destroy();
      const again = await connect5(harness, options);
      expect(again.connack.flags).toBe(1);
      await harness.leave(again.client);
      jump(60);
      await harness.expectServing();
      await expectQuiet(watcher);
    },
  );

  it.each(['after it was lost', 'by a take-over'])(
    'comes when the client is back with Clean Start %s: its session has ended',
    async (how) => {
      const watcher = await watch();
      const options = expiring(100, { clientId: 'anew' });
      const client = await connected5(harness, { ...options, will: delayed(50) });
      if (how === 'after it was lost') client.destroy();
      await connected5(harness, { ...options, clean: true });
      await expectWill(watcher);
    },
  );

  it.each(['after it was lost', 'by a take-over'])(
    '[MQTT-3.1.3-9] comes when the client that would be back %s is refused: it has not gone on with its session',
    async (how) => {
      const watcher = await watch();
      const options = expiring(100, { clientId: 'refused' });
      const client = await connected5(harness, { ...options, will: delayed(50) });
      if (how === 'after it was lost') await lose(client);
      const again = await harness.open();
      // No CONNACK is so short.
      const list = properties([Id.sessionExpiry, 100], [Id.maximumPacketSize, 12]);
      again.send(harness.login({ ...version5, ...options, properties: list }));
      await again.waitClosed();
      await expectQuiet(watcher);
      jump(51);
      await expectWill(watcher);
      expect(await isPresent(options)).toBe(true);
    },
  );

  it('comes with a take-over when it has no delay', async () => {
    const watcher = await watch();
    const options = expiring(100, { clientId: 'no-delay' });
    await connected5(harness, { ...options, will: willOf() });
    await connected5(harness, options);
    await expectWill(watcher);
  });

  it('comes at once when DISCONNECT ends the session and asks for it', async () => {
    const watcher = await watch();
    const client = await connected5(harness, expiring(100, { will: delayed(50), clientId: 'asks' }));
    client.send(disconnect5Packet(4, property(Id.sessionExpiry, 0)));
    await expectWill(watcher);
  });
});
