import { request } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import mqtt from 'mqtt';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { createAuthority, openTestFiles, type Pair } from '../support/certificates.js';
import { runCommand } from '../support/command.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase, postgresTemplateVariable } from '../support/postgres.js';
import { launchServer, startServerProcess } from '../support/server-process.js';

let postgres: Awaited<ReturnType<typeof borrowPostgres>>;
let nats: TestNatsServer;
let backends: { DATABASE_URL: string; NATS_URL: string };

beforeAll(async () => {
  postgres = await borrowPostgres();
  nats = await startNatsServer();
  const url = await createDatabase(postgres.url, process.env[postgresTemplateVariable]);
  backends = { DATABASE_URL: url, NATS_URL: nats.url };
});
afterAll(async () => {
  await nats?.stop();
  await postgres?.release();
});

async function openFiles() {
  const files = await openTestFiles();
  onTestFinished(() => files.remove());
  const authority = await createAuthority();
  const write = async ({ cert, key }: Pair) => ({
    TLS_CERT: await files.write('cert.pem', cert),
    TLS_KEY: await files.write('key.pem', key),
  });
  return { files, authority, write };
}

function callApi(port: number, method: string, path: string, ca: string, body?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path, method, ca, agent: false }, (answer) => {
      let text = '';
      answer.on('data', (chunk) => {
        text += chunk;
      });
      answer.on('end', () => resolve(text));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

async function fingerprintOf(port: number, ca: string): Promise<string> {
  const socket: TLSSocket = connect({ host: '127.0.0.1', port, ca });
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

test('a replica speaks TLS on every port that is set, and SIGHUP has its certificates read again', async () => {
  const { authority, write } = await openFiles();
  const { TLS_CERT, TLS_KEY } = await write(await authority.issue());
  const server = await startServerProcess({
    ...backends,
    TLS_CERT,
    TLS_KEY,
    HTTP_TLS_CERT: TLS_CERT,
    HTTP_TLS_KEY: TLS_KEY,
    MQTT_TCP: 'false',
    MQTTS_PORT: '0',
    WSS_PORT: '0',
  });
  onTestFinished(async () => void (await server.end('SIGKILL')));
  const ready = await server.waitFor('serve_ready');
  expect(ready.mqttPort).toBeUndefined();
  const [mqttsPort, wssPort] = [ready.mqttsPort, ready.wssPort] as [number, number];

  const ca = authority.cert;
  const device = JSON.parse(await callApi(server.httpPort, 'POST', '/devices', ca, '{"type":"sensor"}'));
  const login = {
    username: device.mqtt_user,
    password: device.mqtt_password,
    reconnectPeriod: 0,
    ca,
    wsOptions: { ca },
  };
  const clients = await Promise.all([
    mqtt.connectAsync(`mqtts://127.0.0.1:${mqttsPort}`, { ...login, clientId: 'tls' }),
    mqtt.connectAsync(`wss://127.0.0.1:${wssPort}/mqtt`, { ...login, clientId: 'wss' }),
  ]);
  onTestFinished(async () => {
    for (const client of clients) await client.endAsync(true);
  });
  const ports = [mqttsPort, wssPort, server.httpPort];
  const before = await fingerprintOf(mqttsPort, ca);

  await write(await authority.issue());
  server.signal('SIGHUP');
  await server.waitFor('certificate_reloaded');
  const after = await fingerprintOf(mqttsPort, ca);
  expect(after).not.toBe(before);
  for (const port of ports) await expect.poll(() => fingerprintOf(port, ca)).toBe(after);
  // A fault is complained of and changes nothing.
  await write({ cert: (await authority.issue()).cert, key: 'none' });
  server.signal('SIGHUP');
  await server.waitFor('certificate_reload_failed');
  for (const port of ports) expect(await fingerprintOf(port, ca)).toBe(after);
  for (const client of clients) {
    expect(client.connected).toBe(true);
    await client.publishAsync(`raw/${device.mqtt_user}`, 'still here', { qos: 1 });
  }
  expect(await server.end('SIGTERM')).toBe(0);
});

test('SIGHUP during the start does not end a server that has certificates', async () => {
  const { authority, write } = await openFiles();
  const { TLS_CERT, TLS_KEY } = await write(await authority.issue());
  const natsUrl = `nats://127.0.0.1:${await freePort()}`;
  const server = launchServer({ ...backends, NATS_URL: natsUrl, TLS_CERT, TLS_KEY, START_WAIT: '1m' });
  onTestFinished(() => server.signal('SIGKILL'));
  await server.waitFor('start_waiting');
  server.signal('SIGHUP');
  // It goes on to wait, and says so after five seconds.
  const told = () => server.log.filter(({ event }) => event === 'start_waiting').length;
  await expect.poll(told).toBeGreaterThan(1);
  server.signal('SIGTERM');
  expect(await server.ended).toBe(0);
});

test.each([
  [
    'a certificate that does not exist',
    { TLS_CERT: '/nowhere/cert.pem' },
    'TLS_CERT: /nowhere/cert.pem does not exist',
  ],
  ['a certificate without its key', { TLS_KEY: '' }, 'TLS_CERT is set without TLS_KEY'],
  ['a wrong key of the API', { HTTP_TLS_KEY: 'other' }, 'HTTP_TLS_KEY: '],
  [
    'WSS_PORT without a certificate',
    { TLS_CERT: '', TLS_KEY: '', WSS_PORT: '0' },
    'WSS_PORT is set without TLS_CERT and TLS_KEY',
  ],
  [
    'a list of proxies that is none',
    { PROXY_PROTOCOL_FROM: 'lb.example' },
    'PROXY_PROTOCOL_FROM cannot hold "lb.example"',
  ],
  ['a form of URIs without {id}', { MQTT_CLIENT_CERT_URI: 'urn:device' }, 'MQTT_CLIENT_CERT_URI cannot be'],
])('with %s the start fails with one line that says so', async (_what, change, message) => {
  const { files, authority, write } = await openFiles();
  const own = await write(await authority.issue());
  const other = await files.write('other.pem', (await authority.issue()).key);
  const settings = {
    ...backends,
    ...own,
    HTTP_TLS_CERT: own.TLS_CERT,
    HTTP_TLS_KEY: own.TLS_KEY,
    MQTTS_PORT: '0',
    MQTT_PORT: '0',
    LISTEN_ADDR: '127.0.0.1:0',
    LOG_FORMAT: 'json',
    LOG_LEVEL: 'error',
    ...change,
  };
  if ('HTTP_TLS_KEY' in change) settings.HTTP_TLS_KEY = other;
  const { status, stderr } = await runCommand(['serve'], settings);
  expect(stderr).toContain(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(status).toBe(2);
});
