import { randomBytes } from 'node:crypto';
import type { JetStreamManager, NatsConnection } from 'nats';
import { DiscardPolicy, StorageType } from 'nats';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import {
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  until,
  uplink,
} from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { inCi } from '../support/rounds.js';

let server: TestNatsServer;
let observer: NatsConnection;
let forwarder: Forwarder | undefined;
let log: ReturnType<typeof openTestLog>;

beforeAll(async () => {
  server = await startNatsServer();
  observer = await openObserver(server.url);
});

afterAll(async () => {
  await observer?.close();
  await server?.stop();
});

beforeEach(() => {
  log = openTestLog();
});

afterEach(async () => {
  await forwarder?.close();
  forwarder = undefined;
  const manager = await observer.jetstreamManager();
  for await (const name of manager.streams.names()) await manager.streams.delete(name);
});

let ingest: 'batch' | 'plain' = 'batch';

async function open(options: Parameters<typeof openTestForwarder>[2] = {}): Promise<Forwarder> {
  forwarder = await openTestForwarder(server.url, log.log, { ingest, ...options });
  return forwarder;
}

/** A stream that the forwarder does not make again when it is gone. */
async function addStream(): Promise<JetStreamManager> {
  const manager = await observer.jetstreamManager();
  await manager.streams.add({ name: 'RAW', subjects: ['raw.>'], ...{ allow_atomic: ingest === 'batch' } });
  return manager;
}

async function updateStream(change: Record<string, unknown>): Promise<void> {
  const manager = await observer.jetstreamManager();
  await manager.streams.update('RAW', change);
}

describe.each(['batch', 'plain'] as const)('the JetStream forwarder, NATS_INGEST=%s,', (mode) => {
  // Refused in a batch, messages are tried one by one from the start; sent by themselves, all are refused once before.
  beforeAll(() => {
    ingest = mode;
  });

  it('creates the stream, stores the message with its bytes and headers, and confirms it', async () => {
    const lane = (await open()).openLane();
    const payload = randomBytes(1_000);
    await new Promise<void>((resolve) => lane.publish(uplink(payload, { onStored: () => resolve() })));
    const manager = await observer.jetstreamManager();
    const stored = await manager.streams.getMessage('RAW', { seq: 1 });
    expect(Buffer.compare(stored.data, payload)).toBe(0);
    expect(stored.subject).toBe('raw.abc');
    expect(stored.header.get('Mqtt-Topic')).toBe('raw/abc');
    expect(stored.header.keys()).toEqual(['Mqtt-Topic']);
    const { config } = await manager.streams.info('RAW');
    expect(config).toMatchObject({
      subjects: ['raw.>'],
      storage: StorageType.File,
      discard: DiscardPolicy.New,
    });
    expect(lane.inFlight).toBe(0);
  });

  it('confirms nothing that is not in the stream, and keeps the order of each lane', async () => {
    const subject = await open();
    const confirmed: string[] = [];
    for (let lane = 0; lane < 4; lane += 1) {
      const opened = subject.openLane();
      for (let index = 0; index < 500; index += 1) {
        const name = `${lane}:${index}`;
        opened.publish(
          uplink(name, { subject: Buffer.from(`raw.d${lane}`), onStored: () => confirmed.push(name) }),
        );
      }
    }
    expect(await subject.drain(10_000)).toBe(0);
    const stored = await readStream(observer);
    expect(new Set(stored)).toEqual(new Set(confirmed));
    expect(stored.length).toBe(2_000);
    for (let lane = 0; lane < 4; lane += 1) {
      const own = stored.filter((name) => name.startsWith(`${lane}:`));
      expect(own).toEqual(Array.from({ length: 500 }, (_, index) => `${lane}:${index}`));
    }
  });

  it('reads the answers that came while the process stood still before it takes them for missing', async () => {
    const lane = (await open({ limits: { ackTimeoutMs: 400 } })).openLane();
    let confirmations = 0;
    for (let index = 0; index < 40; index += 1)
      lane.publish(uplink(`${index}`, { onStored: () => (confirmations += 1) }));
    // The messages leave at the end of this turn.
    await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);
    await until(() => confirmations === 40);
    expect(forwarder?.state().counters).toMatchObject({ retriedTimeout: 0, stored: 40 });
  });

  it('stores a message with an id once, however often it is sent', async () => {
    const lane = (await open()).openLane();
    let confirmations = 0;
    for (let attempt = 0; attempt < 3; attempt += 1) {
      lane.publish(uplink('once', { messageId: 'abc:7', onStored: () => (confirmations += 1) }));
    }
    await until(() => confirmations === 3);
    expect(await readStream(observer)).toEqual(['once']);
    const stored = await (await observer.jetstreamManager()).streams.getMessage('RAW', { seq: 1 });
    expect(stored.header.get('Nats-Msg-Id')).toBe('abc:7');
    expect(stored.header.get('Mqtt-Topic')).toBe('raw/abc');
  });

  it('holds what a full stream refuses, and stores it in order when there is room', async () => {
    const lane = (await open()).openLane();
    await updateStream({ max_msgs: 3 });
    const confirmed: string[] = [];
    for (let index = 0; index < 10; index += 1) {
      const name = String(index);
      lane.publish(uplink(name, { onStored: () => confirmed.push(name) }));
    }
    await until(() => log.count('uplink_not_stored') === 1);
    await until(() => (forwarder?.state().counters.retriedRefused ?? 0) > (mode === 'plain' ? 10 : 4));
    expect(confirmed).toEqual(['0', '1', '2']);
    expect(forwarder?.state()).toMatchObject({ inFlight: 7, holdingLanes: 1 });
    await updateStream({ max_msgs: 100 });
    await until(() => confirmed.length === 10);
    expect(await readStream(observer)).toEqual(Array.from({ length: 10 }, (_, index) => String(index)));
    await until(() => log.count('uplink_stored_again') === 1);
    expect(log.count('uplink_not_stored')).toBe(1);
  });

  it('confirms nothing while the stream is deleted, says so once, and goes on when it is created again', async () => {
    const manager = await addStream();
    const lane = (await open()).openLane();
    await manager.streams.delete('RAW');
    const confirmed: string[] = [];
    for (let index = 0; index < 5; index += 1) {
      const name = String(index);
      lane.publish(uplink(name, { onStored: () => confirmed.push(name) }));
    }
    await until(() => (forwarder?.state().counters.retriedRefused ?? 0) > (mode === 'plain' ? 7 : 3));
    expect(confirmed).toEqual([]);
    expect(log.lines.filter(({ event }) => event === 'uplink_not_stored')).toMatchObject([
      { cause: 'no_stream' },
    ]);
    await manager.streams.add({ name: 'OTHER', subjects: ['raw.*'] });
    await until(() => confirmed.length === 5);
    expect(await readStream(observer, 'OTHER')).toEqual(['0', '1', '2', '3', '4']);
  });

  it('stores once what NATS answers long after the time-out, while the connection lives', async () => {
    const subject = await open({ limits: { ackTimeoutMs: 300 } });
    const confirmed: string[] = [];
    const given: string[] = [];
    await server.pause();
    for (let lane = 0; lane < 50; lane += 1) {
      const order = subject.openLane();
      for (let index = 0; index < 10; index += 1) {
        const name = `${lane}:${index}`;
        given.push(name);
        order.publish(uplink(name, { onStored: () => confirmed.push(name) }));
      }
    }
    await until(() => !subject.state().connected);
    const endMs = performance.now() + 3_000;
    await until(() => performance.now() > endMs);
    server.resume();
    await until(() => confirmed.length === given.length);
    expect((await readStream(observer)).toSorted()).toEqual(given.toSorted());
    expect(subject.state().counters).toMatchObject({ retriedTimeout: 0, retriedReconnect: 0 });
  });

  it('takes no answer of a subscriber for a confirmation', async () => {
    const manager = await addStream();
    const lane = (await open({ limits: { ackTimeoutMs: 500 } })).openLane();
    await manager.streams.delete('RAW');
    const echo = observer.subscribe('raw.>', { callback: (_error, message) => void message.respond('+OK') });
    let confirmed = 0;
    lane.publish(uplink('a', { onStored: () => (confirmed += 1) }));
    await until(() => (forwarder?.state().counters.retriedTimeout ?? 0) > 1);
    expect(confirmed).toBe(0);
    echo.unsubscribe();
    await manager.streams.add({ name: 'RAW', subjects: ['raw.>'] });
    await until(() => confirmed === 1);
  });

  it('reports a message that the stream never takes, does not confirm it, and goes on', async () => {
    const lane = (await open()).openLane();
    await updateStream({ max_msg_size: 500 });
    const reported: string[] = [];
    lane.publish(
      uplink('a'.repeat(600), {
        onStored: () => reported.push('stored'),
        onRefused: (why) => reported.push(why),
      }),
    );
    await until(() => reported.length === 1);
    lane.publish(uplink('b', { onStored: () => reported.push('b stored') }));
    await until(() => reported.length === 2);
    expect(reported).toEqual(['message size exceeds maximum allowed', 'b stored']);
    expect(forwarder?.state()).toMatchObject({ inFlight: 0, counters: { refused: 1, stored: 1 } });
  });

  it.each([
    ['payload', uplink(new Uint8Array(1_048_577))],
    ['subject', uplink('a', { subject: Buffer.from(`raw.${'a'.repeat(4_000)}`) })],
  ])('refuses a %s larger than the server takes without losing the connection', async (_what, message) => {
    const lane = (await open()).openLane();
    const reported: string[] = [];
    lane.publish({ ...message, onRefused: (why) => void reported.push(why) });
    lane.publish(uplink('b', { onStored: () => void reported.push('b stored') }));
    await until(() => reported.includes('b stored'));
    expect(reported.length).toBe(2);
    expect(log.count('nats_disconnected')).toBe(0);
  });

  it('knows the largest message from the server and from the stream', async () => {
    expect((await open()).maxPayloadBytes).toBe(1_048_576);
    await forwarder?.close();
    await updateStream({ max_msg_size: 5_000 });
    expect((await open()).maxPayloadBytes).toBe(5_000);
  });

  it('slows senders without confirmation down to what the stream takes, and loses none', async () => {
    // NATS that gives no answer for a second has what comes meanwhile dropped: the clock that tells so stands still, since
    // this is not about how quick it is on this machine.
    vi.useFakeTimers({ toFake: ['setInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const subject = await open();
    const lane = subject.openLane();
    const total = inCi(50_000, 10_000);
    let given = 0;
    let waits = 0;
    await new Promise<void>((resolve) => {
      const message = uplink('x'.repeat(64), { confirm: false });
      const give = () => {
        while (given < total) {
          if (subject.fullFor(false)) {
            waits += 1;
            subject.whenReady(give, false);
            return;
          }
          given += 1;
          lane.publish(message);
        }
        resolve();
      };
      give();
    });
    await until(() => subject.state().counters.sent === total);
    expect(waits).toBeGreaterThan(0);
    expect(subject.state().counters).toMatchObject({ sent: total, dropped: 0 });
    const manager = await observer.jetstreamManager();
    await until(async () => (await manager.streams.info('RAW')).state.messages === total);
  });

  it('counts what is dropped without confirmation when there is no stream', async () => {
    const subject = await open();
    const lane = subject.openLane();
    await (await observer.jetstreamManager()).streams.delete('RAW');
    for (let index = 0; index < 1_024; index += 1) lane.publish(uplink('x', { confirm: false }));
    await until(() => subject.state().counters.dropped === 1_024);
    expect(subject.state().counters.sent).toBe(0);
  });

  it('is full at the bound of messages and wakes those who wait in their order', async () => {
    const subject = await open({ limits: { maxInFlight: 10 } });
    const lane = subject.openLane();
    const woken: number[] = [];
    await server.pause();
    try {
      for (let index = 0; index < 10; index += 1) {
        expect(subject.fullFor(true)).toBe(false);
        lane.publish(uplink(String(index)));
      }
      expect(subject.fullFor(true)).toBe(true);
      for (let waiter = 0; waiter < 100; waiter += 1) {
        subject.whenReady(() => {
          expect(subject.fullFor(true)).toBe(false);
          woken.push(waiter);
          lane.publish(uplink(`w${waiter}`));
        });
      }
    } finally {
      server.resume();
    }
    await until(() => woken.length === 100);
    expect(woken).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect(await subject.drain(5_000)).toBe(0);
  });

  it('is full at the bound of bytes', async () => {
    const subject = await open({ limits: { maxInFlightBytes: 1_048_576 } });
    const lane = subject.openLane();
    await server.pause();
    for (let index = 0; index < 10; index += 1) lane.publish(uplink(new Uint8Array(104_000)));
    expect(subject.fullFor(true)).toBe(false);
    lane.publish(uplink(new Uint8Array(104_000)));
    expect(subject.fullFor(true)).toBe(true);
    server.resume();
    await until(() => !subject.fullFor(true));
  });

  it('says how many messages are not stored when draining takes too long', async () => {
    const subject = await open();
    await (await observer.jetstreamManager()).streams.delete('RAW');
    subject.openLane().publish(uplink('a'));
    expect(await subject.drain(200)).toBe(1);
    await Promise.all([subject.close(), subject.close()]);
    expect(subject.state().connected).toBe(false);
  });
});
