import { headers } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import { type CommandStore, openCommandStore } from '../../src/server/forward/commands/command-store.js';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { noNatsSettings, openObserver, openTestLog, until } from '../support/forwarding.js';
import { startCluster } from '../support/nats-cluster.js';

const commands = 2_000;

async function openStore(urls: readonly string[]): Promise<CommandStore> {
  const { log } = openTestLog();
  const link = await connectNats({ ...noNatsSettings, natsUrl: urls.join(',') }, log);
  onTestFinished(() => link.close());
  let store: Awaited<ReturnType<typeof openCommandStore>> | undefined;
  // The servers of a cluster find each other first.
  await until(async () => {
    store = await openCommandStore({
      ...{ link, log, domain: undefined, inboxPrefix: '_INBOX', maxIndexed: 1_000 },
      streams: new Set(),
      keeping: () => ({
        ...{ stream: 'RAW', inMemory: false, writtenLate: false, replicas: 3 },
        servers: undefined,
      }),
    });
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
