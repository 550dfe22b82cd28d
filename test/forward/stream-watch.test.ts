import type { JetStreamManager, NatsConnection, StreamConfig } from 'nats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import { madeMark } from '../../src/server/forward/stream/stream-config.js';
import {
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  until,
  uplink,
} from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let server: TestNatsServer;
let observer: NatsConnection;
let manager: JetStreamManager;
let forwarder: Forwarder | undefined;
let log: ReturnType<typeof openTestLog>;

beforeEach(async () => {
  server = await startNatsServer();
  observer = await openObserver(server.url);
  manager = await observer.jetstreamManager();
  log = openTestLog();
});

afterEach(async () => {
  await forwarder?.close();
  forwarder = undefined;
  await observer?.close();
  await server?.stop();
});

async function open(stream?: Partial<StreamConfig>, ackTimeoutMs = 1_000): Promise<Forwarder> {
  if (stream !== undefined) await manager.streams.add({ name: 'RAW', subjects: ['raw.>'], ...stream });
  forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain', limits: { ackTimeoutMs } });
  return forwarder;
}

function publish(subject: Forwarder, payload: string): { readonly stored: boolean } {
  const state = { stored: false };
  subject.openLane().publish(
    uplink(payload, {
      onStored: () => {
        state.stored = true;
      },
    }),
  );
  return state;
}

/** Waits until the gateway has looked at the stream so often again. */
async function looks(count: number): Promise<void> {
  let seen = 0;
  const subscription = observer.subscribe('$JS.API.STREAM.>', {
    callback: (_error, { subject }) => {
      if (subject.startsWith('$JS.API.STREAM.INFO') || subject === '$JS.API.STREAM.LIST') seen += 1;
    },
  });
  await until(() => seen >= count);
  subscription.unsubscribe();
}

const reasons = () =>
  log.lines.filter(({ event }) => event === 'nats_stream_unusable').map(({ reason }) => String(reason));

describe('a stream that changes while it is used', () => {
  it('is sent nothing while it has no_ack set, and what waited when it confirms again', async () => {
    const subject = await open({});
    await manager.streams.update('RAW', { no_ack: true });
    await until(() => reasons().length === 1);
    expect(reasons()[0]).toBe('Stream RAW (raw.>) has no_ack set and confirms no message');
    const message = publish(subject, 'a');
    await until(() => subject.state().counters.retriedRefused >= 4);
    expect((await manager.streams.info('RAW')).state.messages).toBe(0);
    expect(message.stored).toBe(false);
    expect(log.lines.find(({ event }) => event === 'uplink_not_stored')).toMatchObject({
      cause: 'stream_unusable',
      detail: 'Stream RAW (raw.>) has no_ack set and confirms no message',
    });
    await manager.streams.update('RAW', { no_ack: false });
    await until(() => message.stored);
    expect(await readStream(observer)).toEqual(['a']);
    expect(log.count('nats_stream_usable')).toBe(1);
    expect(reasons().length).toBe(1);
  });

  it('is sent nothing more when it is sealed', async () => {
    const subject = await open({});
    await manager.streams.update('RAW', { sealed: true } as never);
    await until(() => reasons().length === 1);
    const message = publish(subject, 'a');
    await until(() => log.count('uplink_not_stored') === 1);
    expect(log.lines.find(({ event }) => event === 'uplink_not_stored')?.detail).toContain('is sealed');
    expect(message.stored).toBe(false);
  });

  it('is looked at as soon as there is a new connection', async () => {
    const subject = await open({}, 4_000);
    await server.kill();
    await until(() => !subject.state().connected);
    await server.restart();
    await observer.close();
    observer = await openObserver(server.url);
    manager = await observer.jetstreamManager();
    await manager.streams.update('RAW', { no_ack: true });
    const message = publish(subject, 'a');
    await until(() => reasons().length === 1);
    await until(() => subject.state().counters.retriedRefused >= 3);
    // Sent before the first look at most, and then once.
    expect((await manager.streams.info('RAW')).state.messages).toBeLessThan(2);
    expect(message.stored).toBe(false);
  });

  it('has its limit of a message read again', async () => {
    const subject = await open({});
    const before = subject.maxPayloadBytes;
    await manager.streams.update('RAW', { max_msg_size: 2_000 });
    await until(() => subject.maxPayloadBytes === 2_000);
    await manager.streams.update('RAW', { max_msg_size: -1 });
    await until(() => subject.maxPayloadBytes === before);
    expect(reasons()).toEqual([]);
  });

  it('is left for the one that takes its subjects from it', async () => {
    const subject = await open({});
    await manager.streams.update('RAW', { subjects: ['other'] });
    await manager.streams.add({ name: 'NEXT', subjects: ['raw.*'], max_msg_size: 3_000 });
    await until(() => subject.maxPayloadBytes === 3_000);
    const message = publish(subject, 'a');
    await until(() => message.stored);
    expect(await readStream(observer, 'NEXT')).toEqual(['a']);
    expect(log.lines.findLast(({ event }) => event === 'stream_found')).toMatchObject({ stream: 'NEXT' });
  });

  it('is named when it takes only a part of the subjects from now on, and takes that part', async () => {
    const subject = await open({});
    await manager.streams.update('RAW', { subjects: ['raw.abc'] });
    await until(() => reasons().length === 1);
    expect(reasons()[0]).toBe('of raw.*, RAW (raw.abc) takes only a part');
    const message = publish(subject, 'a');
    await until(() => message.stored);
  });

  it('is warned of when it begins to keep only what a consumer wants', async () => {
    await open({});
    await manager.streams.delete('RAW');
    await manager.streams.add({ name: 'RAW', subjects: ['raw.>'], retention: 'interest' as never });
    await until(() => log.count('stream_by_interest') === 1);
    await looks(2);
    expect(log.count('stream_by_interest')).toBe(1);
  });

  it('is looked at by the list when the user may not ask for it by name', async () => {
    await server.stop();
    server = await startNatsServer({
      configExtra: `authorization { users = [
        { user: admin, password: admin }
        { user: gateway, password: gateway, permissions: {
          publish: { allow: ["raw.>", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.*"] },
          subscribe: { allow: ["_INBOX.>"] } } }
      ] }`,
    });
    await observer.close();
    observer = await openObserver(server.url, { user: 'admin', pass: 'admin' });
    manager = await observer.jetstreamManager();
    forwarder = await openTestForwarder(server.url, log.log, {
      ingest: 'plain',
      nats: { natsUser: 'gateway', natsPassword: 'gateway' },
    });
    await manager.streams.update('RAW', { no_ack: true });
    await until(() => reasons().length === 1);
    expect(log.count('stream_look_failed')).toBe(0);
  });
});

describe('a stream that is gone', () => {
  it('is made again, once and with a word, when the gateway had made it', async (context) => {
    if (!isAtLeast(server.version, 2, 10)) context.skip('the server keeps no metadata of a stream');
    const subject = await open();
    const { config } = await manager.streams.info('RAW');
    expect(config.metadata).toMatchObject(madeMark);
    await manager.streams.delete('RAW');
    const message = publish(subject, 'a');
    await until(() => message.stored);
    expect((await manager.streams.info('RAW')).config).toEqual(config);
    expect(reasons()).toEqual(['no stream takes raw.*']);
    await until(() => log.count('nats_stream_usable') === 1);
    expect(log.count('stream_made_again')).toBe(1);
  });

  it('is known as made by a gateway after a restart of the gateway', async (context) => {
    if (!isAtLeast(server.version, 2, 10)) context.skip('the server keeps no metadata of a stream');
    await (await open()).close();
    await open();
    await manager.streams.delete('RAW');
    await until(() => log.count('stream_made_again') === 1);
  });

  it('is left to whoever removed it when somebody else had made it', async () => {
    const subject = await open({});
    await manager.streams.delete('RAW');
    const message = publish(subject, 'a');
    await until(() => reasons().length === 1);
    await looks(6);
    expect(log.count('stream_created')).toBe(0);
    await manager.streams.add({ name: 'MINE', subjects: ['raw.>'] });
    await until(() => message.stored);
    await until(() => log.count('nats_stream_usable') === 1);
  });
});
