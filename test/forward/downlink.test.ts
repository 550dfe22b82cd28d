import type { NatsConnection } from 'nats';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type Downlink,
  type DownlinkClaim,
  openDownlink,
} from '../../src/server/forward/commands/downlink.js';
import { connectNats, type NatsLink } from '../../src/server/forward/connection/nats-link.js';
import { noNatsSettings, openObserver, openTestLog, until } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

const undo: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Setup {
  readonly server: TestNatsServer;
  readonly link: NatsLink;
  readonly downlink: Downlink;
  readonly log: ReturnType<typeof openTestLog>;
  /** Topics delivered. */
  readonly delivered: string[];
}

const gateway = { natsUser: 'gateway', natsPassword: 'gateway' };
/** The user of the gateway, with these subjects to subscribe to, and one who may do anything. */
const users = (allowed: readonly string[]) => `
  authorization { users = [
    { user: admin, password: admin }
    { user: gateway, password: gateway, permissions: { subscribe: { allow: ${JSON.stringify(allowed)} } } }
  ] }`;

async function open(configExtra?: string, settings: Partial<typeof gateway> = {}): Promise<Setup> {
  const server = await startNatsServer({
    jetstream: false,
    ...(configExtra === undefined ? {} : { configExtra }),
  });
  undo.push(() => server.stop());
  undo.push(() => server.resume());
  const log = openTestLog();
  const link = await connectNats({ ...noNatsSettings, natsUrl: server.url, ...settings }, log.log);
  undo.push(() => link.close());
  const downlink = openDownlink(link, log.log);
  undo.push(() => downlink.close());
  const delivered: string[] = [];
  downlink.deliver = ({ topic }) => void delivered.push(topic);
  return { server, link, downlink, log, delivered };
}

async function observe(server: TestNatsServer, user?: string): Promise<NatsConnection> {
  const observer = await openObserver(server.url, user === undefined ? {} : { user, pass: user });
  undo.push(() => observer.close());
  return observer;
}

function answered(downlink: Downlink, deviceId: string): Promise<DownlinkClaim> {
  return new Promise((resolve) => {
    const claim = downlink.claim(deviceId, () => resolve(claim));
    if (claim.answer !== undefined) resolve(claim);
  });
}

describe('a claim on what is sent to a device', () => {
  it('is answered when what is published from then on arrives', async () => {
    const { server, downlink, delivered } = await open();
    const observer = await observe(server);
    const ids = Array.from({ length: 200 }, (_, index) => `d${index}`);
    for (const id of ids) {
      const claim = await answered(downlink, id);
      expect(claim.answer).toBe('held');
      observer.publish(`cmd.${id}.go`);
      await observer.flush();
    }
    await until(() => delivered.length === ids.length);
    expect(delivered).toEqual(ids.map((id) => `cmd/${id}/go`));
  });

  it('is answered at once where the device is claimed already, and ends with the last one', async () => {
    const { server, downlink, delivered } = await open();
    const observer = await observe(server);
    const first = await answered(downlink, 'd');
    const second = downlink.claim('d');
    expect(second.answer).toBe('held');
    first.release();
    first.release();
    observer.publish('cmd.d.one');
    await until(() => delivered.length === 1);
    second.release();
    const again = await answered(downlink, 'other');
    observer.publish('cmd.d.two');
    observer.publish('cmd.other.three');
    await until(() => delivered.length === 2);
    expect(delivered).toEqual(['cmd/d/one', 'cmd/other/three']);
    expect(again.answer).toBe('held');
  });

  it('is answered with what NATS says when the user has no permission, and holds once it has', async () => {
    const { server, downlink, log, delivered } = await open(users(['_INBOX.>', 'cmd.good.>']), gateway);
    const [bad, good, other] = await Promise.all(
      ['bad', 'good', 'other'].map((id) => answered(downlink, id)),
    );
    expect(good?.answer).toBe('held');
    for (const claim of [bad, other]) {
      expect(claim?.answer).toEqual({ refused: expect.stringContaining('Permissions Violation') });
    }
    expect(log.count('downlink_refused')).toBe(2);

    await server.reconfigure(users(['>']));
    // Somebody else who asks is not answered with what was said before.
    const anew = await answered(downlink, 'bad');
    expect(anew.answer).toBe('held');
    expect(bad?.answer).toBe('held');
    // The others are asked for again when one of them holds.
    await until(() => other?.answer === 'held');
    expect(log.count('downlink_held')).toBe(2);
    (await observe(server, 'admin')).publish('cmd.other.go');
    await until(() => delivered.includes('cmd/other/go'));
  });

  it('is no longer answered to be held when the permission is taken back', async () => {
    const { server, downlink, log } = await open(users(['>']), gateway);
    const claim = await answered(downlink, 'd');
    await server.reconfigure(users(['_INBOX.>']));
    await until(() => claim.answer !== 'held');
    expect(claim.answer).toEqual({ refused: expect.stringContaining('Permissions Violation') });
    expect(log.count('downlink_refused')).toBe(1);
  });

  it('over the maximum of subscriptions is refused, and no other with it', async () => {
    const { downlink, log } = await open('max_subscriptions: 5');
    const claims = await Promise.all(
      Array.from({ length: 9 }, (_, index) => answered(downlink, `d${index}`)),
    );
    // Those under one PING are refused together, unnamed, and asked for again one by one.
    await until(() => claims.every(({ answer }) => answer !== undefined));
    const held = claims.filter(({ answer }) => answer === 'held');
    expect(held).toHaveLength(5);
    const refused = claims.filter((claim) => !held.includes(claim));
    for (const { answer } of refused)
      expect(answer).toEqual({ refused: expect.stringMatching(/maximum subscriptions exceeded/i) });
    expect(log.count('downlink_refused')).toBe(4);
    held[0]?.release();
    expect((await answered(downlink, 'late')).answer).toBe('held');
  });

  it('is answered by a frozen server when that goes on, and by the next connection when it does not', async () => {
    const { server, downlink } = await open();
    await server.pause();
    const claim = downlink.claim('d');
    await until(() => !downlink.reachable);
    expect(claim.answer).toBeUndefined();
    server.resume();
    await until(() => claim.answer === 'held');

    await server.kill();
    await until(() => claim.answer === undefined);
    const meanwhile = downlink.claim('e');
    expect(meanwhile.answer).toBeUndefined();
    await server.restart();
    await until(() => claim.answer === 'held' && meanwhile.answer === 'held');
  });

  it('holds for a whole fleet again after a reconnect', async () => {
    const { server, downlink, delivered } = await open();
    const ids = Array.from({ length: 3_000 }, (_, index) => `d${index}`);
    const claims = ids.map((id) => downlink.claim(id));
    await until(() => claims.every(({ answer }) => answer === 'held'));
    await server.kill();
    await until(() => claims.every(({ answer }) => answer === undefined));
    await server.restart();
    await until(() => claims.every(({ answer }) => answer === 'held'));
    const observer = await observe(server);
    for (const id of ids) observer.publish(`cmd.${id}.go`);
    await until(() => delivered.length === ids.length);
  });

  it('of a device that is refused by many names is asked for again without a flood', async () => {
    const { server, downlink, log } = await open(users(['_INBOX.>']), gateway);
    const claims = await Promise.all(
      Array.from({ length: 300 }, (_, index) => answered(downlink, `d${index}`)),
    );
    expect(claims.every(({ answer }) => typeof answer === 'object')).toBe(true);
    expect(log.count('downlink_refused')).toBeLessThanOrEqual(20);
    await server.reconfigure(users(['>']));
    // Nobody asks: that is noticed by itself.
    await until(() => claims.every(({ answer }) => answer === 'held'));
  });
});

it('a listener hears of no PING that was sent before it listened', async () => {
  const { server, link } = await open();
  await server.pause();
  link.ping();
  const heard: string[] = [];
  link.listen({
    connected: () => {},
    disconnected: () => {},
    pinged: () => void heard.push('pinged'),
    ponged: () => void heard.push('ponged'),
  });
  link.ping();
  server.resume();
  await until(() => heard.includes('ponged'));
  expect(heard.slice(0, 2)).toEqual(['pinged', 'ponged']);
});
