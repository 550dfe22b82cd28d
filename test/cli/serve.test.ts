import { type AddressInfo, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase } from '../support/postgres.js';
import { killLeftovers, type Running, runCli, startCli, until } from './support.js';

let nats: TestNatsServer;
let postgres: Awaited<ReturnType<typeof borrowPostgres>> | undefined;
let env: Record<string, string>;

beforeAll(async () => {
  nats = await startNatsServer();
  postgres = await borrowPostgres();
  env = {
    DATABASE_URL: await createDatabase(postgres.url),
    NATS_URL: nats.url,
    MQTT_HOST: '127.0.0.1',
    MQTT_PORT: '0',
    LISTEN_ADDR: '127.0.0.1:0',
  };
});
afterEach(killLeftovers);
afterAll(async () => {
  await nats?.stop();
  await postgres?.release();
});

async function startServe(more: Record<string, string> = {}): Promise<Running> {
  const running = startCli(['serve'], { ...env, ...more });
  await until('the server is ready', () => running.output.stderr.includes('"serve_ready"'));
  return running;
}

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s drains and ends with status 0; stdout stays empty',
  async (signal) => {
    const server = await startServe();
    server.child.kill(signal);
    const { status, stdout, stderr } = await server.ended;
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
    expect(stderr).toContain('"serve_stopped"');
  },
);

test('every line of its log is JSON when stderr is no terminal, and the ports are told', async () => {
  const server = await startServe();
  const lines = server.output.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const ready = lines.find((line) => line.event === 'serve_ready');
  expect(ready?.mqttPort).toBeGreaterThan(0);
  expect(ready?.httpPort).toBeGreaterThan(0);
  expect((await fetch(`http://127.0.0.1:${String(ready?.httpPort)}/readyz`)).status).toBe(200);
  server.child.kill('SIGTERM');
  await server.ended;
});

test.each([
  ['an exception', 'throw new Error("a defect of the test")'],
  ['a rejection', 'Promise.reject(new Error("a defect of the test"))'],
])(
  '%s that nothing caught is logged with its stack and ends the process with status 1',
  async (_, defect) => {
    const preload = `data:text/javascript,process.on('SIGUSR2',()=>{${encodeURIComponent(defect)}})`;
    const server = await startServe({ NODE_OPTIONS: `--import="${preload}"` });
    server.child.kill('SIGUSR2');
    const { status, stderr } = await server.ended;
    expect(status).toBe(1);
    const told = JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '');
    expect(told).toMatchObject({ level: 60, event: 'uncaught_exception' });
    expect(told.err).toMatchObject({ type: 'Error', message: 'a defect of the test' });
    expect(told.err.stack).toMatch(/\n +at /);
  },
);

test('a second signal exits at once, with the status of a process that it ended', async () => {
  const server = await startServe();
  // Both signals reach a process that is stopped, so the second is there before the first has been dealt with.
  server.child.kill('SIGSTOP');
  server.child.kill('SIGINT');
  server.child.kill('SIGTERM');
  server.child.kill('SIGCONT');
  const { status, stderr } = await server.ended;
  expect([130, 143]).toContain(status);
  expect(stderr).not.toContain('"serve_stopped"');
});

test('a signal during the start ends it cleanly', async () => {
  const server = startCli(['serve'], { ...env, LOG_LEVEL: 'debug' });
  await until('it has begun', () => server.output.stderr.includes('"event"'));
  server.child.kill('SIGTERM');
  expect((await server.ended).status).toBe(0);
});

test('a start that fails is one line that says what and where, and status 1', async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => {
    taken.listen(0, '127.0.0.1', resolve);
  });
  const port = String((taken.address() as AddressInfo).port);
  try {
    const cases: [Record<string, string>, string][] = [
      [{ MQTT_PORT: port }, port],
      [{ LISTEN_ADDR: `127.0.0.1:${port}` }, port],
      [{ NATS_URL: 'nats://127.0.0.1:1' }, '127.0.0.1:1'],
      [{ DATABASE_URL: 'postgres://u:sekrit@127.0.0.1:1/d' }, '127.0.0.1:1'],
    ];
    for (const [more, named] of cases) {
      const { status, stdout, stderr } = await runCli(['serve', '--wait', '0'], {
        ...env,
        ...more,
        LOG_LEVEL: 'silent',
      });
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^svc-mqtt: .*\n$/);
      expect(stderr).toContain(named);
      expect(stderr).not.toContain('sekrit');
    }
  } finally {
    await new Promise((resolve) => {
      taken.close(resolve);
    });
  }
});
