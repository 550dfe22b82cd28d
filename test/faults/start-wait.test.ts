import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../support/free-port.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import {
  borrowPostgres,
  createDatabase,
  postgresTemplateVariable,
  startPostgres,
} from '../support/postgres.js';
import { type LogLine, launchServer, programFile } from '../support/server-process.js';
import { addDevice, tryConnect } from './gateway.js';
import { takePort } from './processes.js';

let postgres: Awaited<ReturnType<typeof borrowPostgres>>;
let nats: TestNatsServer;
let databaseUrl: string;

beforeAll(async () => {
  [postgres, nats] = await Promise.all([borrowPostgres(), startNatsServer()]);
  databaseUrl = await createDatabase(postgres.url, process.env[postgresTemplateVariable]);
});
afterAll(async () => {
  await nats?.stop();
  await postgres?.release();
});

/** Nobody listens on port 1. */
const nowhere = {
  database: 'postgres://u:sekrit-word@127.0.0.1:1/d',
  nats: 'nats://127.0.0.1:1',
};

/** On a machine that is busy what is there answers late, and is not away. */
const patient = { DATABASE_TIMEOUT_MS: '60000' };
const isLate = ({ reason }: LogLine) =>
  /did not answer within|does not answer as NATS does|not shown the credentials in time/.test(String(reason));

const isOpen = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

test('PostgreSQL and NATS that start later are waited for, and nobody is let in before', async ({
  onTestFinished,
}) => {
  const own = await startPostgres();
  onTestFinished(() => own.stop());
  const url = await createDatabase(own.url);
  await own.halt();
  const [mqttPort, httpPort, natsPort] = [await freePort(), await freePort(), await freePort()];
  const server = launchServer(
    {
      ...patient,
      DATABASE_URL: url,
      NATS_URL: `nats://127.0.0.1:${natsPort}`,
      MQTT_PORT: String(mqttPort),
      LISTEN_ADDR: `127.0.0.1:${httpPort}`,
    },
    { args: ['--wait', '10m'] },
  );
  onTestFinished(() => server.signal('SIGKILL'));
  const waitsFor = (what: string) => server.waitFor('start_waiting', (line) => line.what === what);
  expect(await waitsFor('PostgreSQL')).toMatchObject({ reason: expect.stringContaining(`:${own.port}`) });
  expect([await isOpen(mqttPort), await isOpen(httpPort)]).toEqual([false, false]);
  await own.start();
  expect(await waitsFor('NATS')).toMatchObject({ reason: expect.stringContaining(`:${natsPort}`) });
  expect([await isOpen(mqttPort), await isOpen(httpPort)]).toEqual([false, false]);
  // It goes on saying so.
  const lines = () => server.log.filter((line) => line.event === 'start_waiting' && line.what === 'NATS');
  const first = lines()[0]?.secondsLeft as number;
  await server.waitFor('start_waiting', (line) => line.what === 'NATS' && Number(line.secondsLeft) < first);
  const late = await startNatsServer({ port: natsPort });
  onTestFinished(() => late.stop());
  await server.waitFor('serve_ready');
  expect(await tryConnect(mqttPort, await addDevice(httpPort))).toBe(0);
});

test('a JetStream cluster that has no leader yet is waited for', { timeout: 300_000 }, async ({
  onTestFinished,
}) => {
  const [here, there] = [await freePort(), await freePort()];
  const alone = await startNatsServer({
    configExtra: `server_name: one\ncluster { name: c, listen: "127.0.0.1:${here}", routes: ["nats://127.0.0.1:${there}"] }`,
  });
  onTestFinished(() => alone.stop());
  const server = launchServer(
    { ...patient, DATABASE_URL: databaseUrl, NATS_URL: alone.url },
    { args: ['--wait', '10m'] },
  );
  onTestFinished(() => server.signal('SIGKILL'));
  const told = await server.waitFor('start_waiting', (line) => !isLate(line));
  expect(told).toMatchObject({ what: 'NATS', reason: expect.stringMatching(/JetStream|Stream RAW/) });
  server.signal('SIGTERM');
  expect(await server.ended).toBe(0);
});

test('a wait that is over ends with one line that says what is away', async () => {
  for (const [more, named] of [
    [{ DATABASE_URL: nowhere.database }, /database at .*127\.0\.0\.1:1/],
    [{ NATS_URL: nowhere.nats }, /NATS at .*127\.0\.0\.1:1/],
  ] as const) {
    const server = launchServer(
      { ...patient, DATABASE_URL: databaseUrl, NATS_URL: nats.url, ...more },
      // Until it has come to NATS a start does not wait, and its time goes by.
      { args: ['--wait', '5s'] },
    );
    expect(await server.ended).toBe(1);
    expect(server.log.map(({ event }) => event)).toContain('start_waiting');
    expect(server.stderr.filter((line) => line.startsWith('svc-mqtt: '))).toHaveLength(1);
    expect(server.stderr.at(-1)).toMatch(named);
    expect(server.stderr.join('\n')).not.toContain('sekrit-word');
  }
});

test('what is wrong for good ends the start at once, however long it may wait', { timeout: 300_000 }, async ({
  onTestFinished,
}) => {
  const locked = await startNatsServer({
    configExtra: 'authorization { user: u, password: p, timeout: 60 }',
  });
  onTestFinished(() => locked.stop());
  const plain = await startNatsServer({ jetstream: false });
  onTestFinished(() => plain.stop());
  const taken = await takePort();
  onTestFinished(() => taken.release());
  const changed = (change: (url: URL) => void) => {
    const url = new URL(databaseUrl);
    change(url);
    return url.href;
  };
  const away = { DATABASE_URL: nowhere.database, NATS_URL: nowhere.nats };
  const cases: Record<string, string>[] = [
    { DATABASE_URL: changed((url) => (url.password = 'wrong')) },
    { DATABASE_URL: changed((url) => (url.pathname = '/no_such_thing')) },
    { DATABASE_URL: changed((url) => (url.search = '?sslmode=require')) },
    { NATS_URL: locked.url },
    { NATS_URL: nats.url.replace('nats:', 'tls:') },
    { NATS_URL: plain.url },
    // What the settings alone tell, and ports that are taken, is told before anything is waited for.
    { ...away, MQTT_PORT: String(taken.port) },
    { ...away, WS_PORT: String(taken.port) },
    { ...away, LISTEN_ADDR: `127.0.0.1:${taken.port}` },
    { ...away, NATS_SUBJECT: 'raw..{id}' },
    { ...away, NATS_CREDS_FILE: '/no/such/file' },
    { ...away, TLS_CERT: '/no/such/file', TLS_KEY: '/no/such/file' },
  ];
  const tryCase = async (more: Record<string, string>) => {
    const server = launchServer({
      ...patient,
      DATABASE_URL: databaseUrl,
      NATS_URL: nats.url,
      START_WAIT: '10m',
      ...more,
    });
    const inVain = (line: LogLine) => line.event === 'start_waiting' && !isLate(line);
    // A wait would be told, and then ended by the test.
    const waited = server.waitFor('start_waiting', inVain).then(
      () => server.signal('SIGKILL'),
      () => {},
    );
    const status = await server.ended;
    await waited;
    expect([more, [1, 2].includes(Number(status))]).toEqual([more, true]);
    expect([more, server.log.filter(inVain)]).toEqual([more, []]);
    expect(server.stderr.at(-1)).toMatch(/^svc-mqtt: /);
  };
  while (cases.length > 0) await Promise.all(cases.splice(0, 4).map(tryCase));
});

test.for(['SIGTERM', 'SIGINT'] as const)('%s ends the wait cleanly', async (signal, { onTestFinished }) => {
  const silent = await takePort();
  onTestFinished(() => silent.release());
  const cases = [
    { DATABASE_URL: nowhere.database },
    { NATS_URL: nowhere.nats },
    // It waits for one that takes connections and says nothing.
    {
      DATABASE_URL: `postgres://u:p@127.0.0.1:${silent.port}/d`,
      DATABASE_TIMEOUT_MS: '600000',
      LOG_LEVEL: 'debug',
    },
  ];
  for (const more of cases) {
    const server = launchServer({
      DATABASE_URL: databaseUrl,
      NATS_URL: nats.url,
      ACL: 'open',
      START_WAIT: '10m',
      ...more,
    });
    await server.waitFor('LOG_LEVEL' in more ? 'acl_open' : 'start_waiting');
    server.signal(signal);
    expect([more, await server.ended]).toEqual([more, 0]);
    expect(server.log.at(-1)).toMatchObject({ event: 'serve_stopped' });
  }
});

test.runIf(process.platform === 'linux')('a limit of the address space is told in one line', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-limit-'));
  try {
    const child = spawn(
      'sh',
      ['-c', 'ulimit -v 2000000; exec "$0" "$@"', process.execPath, programFile, 'serve'],
      {
        cwd: directory,
        env: { PATH: process.env.PATH, LOG_FORMAT: 'json', MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      text += String(chunk);
    });
    const status = await new Promise((resolve) => child.once('close', resolve));
    expect(status).toBe(1);
    const lines = text
      .trimEnd()
      .split('\n')
      .filter((line) => !line.startsWith('{"level":30'));
    expect(lines).toEqual([expect.stringMatching(/^svc-mqtt: .*memory.*ulimit -v/)]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
