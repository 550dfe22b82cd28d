import type { NatsConnection } from 'nats';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openObserver, openTestForwarder, openTestLog, until, uplink } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

/**
 * A gateway whose JetStream is asked through this test, as another account: the test can leave a stream out of the list, as
 * a cluster does after a change of leader, and keep answers back.
 */

let server: TestNatsServer;
const open: { close(): Promise<unknown> }[] = [];
const gateway = { natsUser: 'gateway', natsPassword: 'gateway' };

beforeEach(async () => {
  server = await startNatsServer({
    configExtra: `accounts {
      STORE { jetstream: enabled, users: [ { user: store, password: store } ], exports: [ { service: "raw.>" } ] }
      GATEWAY {
        users: [ { user: gateway, password: gateway } ]
        mappings: { "$JS.API.>": "asked.>" }
        imports: [ { service: { account: STORE, subject: "raw.>" } } ]
      }
    }`,
  });
});

afterEach(async () => {
  for (const connection of open.splice(0).reverse()) await connection.close();
  await server.stop();
});

async function connectAs(user: string): Promise<NatsConnection> {
  const connection = await openObserver(server.url, { user, pass: user });
  open.push(connection);
  return connection;
}

interface Between {
  /** So many times more the list is given without its streams. */
  left: number;
  /** Nothing is answered. */
  silent: boolean;
  readonly asked: string[];
}

async function standBetween(leftOut: number): Promise<{ between: Between; store: NatsConnection }> {
  const store = await connectAs('store');
  const between: Between = { left: leftOut, silent: false, asked: [] };
  (await connectAs('gateway')).subscribe('asked.>', {
    callback: async (_error, message) => {
      const subject = message.subject.replace('asked', '$JS.API');
      between.asked.push(subject);
      if (between.silent) return;
      if (subject === '$JS.API.STREAM.LIST' && between.left > 0) {
        between.left -= 1;
        message.respond(
          JSON.stringify({
            type: 'io.nats.jetstream.api.v1.stream_list_response',
            total: 0,
            offset: 0,
            limit: 256,
            streams: [],
          }),
        );
        return;
      }
      message.respond((await store.request(subject, message.data)).data);
    },
  });
  return { between, store };
}

it('takes the stream that a list lacks for what it is, once it cannot create another of its name', async () => {
  const { between, store } = await standBetween(1_000_000);
  const { streams } = await store.jetstreamManager();
  await streams.add({ name: 'RAW', subjects: ['raw.>'], max_age: 86_400e9 });
  const log = openTestLog();
  const forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain', nats: gateway });
  open.push(forwarder);
  expect(between.asked).toContain('$JS.API.STREAM.INFO.RAW');
  let stored = false;
  forwarder.openLane().publish(uplink('a', { onStored: () => (stored = true) }));
  await until(() => stored);
  expect(log.lines.filter(({ level }) => Number(level) >= 50)).toEqual([]);
});

it('waits at the start for a stream that no list has and whose subjects are taken', async () => {
  const { store } = await standBetween(2);
  const { streams } = await store.jetstreamManager();
  await streams.add({ name: 'MINE', subjects: ['raw.>'] });
  const log = openTestLog();
  const forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain', nats: gateway });
  open.push(forwarder);
  expect(log.count('jetstream_starting')).toBe(1);
  expect(log.lines.findLast(({ event }) => event === 'stream_found')).toMatchObject({ stream: 'MINE' });
});

it('sends over a new connection what waits, and does not wait for a look at the stream', async () => {
  const { between, store } = await standBetween(0);
  const { streams } = await store.jetstreamManager();
  await streams.add({ name: 'RAW', subjects: ['raw.>'] });
  const log = openTestLog();
  const forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain', nats: gateway });
  open.push(forwarder);
  between.silent = true;
  await server.kill();
  await until(() => log.count('nats_disconnected') === 1);
  let stored = false;
  forwarder.openLane().publish(uplink('a', { onStored: () => (stored = true) }));
  await server.restart();
  await until(() => stored);
  const events = log.lines.map(({ event }) => event);
  expect(events).not.toContain('jetstream_starting');
  expect(events).not.toContain('nats_stream_unusable');
});
