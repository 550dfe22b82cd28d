import fc from 'fast-check';
import type { Msg, NatsConnection } from 'nats';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  type TestContext,
  vi,
} from 'vitest';
import { openFastIngest } from '../../src/server/forward/fast-ingest.js';
import type { Forwarder, Lane } from '../../src/server/forward/forwarder.js';
import { isAtLeast } from '../../src/server/forward/nats-server-program.js';
import {
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  until,
  uplink,
} from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

describe('a batch', () => {
  type Step =
    | { kind: 'progress' | 'refused' | 'unknown'; sequence: number }
    | { kind: 'gap' }
    | { kind: 'ended' };

  function answer(prefix: string, sequence: number, said: unknown): Msg {
    const data = Buffer.from(typeof said === 'string' ? said : JSON.stringify(said));
    return { subject: `${prefix}${sequence}.1.$FI`, data } as unknown as Msg;
  }

  async function sendBatch(count: number) {
    const stored: number[] = [];
    const refused: { token: number; permanent: boolean }[] = [];
    const sent: { prefix: string; sequence: number; suffix: string }[] = [];
    const singly: number[] = [];
    const unavailable: string[] = [];
    const ingest = openFastIngest({
      inbox: '_INBOX.test',
      confirmed: {
        settleStored: (token) => void stored.push(token),
        settleRefused: (token, { permanent }) => void refused.push({ token, permanent }),
      },
      outlet: {
        sendSingly: (_message, token) => void singly.push(token),
        sendPlain() {},
        sendBatched: (_message, { prefix, token, suffix }) =>
          void sent.push({ prefix: `${prefix}`, sequence: token, suffix: `${suffix}` }),
        flush() {},
      },
      onUnavailable: (reason) => void unavailable.push(reason),
    });
    const give = async (tokens: number) => {
      for (let token = 1; token <= tokens; token += 1) ingest.add(uplink('x'), token);
      const before = sent.length + singly.length;
      await until(() => sent.length + singly.length === before + tokens);
    };
    await give(count);
    return { ingest, stored, refused, sent, singly, unavailable, give, prefix: sent[0]?.prefix ?? '' };
  }

  it('starts, goes on and is committed by its last message', async () => {
    const { sent, singly } = await sendBatch(20);
    expect(singly).toEqual([]);
    expect(sent.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(sent.map(({ suffix }) => suffix)).toEqual(['.0.$FI', ...Array(18).fill('.1.$FI'), '.2.$FI']);
    expect(new Set(sent.map(({ prefix }) => prefix)).size).toBe(1);
  });

  it('is not made of a few messages', async () => {
    const { sent, singly } = await sendBatch(3);
    expect(sent).toEqual([]);
    expect(singly).toEqual([1, 2, 3]);
  });

  it('confirms what an answer covers, once, and nothing else', async () => {
    const { ingest, stored, refused, prefix } = await sendBatch(20);
    ingest.settle(answer(prefix, 1, { type: 'ack', seq: 0, msgs: 8 }));
    expect(stored).toEqual([]);
    ingest.settle(answer(prefix, 8, { type: 'ack', seq: 8, msgs: 8 }));
    ingest.settle(answer(prefix, 8, { type: 'ack', seq: 8, msgs: 8 }));
    expect(stored).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const noise of [
      '',
      '+OK',
      '{}',
      'null',
      '{"type":"ack"}',
      '{"type":"ack","seq":-1}',
      '{"batch":"x"}',
    ])
      ingest.settle(answer(prefix, 20, noise));
    expect(stored.length).toBe(8);
    ingest.settle(answer(prefix, 20, { stream: 'RAW', seq: 99, batch: 'b', count: 20 }));
    expect(stored).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    ingest.settle(answer(prefix, 20, { stream: 'RAW', seq: 99, batch: 'b', count: 20 }));
    expect(stored.length).toBe(20);
    expect(refused).toEqual([]);
  });

  it('is forgotten with its connection', async () => {
    const { ingest, stored, prefix } = await sendBatch(20);
    ingest.reset();
    ingest.settle(answer(prefix, 20, { stream: 'RAW', seq: 99, batch: 'b', count: 20 }));
    expect(stored).toEqual([]);
  });

  it('is not made for a while after a refusal', async () => {
    const { ingest, refused, singly, give, prefix } = await sendBatch(20);
    const error = { code: 400, err_code: 10054, description: 'message size exceeds maximum allowed' };
    ingest.settle(answer(prefix, 5, { stream: 'RAW', seq: 0, error }));
    expect(refused.at(-1)).toEqual({ token: 5, permanent: true });
    expect(refused.slice(0, -1)).toEqual(
      Array.from({ length: 15 }, (_, index) => ({ token: index + 6, permanent: false })),
    );
    await give(20);
    expect(singly.length).toBe(20);
  });

  it('is not made for a while after one that was not answered, and then again', async () => {
    const { sent, singly, give } = await sendBatch(20);
    const now = vi.spyOn(performance, 'now');
    try {
      const later = performance.now();
      now.mockImplementation(() => later + 31_000);
      await give(20);
      expect([sent.length, singly.length]).toEqual([20, 20]);
      now.mockImplementation(() => later + 42_000);
      await give(20);
      expect([sent.length, singly.length]).toEqual([40, 20]);
    } finally {
      now.mockRestore();
    }
  });

  it('is not made any more when the stream takes none', async () => {
    const { ingest, unavailable, prefix } = await sendBatch(20);
    const error = { code: 400, err_code: 10205, description: 'batch publish is disabled' };
    ingest.settle(answer(prefix, 1, { stream: 'RAW', seq: 0, error }));
    expect(unavailable).toEqual(['batch publish is disabled']);
  });

  it('never confirms what the stream has not stored, whatever answers are lost or come twice', async () => {
    const step = (count: number): fc.Arbitrary<Step> =>
      fc.oneof(
        fc.record({
          kind: fc.constantFrom('progress' as const, 'refused' as const, 'unknown' as const),
          sequence: fc.integer({ min: 1, max: count }),
        }),
        fc.constant({ kind: 'gap' as const }),
        fc.constant({ kind: 'ended' as const }),
      );
    const run = fc.integer({ min: 16, max: 60 }).chain((count) =>
      fc.record({
        count: fc.constant(count),
        inStream: fc.integer({ min: 0, max: count }),
        steps: fc.array(step(count), { maxLength: 30 }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(run, async ({ count, inStream, steps }) => {
        const { ingest, stored, refused, prefix } = await sendBatch(count);
        const error = { code: 503, err_code: 10077, description: 'maximum messages exceeded' };
        for (const said of steps) {
          if (said.kind === 'progress') {
            const seq = Math.min(said.sequence, inStream);
            ingest.settle(answer(prefix, seq + 1, { type: 'ack', seq, msgs: 4 }));
          } else if (said.kind === 'gap') {
            ingest.settle(answer(prefix, count, { type: 'gap', last_seq: inStream + 1, seq: count }));
          } else if (said.kind === 'ended') {
            ingest.settle(answer(prefix, count, { stream: 'RAW', seq: 9, batch: 'b', count: inStream }));
          } else if (said.sequence > inStream) {
            const body =
              said.kind === 'refused'
                ? { type: 'err', seq: said.sequence, error }
                : { stream: 'RAW', seq: 0, error: { ...error, err_code: 10208 } };
            ingest.settle(answer(prefix, said.sequence, body));
          }
        }
        expect(stored).toEqual(Array.from({ length: stored.length }, (_, index) => index + 1));
        expect(stored.length).toBeLessThanOrEqual(inStream);
        const again = refused.map(({ token }) => token);
        expect(new Set([...stored, ...again]).size).toBe(stored.length + again.length);
        expect(again.every((token) => token > inStream)).toBe(true);
        if (steps.some(({ kind }) => kind === 'ended')) expect(stored.length + again.length).toBe(count);
      }),
      { numRuns: 200 },
    );
  });
});

describe('fast ingest with a nats-server', () => {
  let server: TestNatsServer;
  let observer: NatsConnection;
  let forwarder: Forwarder;
  let log: ReturnType<typeof openTestLog>;

  beforeAll(async () => {
    server = await startNatsServer();
    observer = await openObserver(server.url);
  });

  afterAll(async () => {
    await observer?.close();
    await server?.stop();
  });

  beforeEach(async (context: TestContext) => {
    if (!isAtLeast(server.version, 2, 14)) context.skip(`nats-server ${server.version} has no fast ingest`);
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log);
  });

  afterEach(async () => {
    await forwarder?.close();
    const manager = await observer.jetstreamManager();
    for await (const name of manager.streams.names()) await manager.streams.delete(name);
  });

  const modes = () =>
    log.lines.filter(({ event }) => event === 'nats_ingest_mode').map(({ mode }) => mode as string);

  async function updateStream(change: Record<string, unknown>): Promise<void> {
    const manager = await observer.jetstreamManager();
    await manager.streams.update('RAW', change);
  }

  /** Gives every lane so many messages at once, named `<lane>:<number>`. */
  function give(lanes: readonly Lane[], each: number, confirmed: string[], from = 0): void {
    for (const [lane, opened] of lanes.entries()) {
      for (let number = from; number < from + each; number += 1) {
        const name = `${lane}:${number}`;
        opened.publish(
          uplink(name, { subject: Buffer.from(`raw.d${lane}`), onStored: () => confirmed.push(name) }),
        );
      }
    }
  }

  async function expectInOrder(lanes: number, each: number): Promise<void> {
    const stored = await readStream(observer);
    for (let lane = 0; lane < lanes; lane += 1) {
      const own = stored.filter((name) => name.startsWith(`${lane}:`));
      expect(own).toEqual(Array.from({ length: each }, (_, number) => `${lane}:${number}`));
    }
  }

  it('sends what comes in one turn as a batch, and a single message by itself', async () => {
    const replies: string[] = [];
    observer.subscribe('raw.>', { callback: (_error, { reply }) => void replies.push(reply ?? '') });
    await observer.flush();
    expect(modes()).toEqual(['batches']);
    const lanes = Array.from({ length: 4 }, () => forwarder.openLane());
    const confirmed: string[] = [];
    give(lanes.slice(0, 1), 1, confirmed);
    await until(() => confirmed.length === 1);
    await until(() => replies.length === 1);
    expect(replies[0]).not.toContain('$FI');
    give(lanes, 10, confirmed, 1);
    await until(() => confirmed.length === 41);
    await until(() => replies.length === 41);
    expect(replies.slice(1).every((reply) => reply.endsWith('$FI'))).toBe(true);
    expect((await readStream(observer)).length).toBe(41);
  });

  it('keeps messages with and without confirmation in the order in which they were given', async () => {
    const lane = forwarder.openLane();
    const names = Array.from({ length: 60 }, (_, index) => String(index));
    for (const name of names) lane.publish(uplink(name, { confirm: Number(name) % 3 > 0 }));
    expect(await forwarder.drain(10_000)).toBe(0);
    await until(async () => (await readStream(observer)).length === names.length);
    expect(await readStream(observer)).toEqual(names);
    expect(forwarder.state().counters).toMatchObject({ stored: 40, sent: 20 });
  });

  it('stores a message with an id once when it is in a batch several times, and confirms each', async () => {
    const lane = forwarder.openLane();
    let confirmations = 0;
    for (let index = 0; index < 40; index += 1) {
      const id = `abc:${index % 3}`;
      lane.publish(uplink(id, { messageId: id, onStored: () => (confirmations += 1) }));
    }
    await until(() => confirmations === 40);
    expect(await readStream(observer)).toEqual(['abc:0', 'abc:1', 'abc:2']);
    expect(forwarder.state().counters.retriedTimeout).toBe(0);
  });

  it('stores the others of a batch when one is refused for ever, each lane in order', async () => {
    await updateStream({ max_msg_size: 500 });
    const lanes = Array.from({ length: 3 }, () => forwarder.openLane());
    const confirmed: string[] = [];
    let refused = '';
    give(lanes, 10, confirmed);
    lanes[1]?.publish(uplink('a'.repeat(600), { onRefused: (reason) => (refused = reason) }));
    give(lanes, 10, confirmed, 10);
    await until(() => confirmed.length === 60);
    expect(refused).toBe('message size exceeds maximum allowed');
    await expectInOrder(3, 20);
    expect(forwarder.state()).toMatchObject({ inFlight: 0, holdingLanes: 0, counters: { refused: 1 } });
  });

  it('keeps the order of a client when the message of another one cuts off a part of its messages', async () => {
    await updateStream({ max_msg_size: 500 });
    const [lane, other] = [forwarder.openLane(), forwarder.openLane()];
    const confirmed: string[] = [];
    give([lane], 10, confirmed);
    other.publish(uplink('a'.repeat(600)));
    give([lane], 10, confirmed, 10);
    // What is given now belongs to a batch of its own, which goes out before the first one is answered.
    setImmediate(() => give([lane], 20, confirmed, 20));
    await until(() => confirmed.length === 40);
    await expectInOrder(1, 40);
  });

  it('does not send what the stream is known never to take, so that others are not cut off by it', async () => {
    await updateStream({ max_msg_size: 500 });
    await forwarder.close();
    forwarder = await openTestForwarder(server.url, log.log);
    const [lane, other] = [forwarder.openLane(), forwarder.openLane()];
    const confirmed: string[] = [];
    const refused: string[] = [];
    const fits = 500 - uplink('').headers.length;
    give([lane], 20, confirmed);
    other.publish(uplink('a'.repeat(fits), { onStored: () => confirmed.push('fits') }));
    // Its id makes it larger than the connection saw it.
    other.publish(
      uplink('a'.repeat(fits), { messageId: 'abc:1', onRefused: (reason) => refused.push(reason) }),
    );
    give([lane], 20, confirmed, 20);
    await until(() => confirmed.length === 41);
    expect(refused).toEqual(['520 bytes are more than the 500 that NATS takes']);
    expect(forwarder.state().counters).toMatchObject({ refused: 1, retriedRefused: 0 });
  });

  it('confirms each message that goes to another stream or has an id by itself, in its place', async () => {
    const manager = await observer.jetstreamManager();
    await manager.streams.add({ name: 'OTHER', subjects: ['other.>'] });
    const replies: string[] = [];
    observer.subscribe('*.>', { callback: (_error, { reply }) => void replies.push(reply ?? '') });
    await observer.flush();
    const lanes = [forwarder.openLane(), forwarder.openLane(), forwarder.openLane()];
    const confirmed: string[] = [];
    for (let number = 0; number < 40; number += 1) {
      give(lanes.slice(0, 1), 1, confirmed, number);
      const onStored = () => confirmed.push('other');
      const subject = Buffer.from('other.abc');
      lanes[1]?.publish(uplink(`${number}`, { subject, batchable: false, onStored }));
      // The same client with QoS 1 and QoS 2 by turns.
      const id = number % 2 === 0 ? undefined : `id:${number}`;
      const name = `2:${number}`;
      lanes[2]?.publish(
        uplink(name, {
          messageId: id,
          batchable: id === undefined,
          onStored: () => confirmed.push(name),
        }),
      );
    }
    await until(() => confirmed.length === 120);
    expect(await readStream(observer, 'OTHER')).toEqual(Array.from({ length: 40 }, (_, index) => `${index}`));
    const stored = await readStream(observer);
    for (const lane of ['0', '2'])
      expect(stored.filter((name) => name.startsWith(`${lane}:`))).toEqual(
        Array.from({ length: 40 }, (_, number) => `${lane}:${number}`),
      );
    expect(replies.filter((reply) => reply.endsWith('$FI')).length).toBeGreaterThanOrEqual(40);
    expect(forwarder.state().counters).toMatchObject({ stored: 120, retriedRefused: 0, retriedTimeout: 0 });
  });

  it('leaves batches alone in a stream that refuses messages for their subject alone', async () => {
    await forwarder.close();
    await updateStream({ discard: 'new', max_msgs_per_subject: 1_000, discard_new_per_subject: true });
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log);
    expect(modes()).toEqual(['plain']);
    expect(log.lines.find(({ event }) => event === 'nats_batches_unavailable')?.reason).toBe(
      'stream RAW has discard_new_per_subject',
    );
  });

  it('creates a stream without batches unless it is told to, and uses them where a stream has them', async () => {
    await forwarder.close();
    const manager = await observer.jetstreamManager();
    await manager.streams.delete('RAW');
    for (const ingest of ['auto', 'plain'] as const) {
      log = openTestLog();
      forwarder = await openTestForwarder(server.url, log.log, { ingest });
      await forwarder.close();
      expect(modes()).toEqual(['plain']);
      expect(log.count('nats_batches_unavailable')).toBe(0);
      expect((await manager.streams.info('RAW')).config).not.toHaveProperty('allow_batched', true);
    }
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log, { ingest: 'batch' });
    await forwarder.close();
    expect(modes()).toEqual(['plain']);
    expect(log.count('nats_batches_unavailable')).toBe(1);
    await updateStream({ allow_batched: true });
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log, { ingest: 'auto' });
    expect(modes()).toEqual(['batches']);
  });

  it('confirms of a batch what a full stream has taken, and the rest in order when there is room', async () => {
    await updateStream({ max_msgs: 25 });
    const lanes = Array.from({ length: 4 }, () => forwarder.openLane());
    const confirmed: string[] = [];
    give(lanes, 10, confirmed);
    await until(() => forwarder.state().holdingLanes > 0 && confirmed.length === 25);
    expect(new Set(await readStream(observer))).toEqual(new Set(confirmed));
    await updateStream({ max_msgs: -1 });
    await until(() => confirmed.length === 40);
    await expectInOrder(4, 10);
  });

  it('goes on plainly when batches are forbidden, and in batches again after a reconnect', async () => {
    const lanes = Array.from({ length: 4 }, () => forwarder.openLane());
    const confirmed: string[] = [];
    await updateStream({ allow_batched: false });
    give(lanes, 10, confirmed);
    await until(() => confirmed.length === 40);
    expect(modes()).toEqual(['batches', 'plain']);
    await updateStream({ allow_batched: true });
    await server.kill();
    await until(() => log.count('nats_disconnected') === 1);
    give(lanes, 10, confirmed, 10);
    await server.restart();
    await observer.close();
    observer = await openObserver(server.url);
    await until(() => confirmed.length === 80);
    expect(modes()).toEqual(['batches', 'plain', 'batches']);
    await expectInOrder(4, 20);
  });

  it('leaves batches alone where an existing stream does not allow them, or the setting forbids them', async () => {
    await forwarder.close();
    await updateStream({ allow_batched: false });
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log);
    expect(modes()).toEqual(['plain']);
    await updateStream({ allow_batched: true });
    await forwarder.close();
    log = openTestLog();
    forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain' });
    expect(modes()).toEqual(['plain']);
    const confirmed: string[] = [];
    give([forwarder.openLane()], 40, confirmed);
    await until(() => confirmed.length === 40);
  });

  it('can rely on the server to store nothing behind a gap', async () => {
    const answers: Record<string, unknown>[] = [];
    observer.subscribe('_INBOX.gap.>', { callback: (_error, message) => void answers.push(message.json()) });
    const publish = (sequence: number, operation: number) =>
      observer.publish('raw.gap', `${sequence}`, {
        reply: `_INBOX.gap.some-batch.100.fail.${sequence}.${operation}.$FI`,
      });
    publish(1, 0);
    publish(2, 1);
    publish(4, 1);
    publish(5, 2);
    await until(() => answers.some(({ error }) => error !== undefined));
    expect(answers).toMatchObject([
      { type: 'ack', seq: 0 },
      { type: 'gap', last_seq: 3, seq: 4 },
      { stream: 'RAW', batch: 'some-batch', count: 2 },
      { error: { err_code: 10208 } },
    ]);
    expect(await readStream(observer)).toEqual(['1', '2']);
  });
});
