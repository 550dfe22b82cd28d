import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { RetainedReader, RetainedStore } from '../../src/server/forward/state/retained-store.js';
import type { StateMessage } from '../../src/server/forward/state/state-message.js';
import { checkFilter, matches } from '../../src/server/mqtt/protocol/topics.js';
import {
  createRetainedMessages,
  type RetainedMessages,
} from '../../src/server/mqtt/sessions/subscriptions/retained-messages.js';

const message = (topic: string, payload: string) => ({
  topic,
  payload: Buffer.from(payload),
  qos: 1 as const,
  retain: true,
});
afterEach(() => {
  vi.useRealTimers();
});

const limits = { maxMessages: 1_000, maxBytes: 1_000_000 };

/** A stream of retained messages in which everything takes as long as the test wants. */
function openPlayedStream() {
  interface Stored {
    readonly message: StateMessage;
    readonly sequence: number;
  }
  const last = new Map<string, Stored>();
  const history: Stored[] = [];
  const replicas: Replica[] = [];
  let sequence = 0;

  interface Replica {
    readonly retained: RetainedMessages;
    /** What it has given and NATS has not read, what is answered and did not come, what is sent to it and did not come. */
    readonly given: (() => void)[];
    readonly answers: (() => void)[];
    readonly coming: (() => void)[];
    kept: number;
    /** By topic, the last sequence that it was told of. */
    readonly told: Map<string, number>;
    take(stored: Stored): void;
    readAgain(): void;
    beginAnew(): void;
  }

  function openReplica(): Replica {
    const given: (() => void)[] = [];
    const answers: (() => void)[] = [];
    let coming: (() => void)[] = [];
    let reader: RetainedReader = { begin() {}, take() {}, caughtUp() {} };
    const store: RetainedStore = {
      get reader() {
        return reader;
      },
      set reader(value) {
        reader = value;
      },
      problem: undefined,
      caughtUp: true,
      start() {},
      started: true,
      ready: async () => {},
      save(message, expected, onSettled) {
        given.push(() => {
          if (expected !== undefined && (last.get(message.topic)?.sequence ?? 0) !== expected) {
            answers.push(() => onSettled({ kind: 'superseded' }));
          } else if (message.payload.toString() === 'refused') {
            answers.push(() => onSettled({ kind: 'refused', reason: 'full' }));
          } else {
            const stored = { message, sequence: ++sequence };
            last.set(message.topic, stored);
            history.push(stored);
            answers.push(() => {
              replica.told.set(message.topic, stored.sequence);
              onSettled({ kind: 'stored', sequence: stored.sequence });
            });
            for (const other of replicas) other.coming.push(() => other.take(stored));
          }
        });
      },
      upToDate: () => undefined,
      readAgain() {},
      close() {},
    };
    const replica: Replica = {
      told: new Map(),
      retained: createRetainedMessages({ limits, store, onRefused() {} }),
      given,
      answers,
      get coming() {
        return coming;
      },
      kept: 0,
      take: ({ message, sequence: at }: Stored) => reader.take(message, at),
      readAgain() {
        coming = [];
        reader.begin(false, sequence);
        const all = [...last.values()].toSorted((a, b) => a.sequence - b.sequence);
        for (const stored of all) coming.push(() => replica.take(stored));
        coming.push(() => reader.caughtUp());
      },
      /** It is another stream, without anything. */
      beginAnew() {
        coming = [];
        reader.begin(true, sequence);
        coming.push(() => reader.caughtUp());
      },
    };
    replicas.push(replica);
    return replica;
  }

  return {
    openReplica,
    get contents() {
      const present = [...last.values()].filter(({ message: { payload } }) => payload.length > 0);
      return present.map(({ message: { topic, payload } }) => `${topic} ${payload}`).toSorted();
    },
    /** Whether the stream had this of the topic not before what the replica was told of. */
    isCurrent({ told }: Replica, topic: string, text: string | undefined): boolean {
      const since = told.get(topic) ?? 0;
      const had = history.some(
        ({ message, sequence }) =>
          message.topic === topic && sequence >= since && message.payload.toString() === (text ?? ''),
      );
      return had || (text === undefined && since === 0);
    },
    /** It does not remember for ever what was removed, but for longer than answers are under way. */
    forgetRemovals() {
      if (replicas.some(({ answers }) => answers.length > 0)) return;
      for (const [topic, { message }] of last) if (message.payload.length === 0) last.delete(topic);
    },
    /** It is as it was after this sequence, and all read it again. */
    goBackTo(earlier: number) {
      sequence = earlier;
      last.clear();
      for (const stored of history) if (stored.sequence <= earlier) last.set(stored.message.topic, stored);
      for (const replica of replicas) replica.readAgain();
    },
    deleteAll() {
      last.clear();
      sequence = 0;
      for (const replica of replicas) replica.beginAnew();
    },
  };
}

const contentsOf = ({ retained }: { retained: RetainedMessages }) =>
  retained.find(['#']).map(({ message: { topic, payload } }) => `${topic} ${payload}`);

describe('retained messages of several replicas', () => {
  it('are in the end those that the stream stored last, however late everything is', () => {
    const step = fc.record({
      replica: fc.nat(1),
      action: fc.constantFrom(
        'store',
        'store',
        'given',
        'given',
        'answers',
        'answers',
        'coming',
        'again',
        'forget',
      ),
      topic: fc.constantFrom('a', 'b'),
      payload: fc.constantFrom('', '', '1', '2', '3', 'refused'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const stream = openPlayedStream();
        const replicas = [stream.openReplica(), stream.openReplica()] as const;
        let stored = 0;
        let number = 0;
        const goOn = (replica: (typeof replicas)[0], what: 'given' | 'answers' | 'coming') =>
          replica[what].shift()?.();
        for (const { replica: index, action, topic, payload } of steps) {
          const replica = replicas[index] as (typeof replicas)[0];
          if (action === 'again') {
            replica.readAgain();
          } else if (action === 'forget') {
            stream.forgetRemovals();
          } else if (action === 'store') {
            number += 1;
            const text = payload === '' || payload === 'refused' ? payload : `${payload} ${number}`;
            const onKept = () => {
              replica.kept += 1;
            };
            if (replica.retained.store(message(topic, text), onKept) === 'waits') stored += 1;
            // What it was given last it answers with, until it knows better.
            const expected = text === '' ? [] : [`${topic} ${text}`];
            expect(contentsOf(replica).filter((line) => line.startsWith(`${topic} `))).toEqual(expected);
          } else {
            goOn(replica, action);
            const shown = replica.retained.find([topic])[0]?.message.payload.toString();
            if (replica.retained.state.waiting === 0)
              expect(stream.isCurrent(replica, topic, shown)).toBe(true);
          }
        }
        for (const replica of replicas) replica.readAgain();
        for (let left = 1; left > 0; ) {
          for (const replica of replicas)
            for (const what of ['given', 'answers', 'coming'] as const) goOn(replica, what);
          left = replicas.reduce(
            (sum, { given, answers, coming }) => sum + given.length + answers.length + coming.length,
            0,
          );
        }
        for (const replica of replicas) {
          expect(contentsOf(replica).toSorted()).toEqual(stream.contents);
          expect(replica.retained.state.waiting).toBe(0);
        }
        expect(replicas[0].kept + replicas[1].kept).toBe(stored);
      }),
      { numRuns: 3_000 },
    );
  });

  it('are written again to a stream that has lost them, and not over what is newer there', () => {
    const stream = openPlayedStream();
    const one = stream.openReplica();
    const other = stream.openReplica();
    const settle = () => {
      for (let turn = 0; turn < 10; turn += 1)
        for (const replica of [one, other])
          for (const what of ['given', 'answers', 'coming'] as const)
            while (replica[what].length > 0) replica[what].shift()?.();
    };
    one.retained.store(message('a', '1'));
    one.retained.store(message('b', '1'));
    settle();
    stream.deleteAll();
    other.retained.store(message('b', '2'));
    other.given.shift()?.();
    settle();
    expect(stream.contents).toEqual(['a 1', 'b 2']);
    for (const replica of [one, other]) expect(contentsOf(replica).toSorted()).toEqual(['a 1', 'b 2']);
  });

  it('are written again in place of the earlier ones that a stream has which lost its latest, and not over what is newer there', () => {
    const stream = openPlayedStream();
    const one = stream.openReplica();
    const other = stream.openReplica();
    const settle = () => {
      for (let turn = 0; turn < 10; turn += 1)
        for (const replica of [one, other])
          for (const what of ['given', 'answers', 'coming'] as const)
            while (replica[what].length > 0) replica[what].shift()?.();
    };
    for (const topic of ['a', 'b', 'c']) one.retained.store(message(topic, 'early'));
    settle();
    for (const topic of ['a', 'b', 'd']) one.retained.store(message(topic, 'late'));
    settle();
    stream.goBackTo(3);
    for (const replica of [one, other]) expect(contentsOf(replica)).toContain('a late');
    other.retained.store(message('b', 'latest'));
    other.given.shift()?.();
    settle();
    const expected = ['a late', 'b latest', 'c early', 'd late'];
    expect(stream.contents).toEqual(expected);
    for (const replica of [one, other]) {
      expect(contentsOf(replica).toSorted()).toEqual(expected);
      expect(replica.retained.state.waiting).toBe(0);
    }
    one.retained.store(message('a', 'last'));
    settle();
    for (const replica of [one, other]) expect(contentsOf(replica)).toContain('a last');
  });
});

describe('retained messages', () => {
  it('are found as a plain walk over all of them would find them', () => {
    const part = fc.constantFrom('a', 'b', '', '$s');
    const topic = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
    const filter = fc
      .array(fc.oneof(part, fc.constantFrom('+', '#')), { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join('/'))
      .filter((text) => checkFilter(text) === undefined);
    fc.assert(
      fc.property(fc.uniqueArray(topic), fc.uniqueArray(filter), (topics, filters) => {
        const retained = createRetainedMessages({ limits, onRefused() {} });
        for (const name of topics) retained.store(message(name, 'x'));
        const found = new Map(retained.find(filters).map((entry) => [entry.message.topic, entry.filters]));
        for (const name of topics) {
          const expected = filters.filter((pattern) => matches(pattern, name));
          expect([...(found.get(name) ?? [])].toSorted()).toEqual(expected.toSorted());
        }
      }),
    );
  });

  it('keep the last of a topic, and nothing after an empty payload', () => {
    const retained = createRetainedMessages({ limits, onRefused() {} });
    retained.store(message('t', 'one'));
    retained.store(message('t', 'two'));
    expect(retained.find(['t']).map((entry) => entry.message.payload.toString())).toEqual(['two']);
    expect(retained.store(message('t', ''))).toBe('kept');
    expect(retained.find(['#'])).toEqual([]);
  });

  it('are bounded in number and bytes, and make room when they go', () => {
    const retained = createRetainedMessages({ limits: { maxMessages: 2, maxBytes: 10 }, onRefused() {} });
    expect(retained.store(message('a', '1234'))).toBe('kept');
    expect(retained.store(message('b', '123456'))).toBe('refused');
    expect(retained.store(message('b', '1'))).toBe('kept');
    expect(retained.store(message('c', '1'))).toBe('refused');
    expect(retained.store(message('a', ''))).toBe('kept');
    expect(retained.store(message('c', '1'))).toBe('kept');
  });

  it('that have expired are not found [MQTT 5.0 MQTT-3.3.2-5], and make room', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const retained = createRetainedMessages({ limits: { maxMessages: 3, maxBytes: 1_000 }, onRefused() {} });
    retained.store({ ...message('a', '1'), expiresAtMs: 1_002_000 });
    retained.store({ ...message('b', '1'), expiresAtMs: 1_002_500 });
    retained.store(message('c', '1'));
    expect(retained.store(message('d', '1'))).toBe('refused');
    vi.setSystemTime(1_002_000);
    const topics = (filter: string) => retained.find([filter]).map((entry) => entry.message.topic);
    expect([topics('#'), topics('a'), topics('b')]).toEqual([['b', 'c'], [], ['b']]);
    expect(retained.store(message('d', '1'))).toBe('kept');
    vi.setSystemTime(1_002_600);
    expect(topics('+')).toEqual(['c', 'd']);
    vi.setSystemTime(1_003_100);
    expect(retained.store(message('e', '1'))).toBe('kept');
  });

  it('count with their properties', () => {
    const retained = createRetainedMessages({ limits: { maxMessages: 10, maxBytes: 100 }, onRefused() {} });
    const properties = { userProperties: [['name', 'v'.repeat(100)]] as const };
    expect(retained.store({ ...message('a', '1'), properties })).toBe('refused');
  });
});
