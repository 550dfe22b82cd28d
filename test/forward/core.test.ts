import type { NatsConnection } from 'nats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import { openObserver, openTestForwarder, openTestLog, until, uplink } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let server: TestNatsServer;
let observer: NatsConnection;
let forwarder: Forwarder;
let log: ReturnType<typeof openTestLog>;
let received: string[];

beforeEach(async () => {
  server = await startNatsServer({ jetstream: false });
  log = openTestLog();
  forwarder = await openTestForwarder(server.url, log.log, { jetstream: false });
  await observe();
});

afterEach(async () => {
  server?.resume();
  await forwarder?.close();
  await observer?.close();
  await server?.stop();
});

async function observe(): Promise<void> {
  received = [];
  observer = await openObserver(server.url);
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
