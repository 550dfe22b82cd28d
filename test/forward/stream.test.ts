import type { NatsConnection } from 'nats';
import { StorageType } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SvcMqttError } from '../../src/errors.js';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import { requireStream } from '../../src/server/forward/stream/stream.js';
import { madeMark } from '../../src/server/forward/stream/stream-config.js';
import { openObserver, openTestLog } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let server: TestNatsServer;
let connection: NatsConnection;

beforeAll(async () => {
  server = await startNatsServer();
  connection = await openObserver(server.url);
});

afterAll(async () => {
  await connection?.close();
  await server?.stop();
});

afterEach(async () => {
  const manager = await connection.jetstreamManager();
  for await (const name of manager.streams.names()) await manager.streams.delete(name);
});

async function add(name: string, subjects: string[], more: Record<string, unknown> = {}): Promise<void> {
  const manager = await connection.jetstreamManager();
  await manager.streams.add({ name, subjects, ...more });
}

async function failure(template = 'raw.{id}', stream = 'RAW'): Promise<SvcMqttError> {
  try {
    await requireStream(
      connection,
      { stream, template, ingest: 'batch' as const, domain: undefined },
      openTestLog().log,
    );
  } catch (error) {
    if (error instanceof SvcMqttError) return error;
    throw error;
  }
  throw new Error('not refused');
}

describe('requireStream', () => {
  it('creates a stream when none touches the subjects, and finds it again', async () => {
    await add('ELSE', ['other.>', 'rawer.*']);
    const first = openTestLog();
    const wanted = {
      stream: 'RAW',
      template: 'raw.{type}.{id}',
      ingest: 'batch' as const,
      domain: undefined,
    };
    expect(await requireStream(connection, wanted, first.log)).toEqual({
      name: 'RAW',
      domain: undefined,
      maxMessageBytes: Number.POSITIVE_INFINITY,
      batchProblem: undefined,
      takesTtl: false,
      made: true,
      keeping: {
        stream: 'RAW',
        inMemory: false,
        writtenLate: false,
        replicas: 1,
        servers: undefined,
      },
      incarnation: expect.any(String),
      warnings: [],
    });
    expect(first.count('stream_created')).toBe(1);
    const second = openTestLog();
    await requireStream(connection, wanted, second.log);
    expect(second.lines.map(({ event }) => event)).toEqual(['stream_found']);
  });

  it.each([['raw.>'], ['raw.*'], ['fleet.*', 'raw.*'], ['x', 'raw.*']])(
    'uses an existing stream over %s as it is',
    async (...subjects) => {
      await add('MINE', subjects, { storage: StorageType.Memory, max_msg_size: 2_000 });
      const manager = await connection.jetstreamManager();
      const before = (await manager.streams.info('MINE')).config;
      const test = openTestLog();
      const stream = await requireStream(
        connection,
        { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined },
        test.log,
      );
      expect(stream).toEqual({
        name: 'MINE',
        maxMessageBytes: 2_000,
        batchProblem: 'stream MINE does not have allow_atomic',
        takesTtl: false,
        made: false,
        keeping: {
          stream: 'MINE',
          inMemory: true,
          writtenLate: false,
          replicas: 1,
          servers: undefined,
        },
        incarnation: expect.any(String),
        warnings: ['stream_in_memory'],
      });
      expect((await manager.streams.info('MINE')).config).toEqual(before);
      expect(test.count('stream_in_memory')).toBe(1);
    },
  );

  it('warns of a stream that confirms messages before it writes them', async (context) => {
    const { version = '' } = connection.info ?? {};
    if (!isAtLeast(version, 2, 12)) context.skip(`nats-server ${version} has no persist_mode`);
    await add('MINE', ['raw.>'], { ...{ persist_mode: 'async' } });
    const test = openTestLog();
    await requireStream(
      connection,
      { stream: 'RAW', template: 'raw.{id}', ingest: 'plain', domain: undefined },
      test.log,
    );
    expect(test.count('stream_written_late')).toBe(1);
  });

  it('lets a stream take batches that svc-mqtt made before, once', async (context) => {
    const { version = '' } = connection.info ?? {};
    if (!isAtLeast(version, 2, 15)) context.skip(`nats-server ${version} syncs each message of a batch`);
    await add('RAW', ['raw.*'], { metadata: { ...madeMark }, max_msgs: 7 });
    const wanted = { stream: 'RAW', template: 'raw.{id}', ingest: 'auto' as const, domain: undefined };
    const test = openTestLog();
    expect(await requireStream(connection, wanted, test.log)).toMatchObject({ batchProblem: undefined });
    expect(test.count('stream_updated')).toBe(1);
    const manager = await connection.jetstreamManager();
    expect((await manager.streams.info('RAW')).config).toMatchObject({ allow_atomic: true, max_msgs: 7 });
    await manager.streams.update('RAW', { subjects: ['raw.*'], ...{ allow_atomic: false } });
    expect(await requireStream(connection, wanted, test.log)).toMatchObject({
      batchProblem: 'stream RAW does not have allow_atomic',
    });
    expect(test.count('stream_updated')).toBe(1);
  });

  it.each([
    ['somebody else made', 'auto', {}],
    ['svc-mqtt made, with NATS_INGEST=plain', 'plain', { ...madeMark }],
  ] as const)('does not change a stream that %s', async (_which, ingest, metadata) => {
    await add('RAW', ['raw.*'], { metadata });
    const manager = await connection.jetstreamManager();
    const before = (await manager.streams.info('RAW')).config;
    await requireStream(
      connection,
      { stream: 'RAW', template: 'raw.{id}', ingest, domain: undefined },
      openTestLog().log,
    );
    expect((await manager.streams.info('RAW')).config).toEqual(before);
  });

  it('finds the stream among many', async () => {
    for (let index = 0; index < 5; index += 1) await add(`S${index}`, [`s${index}.>`]);
    await add('MINE', ['raw.>']);
    const stream = await requireStream(
      connection,
      { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined },
      openTestLog().log,
    );
    expect(stream.name).toBe('MINE');
  });

  it('names a stream that takes only a part', async () => {
    await add('PART', ['raw.a', 'raw.b']);
    const error = await failure();
    expect(error.code).toBe('NATS_STREAM');
    expect(error.toLine()).toContain('PART (raw.a, raw.b)');
    expect(error.toLine()).toContain('raw.*');
  });

  it('names several streams that take a part each', async () => {
    await add('ONE', ['raw.a.>']);
    await add('TWO', ['raw.b.>']);
    const line = (await failure('raw.{type}.{id}')).toLine();
    expect(line).toContain('ONE (raw.a.>)');
    expect(line).toContain('TWO (raw.b.>)');
  });

  it('names a stream that has the name and other subjects', async () => {
    await add('RAW', ['other.>']);
    const line = (await failure()).toLine();
    expect(line).toContain('A stream RAW exists and does not take raw.>');
    expect(line).toContain('NATS_STREAM');
  });

  it('refuses a stream that confirms nothing', async () => {
    await add('QUIET', ['raw.>'], { no_ack: true });
    expect((await failure()).toLine()).toContain('QUIET (raw.>) has no_ack');
  });

  it('refuses a sealed stream', async () => {
    await add('SEALED', ['raw.>']);
    await (await connection.jetstreamManager()).streams.update('SEALED', { sealed: true } as never);
    expect((await failure()).toLine()).toContain('SEALED (raw.>) is sealed');
  });

  it('takes no notice of a mirror of the stream', async () => {
    await add('MINE', ['raw.>']);
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: 'COPY', mirror: { name: 'MINE' } });
    const stream = await requireStream(
      connection,
      { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined },
      openTestLog().log,
    );
    expect(stream.name).toBe('MINE');
  });

  it('says so when the server has no JetStream', async () => {
    const plain = await startNatsServer({ jetstream: false });
    const observer = await openObserver(plain.url);
    try {
      const wanted = { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined };
      await expect(requireStream(observer, wanted, openTestLog().log)).rejects.toMatchObject({
        code: 'NATS_STREAM',
        message: 'JetStream is not enabled on the NATS server or for the account',
      });
    } finally {
      await observer.close();
      await plain.stop();
    }
  });

  it('says so when the account has no JetStream', async () => {
    const accounts = 'accounts { A { users: [ { user: a, password: a } ] } }';
    const limited = await startNatsServer({ configExtra: accounts });
    const observer = await openObserver(limited.url, { user: 'a', pass: 'a' });
    try {
      const wanted = { stream: 'RAW', template: 'raw.{id}', ingest: 'batch' as const, domain: undefined };
      await expect(requireStream(observer, wanted, openTestLog().log)).rejects.toMatchObject({
        code: 'NATS_STREAM',
        message: 'JetStream is not enabled on the NATS server or for the account',
      });
    } finally {
      await observer.close();
      await limited.stop();
    }
  });
});
