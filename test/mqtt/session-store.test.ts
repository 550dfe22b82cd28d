import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openKvBucket } from '../../src/server/forward/state/kv-bucket.js';
import { openJetStreamSessionStore } from '../../src/server/mqtt/sessions/store/jetstream-session-store.js';
import { openMemorySessionStore } from '../../src/server/mqtt/sessions/store/memory-session-store.js';
import type { SessionRecord } from '../../src/server/mqtt/sessions/store/session-record.js';
import type { SessionNews, SessionStore } from '../../src/server/mqtt/sessions/store/session-store.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { recordOf, testSessionStore } from './session-store-suite.js';

const subscriptions = (...names: string[]) =>
  names.map((name) => ({
    ...{ name, qos: 1 as const, noLocal: false, retainAsPublished: false },
    ...{ retainHandling: 0 as const, id: undefined, from: 0 },
  }));

describe('in memory', () => {
  const store = openMemorySessionStore('for the test');
  testSessionStore(async () => store);
});

describe('in JetStream', () => {
  let nats: TestNatsServer;
  beforeAll(async () => {
    nats = await startNatsServer();
  });
  afterAll(() => nats.stop());

  async function openStore(replica = 'r1', server = nats) {
    const { log } = openTestLog();
    const link = await connectNats({ ...noNatsSettings, natsUrl: server.url }, log);
    const bucket = openKvBucket({
      link,
      domain: undefined,
      inboxPrefix: '_INBOX',
      name: 'svc-mqtt-sessions',
      description: 'for the test',
      without: 'the test fails',
      streams: new Set(),
      keeping: () => ({
        stream: 'RAW',
        replicas: 1,
        inMemory: false,
        writtenLate: false,
        servers: undefined,
      }),
      log,
    });
    const store = openJetStreamSessionStore({ bucket, replica });
    onTestFinished(async () => {
      store.close();
      await link.close();
    });
    await bucket.ready(10_000);
    expect([bucket.caughtUp, bucket.problem]).toEqual([true, undefined]);
    return store;
  }

  testSessionStore(() => openStore());

  test('each replica knows what the others write, with its owner, and is told of it', async () => {
    const first = await openStore('one');
    const news: SessionNews[] = [];
    first.listener = { onNews: (each) => void news.push(each), onCaughtUp() {} };
    const second = await openStore('two');
    const owned = recordOf({ owner: 'two', epoch: 5 });
    const revision = await second.write('n.a', owned, 0, second.nextWriteId());
    await until(() => first.has('n.a'));
    expect([...first.owned()]).toContainEqual(['n.a', 'two']);
    expect([...second.owned()]).not.toContainEqual(['n.a', 'two']);
    expect(news).toEqual([{ key: 'n.a', revision, epoch: 5, removed: false }]);
    await first.write('n.a', recordOf({ owner: 'one', epoch: 6 }), revision ?? 0, first.nextWriteId());
    await until(() => [...second.owned()].some(([key, owner]) => key === 'n.a' && owner === 'one'));
    expect([...first.owned()].map(([key]) => key)).not.toContain('n.a');
    expect(news).toHaveLength(1);
    await second.remove('n.a', undefined);
    await until(() => !first.has('n.a'));
    expect(news[1]).toMatchObject({ key: 'n.a', removed: true });
  });

  test('each replica knows what sessions want of other devices, wherever they are, also after a restart', async () => {
    const first = await openStore('one');
    const write = (key: string, names: string[], expected: number) =>
      first.write(key, recordOf({ subscriptions: subscriptions(...names) }), expected, first.nextWriteId());
    const wanted = ['wünsche/a/x', 'wünsche/a', 'list/1/2/3', 'cmd/other/x'];
    const unwanted = ['wünsche/b', 'listen', 'cmd/w/x', 'shared/x'];
    const revision = await write(
      'w.a',
      ['wünsche/a/#', 'list/+/2/#', 'cmd/w/#', 'cmd/other/#', '$share/s/shared/#'],
      0,
    );
    await write('w.b', ['wünsche/a/#'], 0);
    await write('w.c', ['cmd/w/#'], 0);
    const check = (store: SessionStore) => [wanted, unwanted].map((topics) => topics.filter(store.wants));
    expect(check(first)).toEqual([wanted, []]);
    const second = await openStore('two');
    expect(check(second)).toEqual([wanted, []]);
    await write('w.a', ['list/#'], revision ?? 0);
    await until(() => !second.wants('cmd/other/x'));
    expect(check(second)).toEqual([['wünsche/a/x', 'wünsche/a', 'list/1/2/3'], []]);
    await second.remove('w.a', undefined);
    await until(() => !first.wants('list/1'));
    expect(first.wants('wünsche/a/x')).toBe(true);
    await second.remove('w.b', undefined);
    await until(() => !first.wants('wünsche/a/x'));
    const many = Array.from({ length: 200 }, (_, number) => `many${number}/topic/#`);
    await write('w.d', many, 0);
    await until(() => second.wants('whatever'));
    await second.remove('w.d', undefined);
    await until(() => !first.wants('whatever') && !second.wants('many0/topic'));
  });

  test('each replica knows that a session wants topics whose first level is empty, also where it wants others', async () => {
    const first = await openStore('one');
    const second = await openStore('two');
    const write = (key: string, ...names: string[]) =>
      first.write(key, recordOf({ subscriptions: subscriptions(...names) }), 0, first.nextWriteId());
    for (const name of ['/#', '/+', '/+/x', `/${'long'.repeat(20)}/x`]) {
      for (const beside of [[], ['aaa/x'], ['aaa/+/y', '/x/y']]) {
        const ofOthers = Array(2).fill(beside.length > 1);
        await write('e.a', name, ...beside);
        await until(() => second.has('e.a'));
        expect([first, second].map((store) => store.wants('/hello'))).toEqual([true, true]);
        expect([first, second].map((store) => store.wants('aaa/y'))).toEqual(ofOthers);
        await first.remove('e.a', undefined);
        await until(() => !second.has('e.a'));
        expect([first, second].map((store) => store.wants('/hello'))).toEqual([false, false]);
      }
    }
  });

  test('a record that cannot be read is told from one that can, and another can take its place', async () => {
    const store = await openStore();
    const { connect, headers } = await import('nats');
    const connection = await connect({ servers: nats.url });
    onTestFinished(() => connection.close());
    const good = JSON.parse('{"v":1,"id":"abcdefgh","epoch":1}') as object;
    for (const text of ['', '{', '[]', '{"v":2}', JSON.stringify(good)]) {
      const fields = headers();
      fields.set('Svc-Mqtt-Epoch', '41');
      const answer = await connection.request('$KV.svc-mqtt-sessions.bad.one', text, {
        headers: fields,
        timeout: 5_000,
      });
      const { seq } = answer.json<{ seq: number }>();
      const loaded = await store.load('bad.one');
      expect(loaded).toMatchObject({ revision: seq, epoch: 41, record: expect.stringMatching(/^(it|its) /) });
    }
    const { revision = 0 } = (await store.load('bad.one')) ?? {};
    expect(await store.write('bad.one', recordOf(), revision, store.nextWriteId())).toBeDefined();
  });

  test('it knows all again after NATS was away, and after its bucket was deleted', async () => {
    const own = await startNatsServer();
    onTestFinished(() => own.stop());
    const store = await openStore('one', own);
    const other = await openStore('two', own);
    let caughtUp = 0;
    store.listener = {
      onNews() {},
      onCaughtUp: () => {
        caughtUp += 1;
      },
    };
    const revision = (await store.write('k.a', recordOf(), 0, store.nextWriteId())) ?? 0;
    await own.kill();
    await until(() => !store.reachable);
    expect(store.has('k.a')).toBe(true);
    await expect(store.load('k.a')).rejects.toMatchObject({ away: true });
    await own.restart();
    await until(() => caughtUp === 1 && other.caughtUp);
    expect(store.has('k.a')).toBe(true);
    expect(await store.load('k.a')).toMatchObject({ revision });
    await other.write('k.b', recordOf(), 0, other.nextWriteId());
    await until(() => store.has('k.b'));
    // What is written to the bucket that follows has lower revisions than this.
    let last = revision;
    for (let round = 0; round < 5; round += 1)
      last = (await store.write('k.a', recordOf(), last, store.nextWriteId())) ?? 0;
    let othersCaughtUp = 0;
    other.listener = {
      onNews() {},
      onCaughtUp: () => {
        othersCaughtUp += 1;
      },
    };

    const { connect } = await import('nats');
    const connection = await connect({ servers: own.url });
    onTestFinished(() => connection.close());
    const manager = await connection.jetstreamManager();
    await manager.streams.delete('KV_svc-mqtt-sessions');
    await until(() => caughtUp === 2 && !store.has('k.a'));
    expect(await store.write('k.a', recordOf(), last, store.nextWriteId())).toBeDefined();
    await until(() => othersCaughtUp === 1 && other.has('k.a'));
  });

  test('it goes by what NATS has when that has lost the latest of the bucket', async () => {
    const storeDir = await mkdtemp(join(tmpdir(), 'svc-mqtt-store-'));
    const own = await startNatsServer({ storeDir });
    const lost = await mkdtemp(join(tmpdir(), 'svc-mqtt-lost-'));
    onTestFinished(async () => {
      await own.stop();
      for (const dir of [storeDir, lost]) await rm(dir, { recursive: true, force: true });
    });
    const store = await openStore('one', own);
    const other = await openStore('two', own);
    const [news, othersNews] = [store, other].map((each) => {
      const heard: SessionNews[] = [];
      each.listener = { onNews: (one) => void heard.push(one), onCaughtUp() {} };
      return heard;
    });
    const subscriptions = [
      {
        ...{ name: 'wanted/#', qos: 1 as const, noLocal: false, retainAsPublished: false },
        ...{ retainHandling: 0 as const, id: undefined, from: 0 },
      },
    ];
    const write = async (key: string, record: SessionRecord, expected: number) =>
      (await store.write(key, record, expected, store.nextWriteId())) ?? 0;
    const early = recordOf({ owner: undefined, subscriptions });
    const first = await write('k.a', early, 0);
    await own.halt();
    await cp(storeDir, lost, { recursive: true });
    await own.restart();
    await until(() => store.caughtUp && other.caughtUp);
    let last = first;
    for (let round = 0; round < 5; round += 1) last = await write('k.a', recordOf(), last);
    await until(() => !other.wants('wanted/1'));
    await own.kill();
    await until(() => !store.caughtUp && !other.caughtUp);
    await rm(storeDir, { recursive: true });
    await cp(lost, storeDir, { recursive: true });
    await own.restart();
    await until(() => store.caughtUp && other.caughtUp);
    expect([store, other].map((each) => [each.has('k.a'), each.wants('wanted/1')])).toEqual([
      [true, true],
      [true, true],
    ]);
    expect([news, othersNews].map((heard) => heard?.at(-1)?.revision)).toEqual([first, first]);
  });
});
