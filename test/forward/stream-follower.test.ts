import { setTimeout as delay } from 'node:timers/promises';
import type { ConsumerConfig, JetStreamManager, NatsConnection } from 'nats';
import { beforeAll, describe, expect, test } from 'vitest';
import { followStream } from '../../src/server/forward/stream/stream-follower.js';
import { openObserver, until } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';
import { undoAfterAll } from '../support/undo-after-all.js';

/** How long the server of the consumer is behind the leader of the stream. */
const behindMs = 300;

let connection: NatsConnection;
let manager: JetStreamManager;
const later = undoAfterAll();

beforeAll(async () => {
  const server = await startNatsServer();
  later(() => server.stop());
  connection = await openObserver(server.url);
  later(() => connection.close());
  manager = await connection.jetstreamManager();
});

async function makeStream(name: string, messages: number): Promise<void> {
  await manager.streams.add({ name, subjects: [`${name}.>`] });
  for (let number = 1; number <= messages; number += 1)
    await connection.jetstream().publish(`${name}.${number}`);
}

/** A manager that makes consumers as on a server that is behind: it has nothing yet, and sends what there is a little later. */
function behind(getMessage = manager.streams.getMessage.bind(manager.streams)): JetStreamManager {
  return {
    streams: { getMessage },
    consumers: {
      async add(stream: string, config: ConsumerConfig) {
        void delay(behindMs).then(() => manager.consumers.add(stream, config));
        return { num_pending: 0, delivered: { consumer_seq: 0 } };
      },
    },
  } as unknown as JetStreamManager;
}

/** Follows a stream; answers what had come when it had caught up, once it has. */
async function follow(
  stream: string,
  upTo: number,
  by: JetStreamManager,
  from = 1,
): Promise<readonly number[]> {
  const sequences: number[] = [];
  const told = new AbortController();
  let atCatchUp: readonly number[] | undefined;
  const ended = followStream(connection, by, {
    stream,
    filter: `${stream}.>`,
    from,
    upTo,
    headersOnly: false,
    inboxPrefix: '_INBOX',
    signal: told.signal,
    onMessage: ({ sequence }) => sequences.push(sequence),
    onCaughtUp() {
      atCatchUp = [...sequences];
    },
  });
  await until(() => atCatchUp !== undefined);
  told.abort();
  expect(await ended).toBe('told');
  return atCatchUp ?? [];
}

describe('a stream that is followed has been read', () => {
  test('when all that its leader has was read, also on a server that is behind', async () => {
    await makeStream('behind', 3);
    expect(await follow('behind', 3, behind())).toEqual([1, 2, 3]);
    expect(await follow('behind', 3, behind(), 3)).toEqual([3]);
  });

  test('at once when there is nothing more, or the last messages are removed', async () => {
    await makeStream('removed', 4);
    expect(await follow('removed', 4, behind(), 5)).toEqual([]);
    await manager.streams.deleteMessage('removed', 4);
    await manager.streams.deleteMessage('removed', 3);
    expect(await follow('removed', 4, manager)).toEqual([1, 2]);
    await manager.streams.purge('removed');
    expect(await follow('removed', 4, manager)).toEqual([]);
  });

  test('when its leader is there again and says so', async () => {
    await makeStream('leaderless', 3);
    let asked = 0;
    const getMessage: JetStreamManager['streams']['getMessage'] = async (stream, query) => {
      asked += 1;
      if (asked < 3) throw new Error('TIMEOUT');
      return manager.streams.getMessage(stream, query);
    };
    await manager.streams.deleteMessage('leaderless', 3);
    expect(
      await follow('leaderless', 3, { consumers: manager.consumers, streams: { getMessage } } as never),
    ).toEqual([1, 2]);
    expect(asked).toBe(3);
  });

  test('never when it came to its end before its leader said so', async () => {
    await makeStream('over', 2);
    let answer = () => {};
    const getMessage = () =>
      new Promise<never>((resolve) => {
        answer = () => resolve({ seq: 0 } as never);
      });
    let isCaughtUp = false;
    // Nobody sends anything: it ends as silent.
    const consumers = { add: async () => ({ num_pending: 0, delivered: { consumer_seq: 0 } }) };
    const why = await followStream(connection, { consumers, streams: { getMessage } } as never, {
      stream: 'over',
      filter: 'over.>',
      from: 1,
      upTo: 2,
      headersOnly: false,
      inboxPrefix: '_INBOX',
      signal: new AbortController().signal,
      onMessage() {},
      onCaughtUp() {
        isCaughtUp = true;
      },
    });
    expect(why).toBe('silent');
    answer();
    await delay(10);
    expect(isCaughtUp).toBe(false);
  });

  test('in the end, to a user that may not ask for single messages', async () => {
    await makeStream('denied', 2);
    await manager.streams.deleteMessage('denied', 2);
    const getMessage = async () => {
      throw new Error('denied');
    };
    expect(
      await follow('denied', 2, { consumers: manager.consumers, streams: { getMessage } } as never),
    ).toEqual([1]);
  });
});
