import { type AddressInfo, connect as connectTo, createServer } from 'node:net';
import fc from 'fast-check';
import type { Msg, NatsConnection } from 'nats';
import { headers } from 'nats';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  onTestFinished,
  type TestContext,
  vi,
} from 'vitest';
import { openGroupCommit } from '../../src/server/forward/batches/group-commit.js';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import { type Forwarder, type Lane, newForwarderCounters } from '../../src/server/forward/forwarder.js';
import { readPubAck } from '../../src/server/forward/pub-ack.js';
import {
  messageInside,
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  until,
  uplink,
} from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

const inbox = '_INBOX.test';
const turn = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

function answer(batch: number, said: unknown): Msg {
  const data = Buffer.from(typeof said === 'string' ? said : JSON.stringify(said));
  const json = () => JSON.parse(data.toString());
  return { subject: `${inbox}.${batch}.c`, data, json, ...messageInside('') } as unknown as Msg;
}

/** A group commit that gathers whatever waits, over an outlet that only remembers. */
function openBench() {
  const stored: number[] = [];
  const singly: number[] = [];
  /** Messages of each batch, as the stream counts them. */
  const batches: { sequences: number[]; committed: boolean }[] = [];
  const unavailable: string[] = [];
  const open = new Set<number>();
  const given = new Map<number, ReturnType<typeof uplink>>();
  /** What a change of policy sends elsewhere while it is held. */
  const moved = new Set<number>();
  /** What is not to be sent any more. */
  const gone = new Set<number>();
  /** What is given when a message leaves: room that its refusal makes, say. */
  const follows = new Set<number>();
  const counters = newForwarderCounters();
  const commits = openGroupCommit({
    inbox,
    readAnswer: (said) => readPubAck(said),
    timeoutMs: 5_000,
    always: true,
    maxMessageBytes: () => 1_000,
    settle: {
      counters,
      confirmed: {
        settleStored(token) {
          open.delete(token);
          stored.push(token);
        },
        departed(token) {
          if (gone.has(token)) return false;
          open.add(token);
          if (follows.delete(token)) give(1);
          if (moved.has(token)) Object.assign(given.get(token) ?? {}, { batchable: false });
          return true;
        },
        sentAtMs: () => 0,
        nowMs: 0,
        get underWay() {
          return open.size;
        },
      },
    },
    onUnavailable: (reason) => void unavailable.push(reason),
  });
  commits.connected({
    maxMessageBytes: 1_000,
    messagesOut: 0,
    publishText() {},
    publish(_message, replyTo, place) {
      if (place === undefined) {
        singly.push(replyTo?.token ?? 0);
        return;
      }
      const { sequence, last } = place;
      if (sequence === 1) batches.push({ sequences: [], committed: false });
      const batch = batches.at(-1);
      batch?.sequences.push(sequence);
      if (batch !== undefined && last) batch.committed = true;
      expect(replyTo !== undefined).toBe(last);
    },
    flush() {},
  });
  commits.restart(undefined);
  let next = 0;
  function give(count: number, size = 10): void {
    for (let index = 0; index < count; index += 1) {
      next += 1;
      const message = uplink('x'.repeat(size));
      given.set(next, message);
      if (commits.send(message, next, commits.groupOf(message, false))) open.add(next);
    }
  }
  /** The stream answers a message that went by itself. */
  const answerSingle = (token: number) => {
    open.delete(token);
    stored.push(token);
    commits.noteAnswer(token);
  };
  return {
    commits,
    counters,
    stored,
    singly,
    batches,
    unavailable,
    moved,
    gone,
    follows,
    give,
    answerSingle,
  };
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const refusal = (code: number, description: string) => ({
  stream: 'RAW',
  seq: 0,
  error: { code: 400, err_code: code, description },
});

describe('group commit', () => {
  it('gives the room of what is not to be sent any more to what comes behind it', async () => {
    const bench = openBench();
    bench.commits.restart('it takes none');
    bench.give(40);
    for (const token of range(17, 38)) bench.gone.add(token);
    bench.answerSingle(1);
    await turn();
    expect(bench.singly).toEqual([...range(1, 16), 39]);
  });

  it('sends what is given while messages leave that waited behind these', async () => {
    const bench = openBench();
    bench.commits.restart('it takes none');
    bench.give(20);
    expect(bench.singly).toEqual(range(1, 16));
    bench.follows.add(17);
    for (const token of range(1, 16)) bench.answerSingle(token);
    await turn();
    expect(bench.singly).toEqual(range(1, 21));
  });

  it('sends all of what waits when more of it was let through than there was, while the stream was late', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const bench = openBench();
    const tick = (late: boolean) => {
      vi.advanceTimersByTime(6_000);
      if (late) bench.commits.noteLate();
      bench.commits.tick(performance.now());
    };
    bench.give(1);
    tick(true);
    // Late: one at a time is let through, and then nobody is left to be.
    bench.give(1);
    await turn();
    for (let times = 0; times < 3; times += 1) tick(true);
    bench.give(2);
    await turn();
    tick(true);
    for (const token of [1, 2]) bench.answerSingle(token);
    for (let times = 0; times < 3; times += 1) {
      tick(false);
      await turn();
      for (const token of bench.singly) if (!bench.stored.includes(token)) bench.answerSingle(token);
    }
    const inBatches = bench.batches.reduce((sum, { sequences }) => sum + sequences.length, 0);
    expect(bench.singly.length + inBatches).toBe(4);
  });

  it('sends what goes to the subject of a policy at once, however the stream of the others does', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(20);
    const message = { ...uplink('x'), batchable: false };
    expect(bench.commits.send(message, 99, bench.commits.groupOf(message, false))).toBe(true);
    expect(bench.singly).toEqual([1, 99]);
  });

  it('sends a message that is alone alone, and what waits meanwhile as one batch', async () => {
    const bench = openBench();
    bench.give(1);
    expect(bench.singly).toEqual([1]);
    bench.give(20);
    await turn();
    expect(bench.batches).toEqual([{ sequences: range(1, 20), committed: true }]);
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 9, batch: 'b', count: 20 }));
    expect(bench.stored).toEqual(range(2, 21));
    expect(bench.counters).toMatchObject({ batches: 1, batched: 20 });
  });

  it('keeps no place in a batch for a message that is not sent after all', () => {
    const bench = openBench();
    bench.give(1);
    expect(bench.commits.groupOf(uplink('held back by its lane'), false)).not.toBe(0);
    bench.answerSingle(1);
    bench.give(1);
    expect(bench.singly).toEqual([1, 2]);
  });

  it('keeps out of a batch what a change of policy sends to another stream while it waits', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(4);
    for (const token of [3, 4]) bench.moved.add(token);
    await turn();
    expect(bench.batches).toEqual([{ sequences: [1, 2], committed: true }]);
    expect(bench.singly).toEqual([1, 3, 4]);
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 3, batch: 'b', count: 2 }));
    expect(bench.stored).toEqual([2, 5]);
    expect(bench.unavailable).toEqual([]);
  });

  it('has two batches under way, and gathers what comes in the next one', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(10);
    await turn();
    bench.give(10);
    await turn();
    bench.give(5);
    await turn();
    bench.give(5);
    await turn();
    expect(bench.batches.length).toBe(2);
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 9, batch: 'b', count: 10 }));
    expect(bench.batches.map(({ sequences }) => sequences.length)).toEqual([10, 10, 10]);
  });

  it('makes no batch larger than the server takes', async () => {
    const bench = openBench();
    bench.give(2_501);
    await turn();
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 9, batch: 'b', count: 1_000 }));
    expect(bench.batches.map(({ sequences }) => sequences.length)).toEqual([1_000, 1_000, 500]);
  });

  it('believes only an answer that counts the whole batch', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(10);
    await turn();
    for (const noise of ['', '+OK', '{}', 'null', '{"batch":"x"}']) bench.commits.settle(answer(1, noise));
    expect(bench.stored).toEqual([]);
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 9 }));
    expect(bench.stored).toEqual([]);
    expect(bench.unavailable).toEqual(['the stream confirms each message of a batch']);
    expect(bench.singly).toEqual(range(1, 11));
  });

  it('sends the messages of a refused batch by themselves, in order, and batches again later', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(10);
    await turn();
    bench.commits.settle(answer(1, refusal(10_176, 'atomic publish batch is incomplete')));
    expect(bench.singly).toEqual(range(1, 11));
    expect(bench.unavailable).toEqual([]);
    for (const token of range(1, 11)) bench.answerSingle(token);
    await until(() => {
      bench.commits.tick(performance.now());
      const message = uplink('x');
      bench.give(1);
      return bench.commits.groupOf(message, false) > 0;
    });
  });

  it('makes no batches any more when the stream takes none', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(10);
    await turn();
    bench.commits.settle(answer(1, refusal(10_174, 'atomic publish is disabled')));
    expect(bench.unavailable).toEqual(['atomic publish is disabled']);
    expect(bench.commits.groupOf(uplink('x'), false)).toBe(0);
  });

  it('leaves out what was sent before, goes elsewhere, or does not fit with the headers of a batch', () => {
    const bench = openBench();
    bench.give(1);
    expect(bench.commits.groupOf(uplink('x'), false)).toBeGreaterThan(0);
    expect(bench.commits.groupOf(uplink('x'), true)).toBe(0);
    expect(bench.commits.groupOf(uplink('x', { batchable: false }), false)).toBe(-1);
    expect(bench.commits.groupOf(uplink('x', { repeated: true }), false)).toBe(0);
    expect(bench.commits.groupOf(uplink('x'.repeat(950)), false)).toBe(0);
  });

  it('sends the others of a batch by themselves at once when NATS lets its last message not through', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(3);
    await turn();
    expect(bench.batches).toEqual([{ sequences: range(1, 3), committed: true }]);
    bench.gone.add(4);
    bench.commits.noteDenied([9]);
    expect(bench.singly).toEqual([1]);
    bench.commits.noteDenied([4]);
    expect(bench.singly).toEqual([1, 2, 3]);
  });

  it('forgets everything with the connection', async () => {
    const bench = openBench();
    bench.give(1);
    bench.give(10);
    await turn();
    bench.commits.disconnected();
    bench.commits.settle(answer(1, { stream: 'RAW', seq: 9, batch: 'b', count: 10 }));
    expect(bench.stored).toEqual([]);
  });

  it('never confirms what is not stored, whatever answers are lost, refused or come twice', async () => {
    const run = fc.record({
      gives: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 }),
      answers: fc.array(
        fc.record({
          batch: fc.integer({ min: 1, max: 8 }),
          kind: fc.constantFrom('stored' as const, 'refused' as const, 'noise' as const),
        }),
        { maxLength: 20 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(run, async ({ gives, answers }) => {
        const bench = openBench();
        const committed = new Set<number>();
        for (const [index, count] of gives.entries()) {
          bench.give(count);
          await turn();
          for (const { batch, kind } of answers.slice(index * 3, index * 3 + 3)) {
            const size = bench.batches[batch - 1]?.sequences.length;
            if (size === undefined) continue;
            if (kind === 'stored') committed.add(batch);
            if (kind === 'stored')
              bench.commits.settle(answer(batch, { stream: 'RAW', seq: 9, batch: 'b', count: size }));
            else if (kind === 'refused')
              bench.commits.settle(answer(batch, refusal(10_176, 'atomic publish batch is incomplete')));
            else bench.commits.settle(answer(batch, ''));
          }
        }
        const most = [...committed].reduce(
          (sum, batch) => sum + (bench.batches[batch - 1]?.sequences.length ?? 0),
          0,
        );
        expect(bench.stored.length).toBeLessThanOrEqual(most);
        expect(new Set(bench.stored).size).toBe(bench.stored.length);
      }),
      { numRuns: 100 },
    );
  });
});

it.each([
  ['that its client repeats', { repeated: true, messageId: 'again' }],
  ['to the subject of a policy', { batchable: false }],
])('a message %s comes behind those of its client that are held', async (_what, last) => {
  const server = await startNatsServer({});
  onTestFinished(() => server.stop());
  const observer = await openObserver(server.url);
  onTestFinished(() => observer.close());
  const forwarder = await openTestForwarder(server.url, openTestLog().log, { ingest: 'plain' });
  onTestFinished(() => forwarder.close());
  const lane = forwarder.openLane();
  const names = range(1, 60).map(String);
  for (const name of names) lane.publish(uplink(name));
  lane.publish(uplink('last', last));
  await until(() => forwarder.state().counters.stored === 61);
  expect(await readStream(observer)).toEqual([...names, 'last']);
});

describe.each(['batch', 'auto'] as const)(
  'group commit with a nats-server that syncs always, NATS_INGEST=%s,',
  (ingest) => {
    let server: TestNatsServer;
    let observer: NatsConnection;
    let forwarder: Forwarder;
    let log: ReturnType<typeof openTestLog>;

    beforeAll(async () => {
      server = await startNatsServer({ jetstreamExtra: 'sync_interval: always' });
      observer = await openObserver(server.url);
    });

    afterAll(async () => {
      await observer?.close();
      await server?.stop();
    });

    beforeEach(async (context: TestContext) => {
      if (!isAtLeast(server.version, 2, 15))
        context.skip(`nats-server ${server.version} syncs each message of a batch`);
      log = openTestLog();
      forwarder = await openTestForwarder(server.url, log.log, { ingest, limits: { ackTimeoutMs: 10_000 } });
    });

    afterEach(async () => {
      await forwarder?.close();
      const manager = await observer.jetstreamManager();
      for await (const name of manager.streams.names()) await manager.streams.delete(name);
    });

    const modes = () =>
      log.lines.filter(({ event }) => event === 'nats_ingest_mode').map(({ mode }) => mode as string);

    async function updateStream(change: Record<string, unknown>): Promise<void> {
      await (await observer.jetstreamManager()).streams.update('RAW', change);
    }

    /** Gives every lane so many messages at once, named `<lane>:<number>`. */
    function give(lanes: readonly Lane[], each: number, confirmed: string[], from = 0, id = false): void {
      for (let number = from; number < from + each; number += 1) {
        for (const [lane, opened] of lanes.entries()) {
          const name = `${lane}:${number}`;
          opened.publish(
            uplink(name, {
              subject: Buffer.from(`raw.d${lane}`),
              messageId: id ? name : undefined,
              onStored: () => confirmed.push(name),
            }),
          );
        }
      }
    }

    async function expectInOrder(lanes: number, each: number): Promise<void> {
      const stored = await readStream(observer);
      expect(stored.length).toBe(lanes * each);
      for (let lane = 0; lane < lanes; lane += 1) {
        const own = stored.filter((name) => name.startsWith(`${lane}:`));
        expect(own).toEqual(Array.from({ length: each }, (_, number) => `${lane}:${number}`));
      }
    }

    const openLanes = (count: number) => Array.from({ length: count }, () => forwarder.openLane());

    it('stores a message that is alone without a batch, and many in batches, each lane in order', async () => {
      const confirmed: string[] = [];
      const lanes = openLanes(20);
      give(lanes.slice(0, 1), 1, confirmed);
      await until(() => confirmed.length === 1);
      expect(forwarder.state().counters.batches).toBe(0);
      give(lanes, 100, confirmed, 1);
      await until(() => confirmed.length === 2_001);
      const { counters } = forwarder.state();
      expect(counters).toMatchObject({ stored: 2_001, retriedTimeout: 0, retriedRefused: 0 });
      expect(counters.batched).toBeGreaterThan(1_000);
      const stored = await readStream(observer);
      for (let lane = 0; lane < 20; lane += 1) {
        const own = stored.filter((name) => name.startsWith(`${lane}:`));
        expect(own).toEqual(
          Array.from({ length: own.length }, (_, index) => `${lane}:${index + (lane === 0 ? 0 : 1)}`),
        );
      }
      expect(stored.length).toBe(2_001);
    });

    it('stores messages with identifiers in batches, and once when they are sent again', async () => {
      const confirmed: string[] = [];
      give(openLanes(10), 100, confirmed, 0, true);
      await until(() => confirmed.length === 1_000);
      const before = forwarder.state().counters.batched;
      expect(before).toBeGreaterThan(0);
      give(openLanes(10), 100, confirmed, 0, true);
      await until(() => confirmed.length === 2_000);
      await expectInOrder(10, 100);
    });

    it('lets only the message suffer that the stream refuses', async () => {
      const confirmed: string[] = [];
      const lanes = openLanes(10);
      const other = forwarder.openLane();
      // The connection knows nothing of the limit yet.
      await updateStream({ max_msg_size: 500 });
      let refused = '';
      give(lanes, 25, confirmed);
      other.publish(uplink('a'.repeat(600), { onRefused: (reason) => (refused = reason) }));
      give(lanes, 25, confirmed, 25);
      await until(() => confirmed.length === 500 && refused !== '');
      await expectInOrder(10, 50);
      expect(forwarder.state()).toMatchObject({ inFlight: 0, holdingLanes: 0, counters: { refused: 1 } });
    });

    it('goes on when batches are forbidden under way', async () => {
      const confirmed: string[] = [];
      const lanes = openLanes(10);
      give(lanes, 50, confirmed);
      await until(() => confirmed.length > 50);
      await updateStream({ allow_atomic: false });
      give(lanes, 50, confirmed, 50);
      await until(() => confirmed.length === 1_000);
      await expectInOrder(10, 100);
      await until(() => modes().at(-1) === 'plain');
    });

    it('goes on when somebody else has all the batches of the stream', async () => {
      for (let index = 0; index < 60; index += 1) {
        const fields = headers();
        fields.set('Nats-Batch-Id', `other-${index}`);
        fields.set('Nats-Batch-Sequence', '1');
        observer.publish('raw.other', '', { headers: fields });
      }
      await observer.flush();
      const confirmed: string[] = [];
      give(openLanes(10), 50, confirmed);
      await until(() => confirmed.length === 500);
      await expectInOrder(10, 50);
      expect(forwarder.state().counters).toMatchObject({ retriedTimeout: 0, retriedRefused: 0 });
    });

    it('stores what a subject that is full leaves room for, and holds only its lane', async () => {
      await updateStream({ discard: 'new', max_msgs_per_subject: 30, discard_new_per_subject: true });
      const confirmed: string[] = [];
      const lanes = openLanes(5);
      give(lanes, 30, confirmed);
      give(lanes.slice(0, 1), 5, confirmed, 30);
      await until(() => confirmed.length === 150 && forwarder.state().holdingLanes === 1);
      await expectInOrder(5, 30);
      await updateStream({ max_msgs_per_subject: 100 });
      await until(() => confirmed.length === 155);
    });

    it('stores nothing of a batch of which half has left when the connection ends, and all of it afterwards', async () => {
      const half = 'Nats-Batch-Sequence: 20';
      let cuts = 0;
      const proxy = createServer((near) => {
        const far = connectTo(server.port, '127.0.0.1');
        for (const socket of [near, far]) socket.on('error', () => {});
        near.on('close', () => far.destroy());
        far.on('close', () => near.destroy());
        far.pipe(near);
        near.on('data', (data) => {
          const at = cuts === 0 ? data.indexOf(half) : -1;
          if (at < 0) {
            far.write(data);
            return;
          }
          cuts += 1;
          far.write(data.subarray(0, at), () => near.destroy());
        });
      });
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
      const through = await openTestForwarder(
        `nats://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
        log.log,
        { ingest: 'batch' },
      );
      try {
        const confirmed: string[] = [];
        const lanes = Array.from({ length: 10 }, () => through.openLane());
        give(lanes, 100, confirmed, 0, true);
        await until(() => confirmed.length === 1_000);
        expect(cuts).toBe(1);
        await expectInOrder(10, 100);
      } finally {
        await through.close();
        proxy.close();
      }
    });

    it('stores everything, in order, over a kill of the server under batches', async () => {
      const confirmed: string[] = [];
      const lanes = openLanes(10);
      give(lanes, 100, confirmed, 0, true);
      await until(() => confirmed.length > 100);
      await server.kill();
      await until(() => log.count('nats_disconnected') === 1);
      give(lanes, 100, confirmed, 100, true);
      await server.restart();
      await observer.close();
      observer = await openObserver(server.url);
      await until(() => confirmed.length === 2_000);
      await expectInOrder(10, 200);
    });
  },
);
