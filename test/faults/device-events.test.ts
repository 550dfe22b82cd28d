import { readFileSync } from 'node:fs';
import { type CloudEvent, HTTP } from 'cloudevents';
import { connect as connectNats, type Msg } from 'nats';
import pg from 'pg';
import { Check } from 'typebox/schema';
import { expect, test } from 'vitest';
import { disconnectPacket } from '../support/raw-client.js';
import { startServerProcess } from '../support/server-process.js';
import {
  addDevice,
  connectDevice,
  type Gateway,
  type OnFinished,
  startGateway,
  tryConnect,
  until,
} from './gateway.js';

interface Told {
  subject: string;
  kind: string;
  device: string;
  [name: string]: unknown;
}

const schema = JSON.parse(
  readFileSync(new URL('../../docs/device-event.schema.json', import.meta.url), 'utf8'),
);

/** What is told of devices from now on, as the official library reads it. */
async function listen(onFinished: OnFinished, url: string) {
  const nats = await connectNats({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
  onFinished(() => nats.close());
  const told: Told[] = [];
  const ids: string[] = [];
  const callback = (_error: unknown, message: Msg) => {
    const headers = Object.fromEntries(
      [...(message.headers?.keys() ?? [])].map((key) => [key, message.headers?.get(key)]),
    );
    const event = HTTP.toEvent({ headers, body: message.string() }) as CloudEvent<Told>;
    expect(event.validate()).toBe(true);
    if (!Check(schema, event.data)) throw new Error(`not of the schema: ${message.string()}`);
    const data = event.data as Told;
    expect(event).toMatchObject({
      specversion: '1.0',
      type: `svc-mqtt.device.${data.kind}`,
      subject: data.device,
    });
    expect(event.time).toBe(data.at);
    expect(message.headers?.get('Nats-Msg-Id')).toBe(`${event.source}#${event.id}`);
    ids.push(`${event.source}#${event.id}`);
    told.push({ ...data, subject: message.subject });
  };
  nats.subscribe('event.device.>', { callback });
  await nats.flush();
  return { told, ids };
}

async function start(onFinished: OnFinished, env: Record<string, string> = {}): Promise<Gateway> {
  const gateway = await startGateway(onFinished, { env: { DEVICE_EVENTS: 'true', ...env } });
  const database = new pg.Client({ connectionString: gateway.databaseUrl });
  await database.connect();
  // What is done before the first replica of all has noted where to begin is not told.
  await until(
    'the begin is noted',
    async () => (await database.query('select from event_cursor')).rowCount === 1,
  );
  await database.end();
  return gateway;
}

async function api(gateway: Gateway, method: string, path: string): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${gateway.server.httpPort}${path}`, {
    method,
    ...(method === 'POST' && { body: '{}', headers: { 'content-type': 'application/json' } }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

test('the life of a device and its connections are told, each once, in order', async ({ onTestFinished }) => {
  const gateway = await start(onTestFinished);
  const { told } = await listen(onTestFinished, gateway.nats.url);
  const device = await addDevice(gateway.server.httpPort);
  const kinds = (of: string = device.id) => told.filter((each) => each.device === of).map(({ kind }) => kind);
  await until('it is told', () => kinds().includes('provisioned'));
  const { client, code } = await connectDevice(gateway.server.mqttPort, device);
  expect(code).toBe(0);
  client.send(disconnectPacket);
  await until('the end is told', () => kinds().includes('disconnected'));
  expect(await tryConnect(gateway.server.mqttPort, { ...device, password: 'wrong' })).not.toBe(0);
  await until('the refusal is told', () => kinds().includes('refused'));
  await api(gateway, 'POST', `/devices/${device.id}/rotate`);
  await until('the rotation is told', () => kinds().includes('rotated'));
  await api(gateway, 'DELETE', `/devices/${device.id}`);
  await until('the revocation is told', () => kinds().includes('revoked'));
  await api(gateway, 'POST', `/devices/${device.id}/enable`);
  await until('enabling is told', () => kinds().includes('enabled'));
  await api(gateway, 'POST', `/devices/${device.id}/remove`);
  await until('the removal is told', () => kinds().includes('removed'));
  expect(kinds()).toEqual([
    'provisioned',
    'connected',
    'disconnected',
    'refused',
    'rotated',
    'revoked',
    'enabled',
    'removed',
  ]);
  expect(told[0]).toEqual({
    subject: `event.device.${device.id}.provisioned`,
    kind: 'provisioned',
    device: device.id,
    at: expect.any(String),
    actor: 'local',
    details: { type: 'sensor' },
  });
  expect(told[1]).toMatchObject({ client: 'c', address: expect.stringMatching(/^127\.0\.0\.1/) });
  expect(told[2]).toMatchObject({ reason: expect.any(String) });
  expect(JSON.stringify(told)).not.toContain(device.password);
});

test('what was done while NATS or every replica was away is told later, also what was done in SQL', async ({
  onTestFinished,
}) => {
  const gateway = await start(onTestFinished);
  const { told, ids } = await listen(onTestFinished, gateway.nats.url);
  const first = await addDevice(gateway.server.httpPort);
  await until('it is told', () => told.some((each) => each.device === first.id));

  await gateway.nats.kill();
  const inOutage = await addDevice(gateway.server.httpPort);
  await gateway.server.end('SIGKILL');
  const database = new pg.Client({ connectionString: gateway.databaseUrl });
  await database.connect();
  onTestFinished(() => database.end());
  // A transaction that is not over yet keeps nobody else's changes back.
  const slow = new pg.Client({ connectionString: gateway.databaseUrl });
  await slow.connect();
  onTestFinished(() => slow.end());
  await slow.query(`begin; select svc_mqtt.add_device('pump', 'slow')`);
  await database.query(`select svc_mqtt.add_device('pump', 'in-sql')`);
  await database.query(`begin; select svc_mqtt.add_device('pump', 'undone'); rollback`);
  await gateway.nats.restart();
  await gateway.restart();
  const devices = () => told.map(({ device }) => device);
  await until('all is told', () => [inOutage.id, 'in-sql'].every((id) => devices().includes(id)));
  expect(devices()).not.toContain('slow');
  await slow.query('commit');
  await until('the slow one too', () => devices().includes('slow'));
  expect(devices()).not.toContain('undone');
  expect(told.find(({ device }) => device === 'in-sql')).toMatchObject({
    actor: expect.stringMatching(/^sql:/),
  });
  // At least once, and with the same id.
  expect(new Set(ids).size).toBe(new Set(devices()).size);
});

test('two replicas tell it once, and a bulk is told whole', async ({ onTestFinished }) => {
  const gateway = await start(onTestFinished, { MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' });
  const other = await startServerProcess(gateway.env);
  onTestFinished(async () => {
    await other.end('SIGKILL');
  });
  const { told, ids } = await listen(onTestFinished, gateway.nats.url);
  const database = new pg.Client({ connectionString: gateway.databaseUrl });
  await database.connect();
  onTestFinished(() => database.end());
  await database.query(
    `select added.device_id from generate_series(1, 1200) as n, lateral svc_mqtt.add_device('many', 'many-' || n) as added`,
  );
  await until('all are told', () => new Set(told.map(({ device }) => device)).size === 1_200);
  expect(ids.length).toBe(1_200);
});

test('without the setting nothing is told', async ({ onTestFinished }) => {
  const gateway = await startGateway(onTestFinished);
  const { told } = await listen(onTestFinished, gateway.nats.url);
  const device = await addDevice(gateway.server.httpPort);
  expect(await tryConnect(gateway.server.mqttPort, device)).toBe(0);
  await gateway.server.end('SIGTERM');
  expect(told).toEqual([]);
});
