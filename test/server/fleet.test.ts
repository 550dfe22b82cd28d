import { mkdtemp, rm } from 'node:fs/promises';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connectAsync, type MqttClient } from 'mqtt';
import pg from 'pg';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../../src/read-config.js';
import { type RunningServer, startServer } from '../../src/server/start.js';
import { openTestLog, until } from '../support/forwarding.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase } from '../support/postgres.js';
import { undoAfterAll } from '../support/undo-after-all.js';

/** A whole replica in this process, on a real PostgreSQL and a real nats-server, with real clients. */

type Json = Record<string, unknown>;
interface Row extends Json {
  readonly id: string;
  readonly device: string;
  readonly client: string;
  readonly rate: number | null;
}
interface Page {
  readonly total: number;
  readonly matching: number;
  readonly connections: Row[];
}

const later = undoAfterAll();
const clients: MqttClient[] = [];
const { log, lines } = openTestLog();
let nats: TestNatsServer;
let server: RunningServer;
let databaseUrl = '';
let api = '';

beforeAll(async () => {
  const postgres = await borrowPostgres();
  later(() => postgres.release());
  databaseUrl = await createDatabase(postgres.url);
  nats = await startNatsServer();
  later(() => nats.stop());
  server = await start();
  later(() => server.close());
  api = `http://127.0.0.1:${server.ports.http}`;
});

afterEach(async () => {
  for (const client of clients.splice(0)) await client.endAsync(true);
  await until(async () => (await list()).total === 0);
});

async function start(): Promise<RunningServer> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-fleet-'));
  later(() => rm(dataDir, { recursive: true, force: true }));
  const env = {
    DATABASE_URL: databaseUrl,
    NATS_URL: nats.url,
    DATA_DIR: dataDir,
    MQTT_PORT: '0',
    MAX_CONNECTIONS: '500',
    LISTEN_ADDR: '127.0.0.1:0',
  };
  return startServer(readConfig({ env }), log);
}

async function call(method: string, route: string): Promise<{ status: number; body: Json }> {
  const response = await fetch(`${api}${route}`, { method });
  const text = await response.text();
  return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Json) };
}

async function list(query = ''): Promise<Page> {
  const { status, body } = await call('GET', `/connections${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as Page;
}

async function addDevice(type: string): Promise<{ id: string; mqtt_password: string }> {
  const response = await fetch(`${api}/devices`, { method: 'POST', body: JSON.stringify({ type }) });
  return (await response.json()) as { id: string; mqtt_password: string };
}

async function connect(
  type: string,
  clientId: string,
  options: Json = {},
): Promise<MqttClient & { device: string }> {
  const device = await addDevice(type);
  const client = await connectAsync(`mqtt://127.0.0.1:${server.ports.mqtt}`, {
    username: device.id,
    password: device.mqtt_password,
    clientId,
    reconnectPeriod: 0,
    ...options,
  });
  clients.push(client);
  return Object.assign(client, { device: device.id });
}

describe('GET /connections', () => {
  test('filters, sorts and pages on the server', async () => {
    for (const [type, client] of [
      ['sensor', 'c-3'],
      ['sensor', 'c-1'],
      ['meter', 'c-2'],
    ] as const)
      await connect(type, client);
    const names = (page: Page) => page.connections.map(({ client }) => client);
    const byClient = await list('?sort=client&order=asc');
    expect(byClient).toMatchObject({ total: 3, matching: 3 });
    expect(names(byClient)).toEqual(['c-1', 'c-2', 'c-3']);
    expect(names(await list('?sort=client&order=desc&offset=1&limit=1'))).toEqual(['c-2']);
    expect(names(await list('?sort=connected&order=desc'))).toEqual(['c-3', 'c-1', 'c-2']);
    const filtered = await list('?q=SENSOR%20c-1');
    expect(filtered).toMatchObject({ total: 3, matching: 1 });
    expect(names(filtered)).toEqual(['c-1']);
    expect(names(await list('?type=meter'))).toEqual(['c-2']);
    expect((await list('?q=nothing')).connections).toEqual([]);
    expect((await list('?offset=1000')).connections).toEqual([]);
  });

  test('shows traffic, and the rate to those who keep watching', async () => {
    const client = await connect('sensor', 'busy');
    const sending = setInterval(() => client.publish(`raw/${client.device}`, 'x', { qos: 1 }), 20);
    try {
      let row: Row | undefined;
      await until(async () => {
        row = (await list()).connections[0];
        return (row?.rate ?? 0) > 0;
      });
      expect(row).toMatchObject({ client: 'busy', type: 'sensor', transport: 'tcp', protocol: '3.1.1' });
      expect(row?.received).toMatchObject({ qos0: 0, qos2: 0 });
      expect(row?.bytes_in).toBeGreaterThan(20);
      expect(row?.last_message_at).not.toBeNull();
    } finally {
      clearInterval(sending);
    }
  });

  test('refuses what it does not know by name', async () => {
    const { status, body } = await call('GET', '/connections?sort=colour&page=2&limit=501');
    expect(status).toBe(400);
    expect(body.detail).toContain('page is not a known parameter');
    expect(body.detail).toContain('sort must be one of device, type');
    expect(body.detail).toContain('limit must be at most 500');
  });
});

describe('GET /connections/{id}', () => {
  test('shows subscriptions, topics, will and the last refusal', async () => {
    const will = { topic: 'raw', payload: Buffer.from('bye'), qos: 1 as const, retain: false };
    const device = await addDevice('sensor');
    const client = await connectAsync(`mqtt://127.0.0.1:${server.ports.mqtt}`, {
      username: device.id,
      password: device.mqtt_password,
      clientId: 'detailed',
      keepalive: 30,
      clean: false,
      will: { ...will, topic: `raw/${device.id}/gone` },
      reconnectPeriod: 0,
    });
    clients.push(client);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    await client.subscribeAsync('cmd/another/#').catch(() => undefined);
    for (const part of ['a', 'b', 'a'])
      await client.publishAsync(`raw/${device.id}/${part}`, 'x', { qos: 1 });
    const [row] = (await list()).connections;
    const { status, body } = await call('GET', `/connections/${row?.id}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      client: 'detailed',
      keepalive_seconds: 30,
      persistent_session: true,
      session_expiry_seconds: null,
      receive_maximum: 65_535,
      topic_alias_maximum: 0,
      will: { topic: `raw/${device.id}/gone`, qos: 1, retain: false },
      subscriptions: 1,
      subscribed_to: [{ filter: `cmd/${device.id}/#`, qos: 1 }],
      last_topics: [`raw/${device.id}/a`, `raw/${device.id}/b`],
      received: { qos0: 0, qos1: 3, qos2: 0 },
      held: false,
    });
    expect((body.last_error as Json).detail).toBe(
      'subscription refused: cmd/another/#: the policy does not allow it',
    );
  });

  test.each(['GET', 'DELETE'])('%s answers 404 for another id', async (method) => {
    const { status, body } = await call(method, '/connections/nowhere-1');
    expect([status, body.code]).toEqual([404, 'CONNECTION_NOT_FOUND']);
  });
});

describe('DELETE /connections/{id}', () => {
  test('ends one connection, and says so in the log, the events and the audit log', async () => {
    const client = await connect('sensor', 'to-kick');
    const other = await connect('sensor', 'to-stay');
    const ended = new Promise<void>((resolve) => client.once('close', () => resolve()));
    const [row] = (await list('?q=to-kick')).connections;
    expect((await call('DELETE', `/connections/${row?.id}`)).status).toBe(204);
    await ended;
    expect(other.connected).toBe(true);
    expect(lines.find(({ event }) => event === 'connection_kicked')).toMatchObject({
      connection: row?.id,
      device: client.device,
    });
    const stats = (await call('GET', '/stats')).body as { recent_events: Json[] };
    expect(stats.recent_events.at(-1)).toMatchObject({
      kind: 'disconnected',
      reason: 'kicked',
      client: 'to-kick',
    });
    await until(async () => (await auditRows(client.device)).length === 1);
    expect(await auditRows(client.device)).toMatchObject([
      { action: 'connection.kick', actor_kind: 'local', details: { client: 'to-kick', connection: row?.id } },
    ]);
  });

  test('shows what a client of MQTT 5 takes, and the code that it was told', async () => {
    const device = await addDevice('sensor');
    const connectFive = async () => {
      const client = await connectAsync(`mqtt://127.0.0.1:${server.ports.mqtt}`, {
        protocolVersion: 5,
        username: device.id,
        password: device.mqtt_password,
        clientId: 'five',
        properties: { sessionExpiryInterval: 600, receiveMaximum: 7, topicAliasMaximum: 3 },
        reconnectPeriod: 0,
      });
      client.on('error', () => {});
      clients.push(client);
      return client;
    };
    const find = async () => {
      const [row] = (await list('?q=five')).connections;
      return (await call('GET', `/connections/${row?.id}`)).body;
    };
    const client = await connectFive();
    await expect(client.publishAsync('raw/another', 'x', { qos: 1 })).rejects.toMatchObject({ code: 0x87 });
    const found = await find();
    expect(found).toMatchObject({
      protocol: '5.0',
      session_expiry_seconds: 600,
      receive_maximum: 7,
      topic_alias_maximum: 3,
    });
    expect((found.last_error as Json).detail).toMatch(/^message refused \(0x87\): raw\/another: /);

    const ended = new Promise<void>((resolve) => client.once('close', () => resolve()));
    expect((await call('DELETE', `/connections/${found.id}`)).status).toBe(204);
    await ended;
    await connectFive();
    expect(((await find()).last_error as Json).detail).toMatch(/ended: kicked \(0x98\), /);
    const stats = (await call('GET', '/stats')).body as { recent_events: Json[] };
    expect(stats.recent_events.slice(-2)).toMatchObject([
      { kind: 'disconnected', reason: 'kicked', code: 0x98 },
      { kind: 'connected', protocol: '5.0' },
    ]);
  });

  test('logs a kick that cannot be noted, without the statement and what it was given', async () => {
    await connect('sensor', 'kicked-unnoted');
    const [row] = (await list('?q=kicked-unnoted')).connections;
    await onDatabase('alter table audit_log rename to audit_log_away');
    try {
      expect((await call('DELETE', `/connections/${row?.id}`)).status).toBe(204);
      const failure = () => lines.find(({ event }) => event === 'audit_failed');
      await until(() => failure() !== undefined);
      expect(failure()).toMatchObject({ action: 'connection.kick' });
      expect(failure()?.reason).toContain('audit_log');
      expect(JSON.stringify(failure())).not.toMatch(/insert into|kicked-unnoted|params/);
    } finally {
      await onDatabase('alter table audit_log_away rename to audit_log');
    }
  });
});

async function onDatabase(statement: string, values: unknown[] = []): Promise<Json[]> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  try {
    return (await database.query(statement, values)).rows as Json[];
  } finally {
    await database.end();
  }
}

function auditRows(target: string): Promise<Json[]> {
  return onDatabase(`select * from audit_log where target = $1 and action like 'connection.%'`, [target]);
}

describe('GET /stats', () => {
  test('counts traffic, replicas and failures', async () => {
    const client = await connect('sensor', 'counted');
    const before = (await call('GET', '/stats')).body as { totals: Record<string, number> };
    for (let at = 0; at < 5; at += 1) await client.publishAsync(`raw/${client.device}`, 'four', { qos: 1 });
    const refused = connectAsync(`mqtt://127.0.0.1:${server.ports.mqtt}`, {
      username: client.device,
      password: 'wrong',
      reconnectPeriod: 0,
    });
    await expect(refused).rejects.toThrow();
    const { body } = await call('GET', '/stats');
    const stats = body as unknown as {
      replica: string;
      totals: Record<string, number>;
      ack_latency_ms: Record<string, number>;
      history: Record<string, number[]>;
      failures: Record<string, number>;
    };
    expect(stats).toMatchObject({
      connections: { connected: 1, limit: 500 },
      replicas: 1,
      acknowledgement: {
        promised: 'stored',
        holds: true,
        level: 'stored',
        why: expect.stringMatching(/^on 1 server; whether /),
      },
      nats: { ok: true },
      database: { ok: true },
      waiting: { messages: 0, bytes: 0 },
    });
    const gained = (name: string) => (stats.totals[name] ?? 0) - (before.totals[name] ?? 0);
    expect([gained('messages_in'), gained('bytes_in'), gained('stored')]).toEqual([5, 20, 5]);
    expect(stats.ack_latency_ms.p99).toBeGreaterThan(0);
    expect(stats.failures.connects_refused).toBeGreaterThan(0);
    await until(async () => {
      const later = (await call('GET', '/stats')).body as unknown as typeof stats;
      return later.history.messages_in?.some((count) => count > 0) === true;
    });
  });

  test('tells how many replicas run on the database', async () => {
    const second = await start();
    try {
      await until(async () => (await call('GET', '/stats')).body.replicas === 2);
    } finally {
      await second.close();
    }
    await until(async () => (await call('GET', '/stats')).body.replicas === 1);
  });
});

interface Stream {
  readonly events: { id: string; event: string; data: Json }[];
  close(): void;
}

function follow(query = '', headers: Record<string, string> = {}): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const request = httpGet(`${api}/events${query}`, { headers }, (response: IncomingMessage) => {
      expect(response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
      const events: Stream['events'] = [];
      let rest = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        const blocks = (rest + chunk).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) {
          const fields = new Map(
            block.split('\n').map((line) => {
              const at = line.indexOf(': ');
              return [line.slice(0, at), line.slice(at + 2)] as const;
            }),
          );
          const event = fields.get('event');
          if (event === undefined) continue;
          events.push({
            id: fields.get('id') ?? '',
            event,
            data: JSON.parse(fields.get('data') ?? '{}') as Json,
          });
        }
      });
      response.on('error', () => {});
      resolve({ events, close: () => request.destroy() });
    });
    request.on('error', reject);
  });
}

describe('GET /events', () => {
  test('tells of connects, ends with their reason, refusals and revocations', async () => {
    const stream = await follow();
    try {
      const client = await connect('sensor', 'followed');
      await call('DELETE', `/devices/${client.device}`);
      await until(() => stream.events.some(({ event }) => event === 'revoked'));
      await until(() => stream.events.some(({ event }) => event === 'disconnected'));
      const [connected, ...others] = stream.events;
      expect(connected).toMatchObject({
        event: 'connected',
        data: { device: client.device, client: 'followed' },
      });
      expect(others.map(({ event, data }) => [event, data.reason]).sort()).toEqual([
        ['disconnected', 'revoked'],
        ['revoked', 'revoked'],
      ]);

      const back = await follow('', { 'last-event-id': connected?.id ?? '' });
      await until(() => back.events.length === 2);
      back.close();
    } finally {
      stream.close();
    }
  });

  test('sends only what was asked for', async () => {
    const stream = await follow('?kind=refused');
    try {
      const client = await connect('sensor', 'not-told');
      const wrong = { username: client.device, password: 'wrong', reconnectPeriod: 0 };
      await expect(connectAsync(`mqtt://127.0.0.1:${server.ports.mqtt}`, wrong)).rejects.toThrow();
      await until(() => stream.events.length > 0);
      expect(stream.events).toMatchObject([
        { event: 'refused', data: { device: client.device, reason: 'bad-credentials' } },
      ]);
    } finally {
      stream.close();
    }
  });
});
