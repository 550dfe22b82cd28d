import { connect, headers, type NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openLog } from '../../src/log.js';
import { startEmbeddedNats } from '../../src/server/forward/embedded/embedded-nats.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase } from '../support/postgres.js';
import { jsonLines, killLeftovers, makeTempDir, type Running, runCli, startCli, until } from './support.js';

let server: TestNatsServer;

beforeAll(async () => {
  server = await startNatsServer();
  await withNats(async (connection) => {
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: 'RAW', subjects: ['raw.>'] });
  });
});
afterEach(killLeftovers);
afterAll(() => server?.stop());

async function withNats(work: (connection: NatsConnection) => Promise<unknown>): Promise<void> {
  const connection = await connect({ servers: server.url });
  try {
    await work(connection);
    await connection.flush();
  } finally {
    await connection.close();
  }
}

/** Stores messages `first` … `last` as `{"n":1}` and so on. */
function store(subject: string, first: number, last: number): Promise<void> {
  return withNats(async (connection) => {
    const stream = connection.jetstream();
    for (let n = first; n <= last; n += 1) {
      const topic = headers();
      topic.set('Mqtt-Topic', subject.replaceAll('.', '/'));
      await stream.publish(subject, JSON.stringify({ n }), { headers: topic });
    }
  });
}

const env = () => ({ NATS_URL: server.url });

/** Starts the command and waits until it has its source. */
async function startTail(args: readonly string[]): Promise<Running> {
  const running = startCli(['tail-nats', ...args], env());
  await until('tail-nats listens', () => running.output.stderr.includes('Ctrl-C ends'));
  return running;
}

const numbersOf = (text: string) => jsonLines(text).map((line) => (line.payload as { n: number }).n);

describe('without NATS_URL', () => {
  test('the embedded server is found on the port that it chose', async () => {
    const { path: dataDir, remove } = makeTempDir();
    const embedded = await startEmbeddedNats({
      dataDir,
      port: 0,
      program: process.env.NATS_SERVER_BIN,
      log: openLog({ level: 'silent', format: 'json' }),
    });
    const environment = { DATA_DIR: dataDir, EMBEDDED_NATS_PORT: '0' };
    try {
      const running = startCli(['tail-nats', '--json', '--count', '1'], environment);
      await until('tail-nats listens', () => running.output.stderr.includes('Ctrl-C ends'));
      const connection = await connect({ servers: embedded.url });
      connection.publish('raw.d1', '{"n":1}');
      await connection.flush();
      await connection.close();
      const { status, stdout } = await running.ended;
      expect([status, numbersOf(stdout)]).toEqual([0, [1]]);
    } finally {
      await embedded.close();
    }
    const { status, stderr } = await runCli(['tail-nats'], environment);
    expect([status, stderr]).toEqual([1, expect.stringContaining(`runs for the data directory ${dataDir}`)]);
    remove();
  });
});

describe('from a stream', () => {
  test('what comes after the start is shown, up to the count', async () => {
    await store('raw.before', 0, 0);
    const tail = await startTail(['--json', '--count', '3']);
    await store('raw.d1', 1, 4);
    const { status, stdout, stderr } = await tail.ended;
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: 'Showing raw.> from stream RAW; Ctrl-C ends.\n',
    });
    expect(numbersOf(stdout)).toEqual([1, 2, 3]);
    expect(jsonLines(stdout)[0]).toEqual({
      time: expect.stringMatching(/^20.*Z$/),
      subject: 'raw.d1',
      topic: 'raw/d1',
      size: 7,
      seq: expect.any(Number),
      encoding: 'json',
      payload: { n: 1 },
    });
  });

  test('--since starts in the past, --device shows one device only', async () => {
    await store('raw.d2', 1, 3);
    await store('raw.d3', 9, 9);
    const args = ['tail-nats', '--since', '10m', '--json', '--count', '3', '--device', 'd2'];
    const { status, stdout } = await runCli(args, env());
    expect(status).toBe(0);
    expect(numbersOf(stdout)).toEqual([1, 2, 3]);
    expect(new Set(jsonLines(stdout).map((line) => line.subject))).toEqual(new Set(['raw.d2']));
  });

  test('--device shows what a policy sends elsewhere', async () => {
    const postgres = await borrowPostgres();
    onTestFinished(() => postgres.release());
    const environment = { ...env(), DATABASE_URL: await createDatabase(postgres.url) };
    for (const args of [
      ['migrate'],
      ['device', 'add', '--type', 'meter', '--id', 'm1'],
      ['policy', 'set', 'meter', '--publish', 'raw/{id}', '--nats-subject', 'raw.meters.{type}.{id}'],
    ]) {
      expect((await runCli(args, environment)).status).toBe(0);
    }
    await store('raw.meters.meter.m1', 1, 2);
    await store('raw.m1', 3, 3);
    const args = ['tail-nats', '--since', '10m', '--json', '--count', '2', '--device', 'm1'];
    const { status, stdout, stderr } = await runCli(args, environment);
    expect({ status, numbers: numbersOf(stdout) }).toEqual({ status: 0, numbers: [1, 2] });
    expect(stderr).toBe('Showing raw.meters.*.m1 from stream RAW; Ctrl-C ends.\n');
    const unknown = await runCli(['tail-nats', '--device', 'd9'], environment);
    expect(unknown).toEqual({
      ...{ status: 1, signal: null, stdout: '' },
      stderr: 'svc-mqtt: There is no device d9. `svc-mqtt device list --all` shows every id\n',
    });
  });

  test('--timeout ends it, with status 1 when fewer came than --count asks for', async () => {
    const args = ['tail-nats', 'raw.slow', '--since', '10m', '--timeout', '6s', '--json'];
    await store('raw.slow', 1, 2);
    const short = await runCli([...args, '--count', '3'], env());
    expect({ status: short.status, numbers: numbersOf(short.stdout) }).toEqual({
      status: 1,
      numbers: [1, 2],
    });
    expect(short.stderr).toContain('The time is over, and 2 messages of 3 came.\n');
    const uncounted = await runCli(args, env());
    expect({ status: uncounted.status, numbers: numbersOf(uncounted.stdout) }).toEqual({
      status: 0,
      numbers: [1, 2],
    });
  });

  test('lines for people have time, subject, topic, size and payload, and cannot drive the terminal', async () => {
    const tail = await startTail(['raw.d4', '--count', '2']);
    await withNats(async (connection) => {
      connection.publish('raw.d4', '\u001b[2Jhello\r\n');
      connection.publish('raw.d4', Uint8Array.of(0xff, 0));
    });
    const { stdout } = await tail.ended;
    const [text, binary] = stdout.trimEnd().split('\n');
    expect(text).toMatch(/^20\S+Z {2}raw\.d4 {2}- {2}11 B {2}\\u001b\[2Jhello\\r\\n$/);
    expect(binary).toMatch(/^20\S+Z {2}raw\.d4 {2}- +2 B {2}0xff00$/);
  });

  test('nothing is missed and nothing comes twice while NATS is away, many messages or few', async () => {
    const tail = await startTail(['raw.gap', '--json', '--count', '1300']);
    await store('raw.gap', 1, 500);
    await until('the first are shown', () => tail.output.stdout.includes('{"n":500}'));
    await server.kill();
    await until('the loss is said', () => tail.output.stderr.includes('Lost the connection to NATS'));
    await server.restart();
    await store('raw.gap', 501, 1_300);
    const { status, stdout, stderr } = await tail.ended;
    expect(status).toBe(0);
    expect(numbersOf(stdout)).toEqual(Array.from({ length: 1_300 }, (_, index) => index + 1));
    expect(stderr).toContain('Connected again; nothing is missed.');
  });

  test('a stream that is deleted and made anew while it is read is followed', async () => {
    await withNats(async (connection) => {
      const manager = await connection.jetstreamManager();
      await manager.streams.add({ name: 'OTHER', subjects: ['other.>'] });
    });
    await store('other.a', 1, 3);
    const tail = await startTail(['other.>', '--json']);
    await withNats(async (connection) => {
      const manager = await connection.jetstreamManager();
      await manager.streams.delete('OTHER');
      await manager.streams.add({ name: 'OTHER', subjects: ['other.>'] });
    });
    await store('other.a', 10, 10);
    await until('the message of the new stream is shown', () => tail.output.stdout.includes('{"n":10}'));
    tail.child.kill('SIGINT');
    expect((await tail.ended).status).toBe(0);
  });
});

describe('without a stream', () => {
  test('a subject is shown live', async () => {
    const tail = await startTail(['cmd.>', '--json', '--count', '2']);
    expect(tail.output.stderr).toContain('Showing cmd.> live, as no stream covers it');
    await withNats(async (connection) => {
      connection.publish('cmd.d1.led', 'on');
      connection.publish('cmd.d1.led', Uint8Array.of(0xff));
    });
    const { status, stdout } = await tail.ended;
    expect(status).toBe(0);
    const [first, second] = jsonLines(stdout);
    expect(first).toEqual({
      time: expect.any(String),
      subject: 'cmd.d1.led',
      topic: null,
      size: 2,
      encoding: 'text',
      payload: 'on',
    });
    expect(second).toMatchObject({ encoding: 'base64', payload: '/w==' });
  });

  test('--since is refused', async () => {
    const { status, stderr } = await runCli(['tail-nats', 'cmd.>', '--since', '1m'], env());
    expect(status).toBe(1);
    expect(stderr).toMatch(/^svc-mqtt: --since needs a stream, and no stream covers cmd\.>.*\n$/);
  });

  test('a server without JetStream is shown live', async () => {
    const plain = await startNatsServer({ jetstream: false });
    try {
      const tail = startCli(['tail-nats', '--count', '1', '--json'], { NATS_URL: plain.url });
      await until('it listens', () => tail.output.stderr.includes('live'));
      const connection = await connect({ servers: plain.url });
      connection.publish('raw.x', '1');
      await connection.drain();
      expect(jsonLines((await tail.ended).stdout)).toMatchObject([{ subject: 'raw.x', payload: 1 }]);
    } finally {
      await plain.stop();
    }
  });

  test('a subject that NATS does not allow is a failure', async () => {
    const strict = await startNatsServer({
      jetstream: false,
      configExtra:
        'authorization { users: [{user: u, password: p, permissions: {subscribe: ["_INBOX.>", "raw.>"]}}] }',
    });
    try {
      const url = strict.url.replace('nats://', 'nats://u:p@');
      const { status, stderr } = await runCli(['tail-nats', 'secret.>'], { NATS_URL: url });
      expect(status).toBe(1);
      expect(stderr).toContain('svc-mqtt: NATS does not let this user subscribe to secret.>');
      const refused = await runCli(['tail-nats'], { NATS_URL: strict.url });
      expect(refused.status).toBe(1);
      expect(refused.stderr).toMatch(/^svc-mqtt: .*\n$/);
    } finally {
      await strict.stop();
    }
  });
});

describe('it ends with status 0 and nothing more on stderr', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('at %s', async (signal) => {
    const tail = await startTail([]);
    tail.child.kill(signal);
    const { status, stderr } = await tail.ended;
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: 'Showing raw.> from stream RAW; Ctrl-C ends.\n',
    });
  });

  test('when its reader has gone', async () => {
    await store('raw.pipe', 1, 2_000);
    const tail = startCli(['tail-nats', 'raw.pipe', '--since', '10m'], env());
    tail.child.stdout?.once('data', () => tail.child.stdout?.destroy());
    const { status, stderr } = await tail.ended;
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: 'Showing raw.pipe from stream RAW; Ctrl-C ends.\n',
    });
  });

  test('while NATS is away', async () => {
    const tail = await startTail([]);
    await server.kill();
    await until('the loss is said', () => tail.output.stderr.includes('Lost the connection'));
    tail.child.kill('SIGINT');
    expect((await tail.ended).status).toBe(0);
    await server.restart();
  });
});
