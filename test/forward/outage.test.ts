import type { NatsConnection } from 'nats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectNats, type NatsLink } from '../../src/server/forward/connection/nats-link.js';
import type { Forwarder, Lane } from '../../src/server/forward/forwarder.js';
import { startJetStreamForwarder } from '../../src/server/forward/jetstream-forwarder.js';
import { openStreamWatch } from '../../src/server/forward/stream/stream-watch.js';
import {
  noNatsSettings,
  noPromise,
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  testLimits,
  until,
  uplink,
} from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let server: TestNatsServer;
let forwarder: Forwarder | undefined;
let log: ReturnType<typeof openTestLog>;

beforeEach(async () => {
  server = await startNatsServer();
  log = openTestLog();
});

afterEach(async () => {
  server?.resume();
  await forwarder?.close();
  forwarder = undefined;
  await server?.stop();
});

/** A sender that gives numbered messages as fast as it may, and remembers which were confirmed. */
function openSender(
  subject: Forwarder,
  name: string,
): { confirmed: string[]; given: () => number; stop(): void } {
  const lane: Lane = subject.openLane();
  const confirmed: string[] = [];
  let given = 0;
  let stopped = false;
  const give = () => {
    while (!stopped) {
      if (subject.fullFor(true)) {
        subject.whenReady(give);
        return;
      }
      if (lane.inFlight >= 200) return;
      const payload = `${name}:${given}`;
      given += 1;
      lane.publish(
        uplink(payload, {
          onStored: () => {
            confirmed.push(payload);
            if (lane.inFlight < 100) setImmediate(give);
          },
        }),
      );
    }
  };
  give();
  return {
    confirmed,
    given: () => given,
    stop: () => {
      stopped = true;
    },
  };
}

/** Payloads without repetitions, in the order of their first appearance. */
function unique(payloads: readonly string[]): string[] {
  return [...new Set(payloads)];
}

async function stored(): Promise<string[]> {
  const observer: NatsConnection = await openObserver(server.url);
  try {
    return await readStream(observer);
  } finally {
    await observer.close();
  }
}

describe.each(['batch', 'plain'] as const)('when NATS goes away, NATS_INGEST=%s', (ingest) => {
  it('loses nothing that was confirmed over three kills under load, and stores the rest in order', async () => {
    forwarder = await openTestForwarder(server.url, log.log, { ingest });
    const subject = forwarder;
    const senders = Array.from({ length: 5 }, (_, index) => openSender(subject, `s${index}`));
    for (let round = 1; round <= 3; round += 1) {
      await until(() => senders.every((sender) => sender.confirmed.length >= round * 2_000));
      await server.kill();
      await until(() => log.count('nats_disconnected') === round);
      expect(subject.state().connected).toBe(false);
      await server.restart();
      await until(() => log.count('nats_connected') === round + 1);
    }
    for (const sender of senders) sender.stop();
    expect(await subject.drain(20_000)).toBe(0);
    const all = await stored();
    for (const [index, sender] of senders.entries()) {
      expect(sender.confirmed.length).toBe(sender.given());
      const own = unique(all.filter((payload) => payload.startsWith(`s${index}:`)));
      expect(own).toEqual(Array.from({ length: sender.given() }, (_, number) => `s${index}:${number}`));
    }
    expect(subject.state().counters.retriedReconnect).toBeGreaterThan(0);
  });

  it('creates the stream again when the server comes back without its data', async () => {
    forwarder = await openTestForwarder(server.url, log.log, { ingest });
    const { port } = server;
    await server.stop();
    server = await startNatsServer({ port });
    let confirmed = 0;
    forwarder.openLane().publish(uplink('a', { onStored: () => (confirmed += 1) }));
    await until(() => confirmed === 1);
    expect(log.count('stream_created')).toBe(2);
  });

  it('drops and counts what needs no confirmation, and does not stop its senders', async () => {
    forwarder = await openTestForwarder(server.url, log.log, { ingest });
    const lane = forwarder.openLane();
    await server.kill();
    await until(() => forwarder?.state().connected === false);
    for (let index = 0; index < 10_000; index += 1) {
      expect(forwarder.fullFor(false)).toBe(false);
      lane.publish(uplink('x', { confirm: false }));
    }
    expect(forwarder.state().counters).toMatchObject({ dropped: 10_000, sent: 0 });
  });

  it('tells each change once', async () => {
    forwarder = await openTestForwarder(server.url, log.log, { ingest });
    await server.kill();
    await until(() => log.count('nats_reconnect_failed') > 0);
    const endMs = performance.now() + 1_500;
    await until(() => performance.now() > endMs);
    expect(log.count('nats_reconnect_failed')).toBe(1);
    expect(forwarder.state().detail).toContain('refuses connections');
    await server.restart();
    await until(() => forwarder?.state().connected === true);
    expect(log.count('nats_disconnected')).toBe(1);
    expect(forwarder.state().detail).toBe(server.url);
  });
});

describe.each(['batch', 'plain'] as const)('when NATS is frozen, NATS_INGEST=%s', (ingest) => {
  async function openOverLink(): Promise<{ link: NatsLink; subject: Forwarder }> {
    const link = await connectNats({ ...noNatsSettings, natsUrl: server.url }, log.log);
    const wanted = { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined };
    forwarder = startJetStreamForwarder({
      link,
      limits: { ...testLimits, maxInFlightBytes: 4_194_304 },
      watch: await openStreamWatch(link, wanted, noPromise(), log.log),
      domain: undefined,
      inboxPrefix: '_INBOX',
      ingest,
      log: log.log,
    });
    return { link, subject: forwarder };
  }

  it('writes no more than the bounds, confirms nothing, and delivers everything afterwards', async () => {
    const { link, subject } = await openOverLink();
    const connection = link.connection;
    if (connection === undefined) throw new Error('not connected');
    await server.pause();
    const before = connection.stats().outBytes;
    const lane = subject.openLane();
    let confirmed = 0;
    let given = 0;
    while (!subject.fullFor(true)) {
      const message = uplink(`${given}:`.padEnd(1_000, 'x'), { onStored: () => (confirmed += 1) });
      lane.publish(message);
      given += 1;
    }
    const plain = uplink('y'.repeat(1_000), { confirm: false });
    const give = () => {
      if (subject.state().counters.dropped > 20_000) return;
      for (let index = 0; index < 100; index += 1) {
        if (subject.fullFor(false)) {
          subject.whenReady(give, false);
          return;
        }
        lane.publish(plain);
      }
      setImmediate(give);
    };
    give();
    await until(() => subject.state().counters.dropped > 20_000);
    await until(() => log.count('nats_stalled') === 1);
    expect(confirmed).toBe(0);
    expect(subject.state()).toMatchObject({ connected: false, inFlight: given });
    // 4 MiB with confirmation, 4 MiB without, and one message over each.
    expect(connection.stats().outBytes - before).toBeLessThan(2 * 4_194_304 + 4_096);
    const sentAtOnce = connection.stats().outMsgs;
    const endMs = performance.now() + 2_500;
    await until(() => performance.now() > endMs);
    expect(connection.stats().outMsgs).toBe(sentAtOnce);
    server.resume();
    await until(() => confirmed === given);
    expect(subject.state().counters).toMatchObject({ retriedTimeout: 0, retriedReconnect: 0 });
    const numbered = (await stored())
      .filter((payload) => payload.includes(':'))
      .map((payload) => Number(payload.split(':')[0]));
    expect(numbered).toEqual(Array.from({ length: given }, (_, index) => index));
  });

  it('gives the connection up, and everything arrives over the next one', async () => {
    const { link, subject } = await openOverLink();
    const lane = subject.openLane();
    // More than the kernel buffers, so that the end of the old connection cannot be written.
    await server.pause();
    const confirmed = new Set<number>();
    let given = 0;
    while (!subject.fullFor(true)) {
      const number = given;
      lane.publish(uplink(`${number}:`.padEnd(10_000, 'x'), { onStored: () => confirmed.add(number) }));
      given += 1;
    }
    // After eight seconds of silence, which begin anew whenever this process stood still.
    await until(() => log.count('nats_disconnected') === 1, 120_000);
    expect(link.connection).toBeUndefined();
    expect(confirmed.size).toBe(0);
    server.resume();
    await until(() => confirmed.size === given);
    const numbers = unique((await stored()).map((payload) => payload.split(':')[0] ?? ''));
    expect(numbers).toEqual(Array.from({ length: given }, (_, index) => String(index)));
  });
});
