import type { NatsConnection } from 'nats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Forwarder, UplinkMessage } from '../../src/server/forward/forwarder.js';
import { openObserver, openTestForwarder, openTestLog, until, uplink } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

/** A busy machine lets NATS answer late: what is late is sent again, and this is not about that. */
const core = { jetstream: false, limits: { ackTimeoutMs: 60_000 } };

let server: TestNatsServer;
let observer: NatsConnection;
let forwarder: Forwarder;
let log: ReturnType<typeof openTestLog>;
let received: string[];

beforeEach(async () => {
  server = await startNatsServer({ jetstream: false });
  log = openTestLog();
  forwarder = await openTestForwarder(server.url, log.log, core);
  await observe();
});

afterEach(async () => {
  server?.resume();
  await forwarder?.close();
  await observer?.close();
  await server?.stop();
});

async function observe(credentials?: { user: string; pass: string }): Promise<void> {
  received = [];
  observer = await openObserver(server.url, credentials);
  observer.subscribe('raw.>', { callback: (_error, message) => void received.push(message.string()) });
  await observer.flush();
}

describe('the core NATS forwarder', () => {
  it('confirms what the server has taken, in order, and NATS clients receive it', async () => {
    const lane = forwarder.openLane();
    const confirmed: string[] = [];
    const names = Array.from({ length: 2_000 }, (_, index) => String(index));
    for (const name of names) lane.publish(uplink(name, { onStored: () => confirmed.push(name) }));
    expect(confirmed).toEqual([]);
    expect(await forwarder.drain(5_000)).toBe(0);
    expect(confirmed).toEqual(names);
    await until(() => received.length === names.length);
    expect(received).toEqual(names);
  });

  it('confirms a single message without waiting for others', async () => {
    let confirmed = 0;
    forwarder.openLane().publish(uplink('a', { onStored: () => (confirmed += 1) }));
    await until(() => confirmed === 1);
  });

  it('confirms nothing while the server is frozen', async () => {
    await server.pause();
    const confirmed: string[] = [];
    const lane = forwarder.openLane();
    for (let index = 0; index < 10; index += 1) {
      lane.publish(uplink(String(index), { onStored: () => confirmed.push(String(index)) }));
    }
    await until(() => log.count('nats_stalled') === 1);
    expect(confirmed).toEqual([]);
    server.resume();
    await until(() => confirmed.length === 10);
  });

  it('sends again what was not confirmed when the connection was lost', async () => {
    await server.pause();
    const confirmed: string[] = [];
    const lane = forwarder.openLane();
    for (let index = 0; index < 10; index += 1) {
      lane.publish(uplink(String(index), { onStored: () => confirmed.push(String(index)) }));
    }
    await observer.close();
    await server.kill();
    await server.restart();
    await observe();
    await until(() => confirmed.length === 10);
    expect(confirmed).toEqual(Array.from({ length: 10 }, (_, index) => String(index)));
    expect(forwarder.state().counters.retriedReconnect).toBe(10);
  });

  it('slows senders without confirmation, and loses none of their messages', async () => {
    const lane = forwarder.openLane();
    let given = 0;
    await new Promise<void>((resolve) => {
      const give = () => {
        while (given < 20_000) {
          if (forwarder.fullFor(false)) {
            forwarder.whenReady(give, false);
            return;
          }
          given += 1;
          lane.publish(uplink(String(given), { confirm: false }));
        }
        resolve();
      };
      give();
    });
    await until(() => received.length === 20_000);
    expect(forwarder.state().counters).toMatchObject({ sent: 20_000, dropped: 0 });
  });
});

describe('the core NATS forwarder, with a user who may not publish everywhere', () => {
  /** Starts all anew. The user of the observer may do everything. */
  async function restrict(deny: string[], configExtra = ''): Promise<void> {
    await forwarder.close();
    await observer.close();
    await server.stop();
    const gateway = `{ user: gateway, password: x, permissions: { publish: { deny: ${JSON.stringify(deny)} } } }`;
    const users = `authorization { users: [${gateway}, { user: observer, password: x }] }`;
    server = await startNatsServer({ jetstream: false, configExtra: `${users}\n${configExtra}` });
    const url = server.url.replace('//', '//gateway:x@');
    forwarder = await openTestForwarder(url, log.log, core);
    await observe({ user: 'observer', pass: 'x' });
  }

  const to = (subject: string, options: Partial<UplinkMessage> = {}) =>
    uplink(subject, { subject: Buffer.from(subject), ...options });

  it('confirms nothing that the server refuses, tries it again, and holds up nobody else', async () => {
    await restrict(['raw.denied']);
    let confirmedDenied = 0;
    forwarder.openLane().publish(to('raw.denied', { onStored: () => (confirmedDenied += 1) }));
    const retried = (times: number) => forwarder.state().counters.retriedRefused >= times;
    await until(() => retried(1));
    const lane = forwarder.openLane();
    const confirmed: string[] = [];
    const expected: string[] = [];
    while (!retried(4)) {
      const subject = `raw.m${expected.length}`;
      expected.push(subject);
      lane.publish(to(subject, { onStored: () => confirmed.push(subject) }));
      await until(() => confirmed.length === expected.length);
    }
    expect(confirmedDenied).toBe(0);
    expect(forwarder.state()).toMatchObject({ inFlight: 1, holdingLanes: 1 });
    await until(() => received.length >= expected.length);
    expect(received).toEqual(expected);
    expect(log.lines.filter(({ event }) => event === 'uplink_not_stored')).toMatchObject([
      { cause: 'publish_denied', detail: 'the user may not publish to raw.denied' },
    ]);
    expect(log.count('nats_error')).toBe(1);
  });

  it('tells what was refused from what was sent around it, of every quality of service', async () => {
    await restrict(['raw.d.>', 'raw.plain']);
    const confirmed: string[] = [];
    const publish = (name: string) =>
      forwarder.openLane().publish(to(name, { onStored: () => confirmed.push(name) }));
    publish('raw.d.first');
    await until(() => forwarder.state().counters.retriedRefused === 1);
    const names = Array.from({ length: 1_000 }, (_, index) => `raw.${index % 3 === 0 ? 'd' : 'a'}.${index}`);
    const allowed = names.filter((name) => name.startsWith('raw.a'));
    for (const name of names) {
      publish(name);
      forwarder.openLane().publish(to('raw.plain', { confirm: false }));
    }
    await until(() => confirmed.length >= allowed.length);
    await until(() => forwarder.state().counters.retriedRefused >= 2 * (names.length - allowed.length));
    expect(confirmed).toEqual(allowed);
    await until(() => received.length >= allowed.length);
    expect(received).toEqual(allowed);
  });

  it('confirms what was sent together with the first that is refused, also where the account maps that one', async () => {
    await restrict(['hidden.>'], 'mappings = { "raw.mapped": "hidden.mapped" }');
    const confirmed: string[] = [];
    const names = ['raw.mapped', 'raw.a', 'raw.b', 'raw.mapped', 'raw.c'];
    for (const name of names)
      forwarder.openLane().publish(to(name, { onStored: () => confirmed.push(name) }));
    await until(() => confirmed.length === 3 && forwarder.state().counters.retriedRefused >= 10);
    expect(confirmed.toSorted()).toEqual(['raw.a', 'raw.b', 'raw.c']);
    const [trouble] = log.lines.filter(({ event }) => event === 'uplink_not_stored');
    expect(trouble?.detail).toBe('the user may not publish to hidden.mapped');
  });

  it('confirms in order, and each once, what a lane sends while others are refused', async () => {
    await restrict(['raw.denied']);
    const names = Array.from({ length: 2_000 }, (_, index) => String(index));
    const confirmed: string[] = [];
    let confirmedDenied = 0;
    const lane = forwarder.openLane();
    const publishDenied = () =>
      forwarder.openLane().publish(to('raw.denied', { onStored: () => (confirmedDenied += 1) }));
    // Before it is known that NATS refuses something, what was sent beside it is sent again, behind what follows.
    publishDenied();
    await until(() => forwarder.state().counters.retriedRefused > 0);
    for (const [index, name] of names.entries()) {
      if (index % 100 === 0) publishDenied();
      lane.publish(uplink(name, { onStored: () => confirmed.push(name) }));
      if (index % 50 === 0) await forwarder.drain(1);
    }
    await until(() => confirmed.length >= names.length);
    expect(confirmed).toEqual(names);
    expect(confirmedDenied).toBe(0);
  });
});
