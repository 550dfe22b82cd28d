import { headers } from 'nats';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type CommandStore, openCommandStore } from '../../src/server/forward/commands/command-store.js';
import { startDownlink } from '../../src/server/forward/commands/start-downlink.js';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openNatsRequests } from '../../src/server/forward/connection/nats-requests.js';
import type { StateContext } from '../../src/server/forward/state/state-stream.js';
import { noNatsSettings, openObserver, openTestLog, until } from '../support/forwarding.js';
import { startCluster } from '../support/nats-cluster.js';
import { startNatsServer } from '../support/nats-server.js';

const commands = 2_000;

async function openLink(urls: readonly string[]) {
  const { log, lines } = openTestLog();
  const link = await connectNats({ ...noNatsSettings, natsUrl: urls.join(',') }, log);
  onTestFinished(() => link.close());
  const state: StateContext = {
    ...{ link, log, domain: undefined, inboxPrefix: '_INBOX', streams: new Set() },
    keeping: () => ({
      ...{ stream: 'RAW', inMemory: false, writtenLate: false, replicas: urls.length },
      servers: undefined,
    }),
  };
  return { link, state, log, lines };
}

async function openStore(urls: readonly string[]): Promise<CommandStore> {
  const { link, state } = await openLink(urls);
  const requests = openNatsRequests(link, '_INBOX');
  let store: Awaited<ReturnType<typeof openCommandStore>> | undefined;
  // The servers of a cluster find each other first.
  await until(async () => {
    store = await openCommandStore({ ...state, maxIndexed: 1_000, requests });
    return !('unavailable' in store);
  });
  if (store === undefined || 'unavailable' in store) throw new Error('no store');
  const opened = store;
  onTestFinished(() => opened.close());
  return opened;
}

test('in a cluster, while leaders change and one is killed, every command is seen once, in order, and can be read', async () => {
  const servers = await startCluster((undo) => onTestFinished(undo as () => Promise<void>));
  const urls = servers.map(({ url }) => url);
  const store = await openStore(urls);
  await until(() => store.isCaughtUp);
  const seen: string[] = [];
  onTestFinished(
    store.follow('dev', {
      onMessage: ({ payload }) => seen.push(payload.toString()),
      onCaughtUp() {},
      onShorter() {},
    }),
  );
  const observer = await openObserver(urls.join(','));
  onTestFinished(() => observer.close());
  const manager = await observer.jetstreamManager();
  expect((await manager.streams.info('CMD')).config.num_replicas).toBe(3);

  /** Until it is stored; the identifier keeps a second attempt from being another command. */
  async function publish(number: number): Promise<void> {
    for (;;) {
      try {
        const identified = headers();
        identified.set('Nats-Msg-Id', `command ${number}`);
        await observer
          .jetstream()
          .publish('cmd.dev.go', String(number), { headers: identified, timeout: 2_000 });
        return;
      } catch {
        // There is no leader, or the connection has moved: again.
      }
    }
  }

  for (let number = 1; number <= commands; number += 1) {
    await publish(number);
    if (number % 400 === 0)
      await observer.request('$JS.API.STREAM.LEADER.STEPDOWN.CMD', '', { timeout: 5_000 }).catch(() => {});
    if (number === 1_000) {
      const { cluster } = await manager.streams.info('CMD').catch(() => ({ cluster: undefined }));
      await servers[Number(cluster?.leader?.slice(1) ?? 0)]?.kill();
    }
  }
  const expected = Array.from({ length: commands }, (_, index) => String(index + 1));
  await until(() => seen.length >= commands);
  expect(seen).toEqual(expected);

  // By sequence too: half of them are older than the index, the last ones known to a part of the servers only just now.
  const read: string[] = [];
  for (let upTo = 0; store.hasAfter('dev', upTo); ) {
    const batch = await store.readAfter('dev', upTo, 100, () => true);
    upTo = batch.upTo;
    read.push(...batch.messages.map(({ payload }) => payload.toString()));
  }
  expect(read).toEqual(expected);
});

test('commands that lie together are read together, for many devices at once, also when some are gone or large', async () => {
  const nats = await startNatsServer();
  onTestFinished(() => nats.kill());
  const store = await openStore([nats.url]);
  await until(() => store.isCaughtUp);
  const observer = await openObserver(nats.url);
  onTestFinished(() => observer.close());
  const devices = Array.from({ length: 100 }, (_, index) => `dev-${index}`);
  const perDevice = 6;
  // A third of them are as large as ten others: together they are more than is asked for at once.
  const textOf = (number: number) => `${number} ${'.'.repeat(number % 3 === 0 ? 10_000 : 0)}`;
  let number = 0;
  for (let each = 0; each < perDevice; each += 1)
    for (const device of devices) {
      number += 1;
      observer.publish(`cmd.${device}.go`, textOf(number));
    }
  await observer.flush();
  await until(() => store.end === number);
  const manager = await observer.jetstreamManager();
  const gone = [2, 3, 250, 600];
  for (const sequence of gone) await manager.streams.deleteMessage('CMD', sequence);
  let requests = 0;
  observer.subscribe('$JS.API.DIRECT.GET.CMD', { callback: () => (requests += 1) });
  await observer.flush();

  const batches = await Promise.all(devices.map((device) => store.readAfter(device, 0, 100, () => true)));

  for (const [index, { messages, upTo }] of batches.entries()) {
    const sequences = Array.from({ length: perDevice }, (_, each) => each * devices.length + index + 1);
    const left = sequences.filter((sequence) => !gone.includes(sequence));
    expect(messages.map(({ sequence }) => sequence)).toEqual(left);
    expect(messages.map(({ payload }) => payload.toString())).toEqual(left.map(textOf));
    expect(upTo).toBeGreaterThanOrEqual(left.at(-1) as number);
  }
  expect(store.counters.gone).toBe(gone.length);
  await observer.flush();
  expect(requests).toBeLessThan(40);
});

test('a stream that is looked for again and again leaves nothing behind in the link, and is taken up', async () => {
  const nats = await startNatsServer();
  onTestFinished(() => nats.kill());
  const observer = await openObserver(nats.url);
  onTestFinished(() => observer.close());
  const manager = await observer.jetstreamManager();
  const { config } = await manager.streams.add({ name: 'PART', subjects: ['cmd.one.>'] });
  const { link, state, log } = await openLink([nats.url]);
  const listen = vi.spyOn(link, 'listen');
  const downlink = await startDownlink({ link, state }, { maxIndexedCommands: 1_000 }, log);
  onTestFinished(() => downlink.close());
  expect(downlink.notStored).toContain('PART');
  const before = listen.mock.calls.length;
  let looks = 0;
  observer.subscribe('$JS.API.STREAM.LIST', { callback: () => (looks += 1) });
  await observer.flush();

  // It is looked for at each connection.
  for (let round = 1; round <= 3; round += 1) {
    await link.connection?.reconnect();
    await until(() => looks >= round && link.open);
  }
  expect(listen.mock.calls.length).toBe(before);

  await manager.streams.update('PART', { ...config, subjects: ['cmd.>'] });
  await link.connection?.reconnect();
  await until(() => downlink.notStored === undefined);
});
