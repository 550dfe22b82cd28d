import { connect, connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { connect as connectNats, type NatsConnection, StorageType } from 'nats';
import pg from 'pg';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/read-config.js';
import { type RunningServer, startServer } from '../../src/server/start.js';
import { openTestLog, until } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase } from '../support/postgres.js';
import { undoAfterAll } from '../support/undo-after-all.js';

/** Policies and claims as devices meet them: two replicas in this process, a real PostgreSQL, a real nats-server. */

const maxInFlightPerClient = 100;

const later = undoAfterAll();
const clients: MqttClient[] = [];
const { log, lines } = openTestLog();
const replicas: RunningServer[] = [];
let nats: NatsConnection;
let database: pg.Client;

beforeAll(async () => {
  const postgres = await borrowPostgres();
  later(() => postgres.release());
  const databaseUrl = await createDatabase(postgres.url);
  database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  later(() => database.end());
  const server = await startNatsServer();
  later(() => server.stop());
  for (let count = 0; count < 2; count += 1) {
    const env = {
      DATABASE_URL: databaseUrl,
      NATS_URL: server.url,
      MQTT_HOST: '127.0.0.1',
      MQTT_PORT: '0',
      LISTEN_ADDR: '127.0.0.1:0',
      SHUTDOWN_TIMEOUT_SEC: '1',
      PUBLISH_TIMEOUT_SEC: '1',
      MAX_IN_FLIGHT_PER_CLIENT: String(maxInFlightPerClient),
    };
    const replica = await startServer(readConfig({ env }), log);
    later(() => replica.close());
    replicas.push(replica);
  }
  nats = await connectNats({ servers: server.url });
  later(() => nats.close());
});

afterEach(async () => {
  for (const client of clients.splice(0)) await client.endAsync(true);
});

interface Device {
  readonly id: string;
  readonly mqtt_password: string;
}

const replica = (index: number) => replicas[index] as RunningServer;

async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(`http://127.0.0.1:${replica(0).ports.http}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

const add = (type: string) => call<Device>('POST', '/devices', { type });
const setPolicy = (type: string, rules: object) =>
  call<{ warnings: string[] }>('PUT', `/policies/${type}`, rules);

function urlOf(on: number): string {
  return `mqtt://127.0.0.1:${replica(on).ports.mqtt}`;
}

/** Connects with a session and answers whether the server still had it. */
async function comeBack(
  device: Device,
  options: IClientOptions,
): Promise<{ client: MqttClient; sessionPresent: boolean }> {
  const { id: username, mqtt_password: password } = device;
  const client = connect(urlOf(0), { username, password, reconnectPeriod: 0, ...options });
  clients.push(client);
  const sessionPresent = await new Promise<boolean>((resolve, reject) => {
    client.once('connect', (connack) => resolve(connack.sessionPresent));
    client.once('error', reject);
  });
  return { client, sessionPresent };
}

async function connected(device: Device, options: IClientOptions = {}, on = 0): Promise<MqttClient> {
  const client = await connectAsync(urlOf(on), {
    username: device.id,
    password: device.mqtt_password,
    clientId: 'c',
    reconnectPeriod: 0,
    ...options,
  });
  clients.push(client);
  return client;
}

/** The first metric of a name, with its labels where they are given, of the first replica. */
async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${replica(0).ports.http}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${name} `)) ?? '';
  return Number(line.split(' ')[1]);
}

interface Waits {
  readonly cause: string;
  readonly subject: string | null;
  readonly since: string;
}

/** Why the client of a device waits, as the API shows it. */
async function waitsOf(device: Device): Promise<Waits | null | undefined> {
  const page = await call<{ connections: { id: string }[] }>('GET', `/connections?device=${device.id}`);
  const [row] = page.connections;
  return row && (await call<{ waits: Waits | null }>('GET', `/connections/${row.id}`)).waits;
}

/** A client of which as much waits as may be in flight, since nothing takes the subject that `tried` watches. */
async function wedge(device: Device, tried: readonly string[], will?: IClientOptions['will']) {
  const clientId = `wedged-${Math.random()}`;
  await until(async () => {
    const probe = await connected(device, { clientId: `probe-${Math.random()}` });
    await probe.publishAsync(`raw/${device.id}`, 'x', { qos: 0 });
    await probe.endAsync();
    return tried.length > 0;
  });
  const client = await connected(device, { clientId, ...(will === undefined ? {} : { will }) });
  for (let count = 0; count < maxInFlightPerClient; count += 1)
    client.publish(`raw/${device.id}`, String(count), { qos: 1 });
  await until(async () => {
    const page = await call<{ connections: { client: string; in_flight: number }[] }>(
      'GET',
      `/connections?device=${device.id}`,
    );
    const own = page.connections.find((row) => row.client === clientId);
    return (own?.in_flight ?? 0) >= maxInFlightPerClient;
  });
  return { clientId, client };
}

/** The subjects of what is stored from now on. */
function storedSubjects(subject: string): string[] {
  const subjects: string[] = [];
  const subscription = nats.subscribe(subject, {
    callback: (_error, message) => subjects.push(message.subject),
  });
  later(() => subscription.unsubscribe());
  return subjects;
}

/** Whether a device may publish to a topic, tried on a connection of its own. */
async function mayPublish(device: Device, topic: string, on: number): Promise<boolean> {
  const client = await connected(device, { clientId: `try-${Math.random()}` }, on);
  const closed = new Promise<false>((resolve) => client.once('close', () => resolve(false)));
  const acknowledged = client.publishAsync(topic, 'x', { qos: 1 }).then(() => true);
  acknowledged.catch(() => {});
  const outcome = await Promise.race([closed, acknowledged]);
  await client.endAsync(true);
  return outcome;
}

test('a connected device goes on under new rules, on every replica, without a new connection', async () => {
  const [device, probe] = [await add('meter'), await add('meter')];
  const here = await connected(device, { clientId: 'here' }, 0);
  const there = await connected(device, { clientId: 'there' }, 1);
  await here.publishAsync(`raw/${device.id}`, 'before', { qos: 1 });
  const subjects = storedSubjects('raw.meters.>');
  await setPolicy('meter', { publish: ['up/{type}/{id}'], nats_subject: 'raw.meters.{id}' });
  for (const on of [0, 1]) await until(() => mayPublish(probe, `up/meter/${probe.id}`, on));

  await here.publishAsync(`up/meter/${device.id}`, 'after', { qos: 1 });
  await there.publishAsync(`up/meter/${device.id}`, 'after', { qos: 1 });
  await until(() => subjects.filter((subject) => subject === `raw.meters.${device.id}`).length === 2);
  expect([here.connected, there.connected]).toEqual([true, true]);

  // What was allowed before is not any more.
  const closed = new Promise<void>((resolve) => here.once('close', resolve));
  here.publish(`raw/${device.id}`, 'denied', { qos: 1 });
  await closed;
  expect(there.connected).toBe(true);

  await call('DELETE', '/policies/meter');
  for (const on of [0, 1]) await until(() => mayPublish(probe, `raw/${probe.id}`, on));
  await there.publishAsync(`raw/${device.id}`, 'again', { qos: 1 });
});

test('a client whose subscription is no longer allowed is closed and its session gone; others stay', async () => {
  const [device, absent, other] = [await add('valve'), await add('valve'), await add('valve')];
  const session = { clean: false, clientId: 'session' };
  const subscriber = await connected(device, session);
  await subscriber.subscribeAsync(`cmd/${device.id}/private/x`, { qos: 1 });
  const sleeper = await connected(absent, session);
  await sleeper.subscribeAsync(`cmd/${absent.id}/private/x`, { qos: 1 });
  await sleeper.endAsync();
  const staying = await connected(other, session);
  await staying.subscribeAsync(`cmd/${other.id}/public/x`, { qos: 1 });

  const closed = new Promise<void>((resolve) => subscriber.once('close', resolve));
  await setPolicy('valve', { subscribe: ['cmd/{id}/public/#'] });
  await closed;
  expect(staying.connected).toBe(true);
  const reached = new Promise<string>((resolve) => staying.once('message', (topic) => resolve(topic)));
  nats.publish(`cmd.${other.id}.public.x`, 'still');
  expect(await reached).toBe(`cmd/${other.id}/public/x`);

  for (const returning of [device, absent]) {
    const { client, sessionPresent } = await comeBack(returning, session);
    expect(sessionPresent).toBe(false);
    await expect(client.subscribeAsync(`cmd/${returning.id}/private/x`, { qos: 1 })).rejects.toThrow();
  }
  await staying.endAsync();
  expect((await comeBack(other, session)).sessionPresent).toBe(true);
});

test('a policy that lets one type read another delivers to it at once', async () => {
  const [sensor, hub] = [await add('thermo'), await add('hub')];
  const source = await connected(sensor, { clientId: 'source' });
  await source.publishAsync(`raw/${sensor.id}/t`, 'unread', { qos: 1 });
  const { warnings } = await setPolicy('hub', { subscribe: ['raw/+/t'] });
  expect(warnings).toEqual([expect.stringContaining('subscribe "raw/+/t" has no {id}')]);
  const reader = await connected(hub, { clientId: 'reader' });
  await until(async () => (await reader.subscribeAsync('raw/+/t').catch(() => [])).length === 1);
  const got: string[] = [];
  reader.on('message', (_topic, payload) => got.push(payload.toString()));
  await source.publishAsync(`raw/${sensor.id}/t`, '21.5', { qos: 1 });
  await until(() => got.length === 1);
  expect(got).toEqual(['21.5']);
  await call('DELETE', '/policies/hub');
});

test('a packet over the bound of the policy closes the connection', async () => {
  const device = await add('small');
  const client = await connected(device);
  await client.publishAsync(`raw/${device.id}`, 'x'.repeat(500), { qos: 1 });
  await setPolicy('small', { max_packet_bytes: 256 });
  const closed = new Promise<void>((resolve) => client.once('close', resolve));
  const flood = setInterval(() => client.publish(`raw/${device.id}`, 'x'.repeat(500), { qos: 0 }), 50);
  await closed.finally(() => clearInterval(flood));
  const next = await connected(device);
  await next.publishAsync(`raw/${device.id}`, 'x'.repeat(100), { qos: 1 });
  expect(next.connected).toBe(true);
});

test('a subject that no stream covers is told, and what goes there is not acknowledged', async () => {
  const device = await add('lost');
  const { warnings } = await setPolicy('lost', { nats_subject: 'elsewhere.{id}' });
  expect(warnings).toEqual([expect.stringContaining('no stream covers elsewhere.*')]);
  await until(() => lines.some(({ event }) => event === 'policy_subject_not_covered'));
  expect(lines.find(({ event }) => event === 'policy_subject_not_covered')).toMatchObject({
    subject: 'elsewhere.*',
    types: ['lost'],
  });
  const arrived = storedSubjects('elsewhere.>');
  const client = await connected(device, { clientId: 'unstored' });
  let acknowledged = false;
  client.publish(`raw/${device.id}`, 'x', { qos: 1 }, (error) => {
    acknowledged = error === undefined || error === null;
  });
  await until(() => arrived.length > 1);
  expect(acknowledged).toBe(false);
  // A stream is made, and the message that waits is stored.
  const manager = await nats.jetstreamManager();
  await manager.streams.add({ name: 'ELSEWHERE', subjects: ['elsewhere.>'] });
  await until(() => acknowledged);
  expect((await manager.streams.info('ELSEWHERE')).state.messages).toBeGreaterThan(0);
});

// Early, since only some of the lines about closed connections are logged in a while.
test('a client is closed with a reason when a message of it waits that a changed policy does not allow', async () => {
  const device = await add('narrowed');
  await setPolicy('narrowed', { nats_subject: 'narrow.{id}' });
  const tried = storedSubjects('narrow.>');
  const client = await connected(device, { clientId: 'narrowed' });
  client.publish(`raw/${device.id}/x`, 'x', { qos: 1 });
  const resend = setInterval(() => client.publish(`raw/${device.id}/x`, 'x', { qos: 1 }), 100);
  await until(() => tried.length > 0).finally(() => clearInterval(resend));
  const closed = new Promise<void>((resolve) => client.once('close', resolve));
  await setPolicy('narrowed', { publish: ['raw/{id}/y'] });
  await closed;
  const told = () => lines.find(({ event, device: id }) => event === 'connection_closed' && id === device.id);
  await until(() => told() !== undefined);
  expect(told()).toMatchObject({
    reason: 'publish-denied',
    topic: `raw/${device.id}/x`,
    detail: expect.stringContaining('policy of the device changed'),
  });
});

test('a subject whose stream does not confirm is told, and nothing is stored there again and again', async () => {
  const manager = await nats.jetstreamManager();
  await manager.streams.add({ name: 'MUTE', subjects: ['mute.>'], no_ack: true });
  const device = await add('mute');
  const told = () =>
    lines.filter(({ event, subject }) => event === 'policy_subject_not_covered' && subject === 'mute.*');
  const { warnings } = await setPolicy('mute', { nats_subject: 'mute.{id}' });
  expect(warnings).toEqual([expect.stringContaining('MUTE (mute.>) has no_ack set')]);
  await until(() => told().length === replicas.length);
  expect(told()[0]).toMatchObject({ reason: expect.stringContaining('no_ack') });
  const client = await connected(device, { clientId: 'unconfirmed' });
  client.publish(`raw/${device.id}`, 'x', { qos: 1 });
  await until(() =>
    lines.some(({ event, cause }) => event === 'uplink_not_stored' && cause === 'stream_unusable'),
  );
  expect((await manager.streams.info('MUTE')).state.messages).toBe(0);
  await call('DELETE', '/policies/mute');
  await manager.streams.delete('MUTE');
});

test('what waits goes where a corrected policy says, also what a client that left sent', async () => {
  const [device, gone] = [await add('strayed'), await add('strayed')];
  await setPolicy('strayed', { nats_subject: 'nowhere.{id}' });
  const probes = storedSubjects('nowhere.>');
  await until(async () => {
    const probe = await connected(device, { clientId: `probe-${Math.random()}` });
    probe.publish(`raw/${device.id}`, 'probe', { qos: 0 });
    await probe.endAsync();
    return probes.length > 0;
  });
  const client = await connected(device, { clientId: 'waiting' });
  const absent = await connected(gone, { clientId: 'gone' });
  const acknowledged = Promise.all(
    ['1', '2', '3'].map((payload) => client.publishAsync(`raw/${device.id}`, payload, { qos: 1 })),
  );
  absent.publish(`raw/${gone.id}`, 'left behind', { qos: 1 });
  await until(() => probes.includes(`nowhere.${gone.id}`) && probes.includes(`nowhere.${device.id}`));
  await absent.endAsync(true);
  const subjects = storedSubjects('raw.>');
  await nats.flush();
  await setPolicy('strayed', {});
  await acknowledged;
  const ofDevice = () => subjects.filter((subject) => subject === `raw.${device.id}`);
  await until(() => subjects.includes(`raw.${gone.id}`) && ofDevice().length >= 3);
  await nats.flush();
  expect(ofDevice()).toHaveLength(3);
  expect(client.connected).toBe(true);
});

test('what a device left behind goes where the rules of its new type say when its type changes', async () => {
  const device = await add('misnamed');
  await setPolicy('misnamed', { nats_subject: 'misnamed.{id}' });
  const tried = storedSubjects('misnamed.>');
  const client = await connected(device, { clientId: 'left' });
  await until(() => {
    client.publish(`raw/${device.id}`, 'x', { qos: 1 });
    return tried.length > 0;
  });
  const subjects = storedSubjects(`raw.${device.id}`);
  await nats.flush();
  const closed = new Promise<void>((resolve) => client.once('close', resolve));
  await database.query('update devices set type = $2 where id = $1', [device.id, 'named']);
  await closed;
  await until(() => subjects.length > 0);
});

test('a will that waits for room goes where a corrected policy says, behind what its client sent', async () => {
  const device = await add('willed');
  await setPolicy('willed', { nats_subject: 'willed.{id}' });
  const tried = storedSubjects('willed.>');
  const topic = `raw/${device.id}`;
  const { clientId, client } = await wedge(device, tried, { topic, payload: Buffer.from('will'), qos: 1 });
  const stored: string[] = [];
  const subscription = nats.subscribe(`raw.${device.id}`, {
    callback: (_error, message) => stored.push(message.string()),
  });
  later(() => subscription.unsubscribe());
  await nats.flush();
  client.stream.destroy();
  await until(async () => (await metric('svc_mqtt_waiting_wills')) === 1);
  await setPolicy('willed', {});
  await until(() => stored.includes('will'));
  expect(stored.at(-1), clientId).toBe('will');
  expect(stored.length).toBeGreaterThan(1);
});

test('a will that waits and is no longer allowed is dropped', async () => {
  const device = await add('unwilled');
  await setPolicy('unwilled', { nats_subject: 'unwilled.{id}' });
  const tried = storedSubjects('unwilled.>');
  const topic = `raw/${device.id}/gone`;
  const { client } = await wedge(device, tried, { topic, payload: Buffer.from('will'), qos: 1 });
  client.stream.destroy();
  await until(async () => (await metric('svc_mqtt_waiting_wills')) === 1);
  const dropped = await metric('svc_mqtt_wills_dropped_total');
  await setPolicy('unwilled', { publish: ['raw/{id}'] });
  await until(async () => (await metric('svc_mqtt_waiting_wills')) === 0);
  expect(await metric('svc_mqtt_wills_dropped_total')).toBe(dropped + 1);
});

test('messages that wait for the rate of a policy go on when it is raised', async () => {
  const device = await add('slow');
  await setPolicy('slow', { publish_rate: 1 });
  await until(async () => {
    const probe = await connected(device, { clientId: `probe-${Math.random()}` });
    await Promise.all([1, 2, 3].map(() => probe.publishAsync(`raw/${device.id}`, 'x', { qos: 0 })));
    await probe.endAsync();
    return (await metric('svc_mqtt_limits_hit_total{limit="publish-rate"}')) > 0;
  });
  const client = await connected(device, { clientId: 'slow' });
  // At the rate of before, all would take more than an hour.
  // More than that wait for the same socket at a time, and each listens to it.
  client.stream.setMaxListeners(0);
  const all = Array.from({ length: 5_000 }, () => client.publishAsync(`raw/${device.id}`, 'x', { qos: 1 }));
  await until(async () => (await waitsOf(device))?.cause === 'publish-rate');
  await setPolicy('slow', {});
  await Promise.all(all);
  expect(client.connected).toBe(true);
});

test('why a client waits is told of it, and of all clients in the statistics', async () => {
  const device = await add('stuck');
  await setPolicy('stuck', { nats_subject: 'stuck.{id}' });
  const tried: string[] = [];
  const watching = nats.subscribe('stuck.>', { callback: (_error, { subject }) => void tried.push(subject) });
  const { client } = await wedge(device, tried);
  // While somebody listens there, NATS does not tell that no stream does.
  watching.unsubscribe();
  await until(async () => (await waitsOf(device))?.cause === 'no_stream');
  const at = Date.now();
  expect(await waitsOf(device)).toMatchObject({
    cause: 'no_stream',
    detail: 'no stream takes the subject',
    subject: `stuck.${device.id}`,
  });
  expect(Date.parse((await waitsOf(device))?.since ?? '')).toBeLessThanOrEqual(at + 1_000);
  const { waiting } = await call<{ waiting: { causes: { cause: string; clients: number }[] } }>(
    'GET',
    '/stats',
  );
  const { clients = 0 } = waiting.causes.find(({ cause }) => cause === 'no_stream') ?? {};
  expect(clients).toBeGreaterThanOrEqual(1);
  // Others are stored meanwhile, so the replica is as good as ever, and says what it cannot do.
  const other = await add('other');
  const healthy = await connected(other, { clientId: 'healthy' });
  let readiness = { status: '', storage: { status: '', detail: '' } };
  await until(async () => {
    await healthy.publishAsync(`raw/${other.id}`, 'x', { qos: 1 });
    readiness = await call<typeof readiness>('GET', '/readyz');
    return readiness.storage.detail.startsWith('messages of some clients are not stored: ');
  });
  expect(readiness).toMatchObject({ status: 'ok', storage: { status: 'failed' } });
  expect(readiness.storage.detail).toMatch(/no_stream \(\d+\)/);
  await setPolicy('stuck', {});
  await until(async () => (await waitsOf(device)) === null);
  expect(client.connected).toBe(true);
});

test('a device that redeemed a claim connects with what it got', async () => {
  const { claim } = await call<{ claim: string }>('POST', '/claims', { type: 'sensor', uses: 1 });
  const device = await call<Device>('POST', '/claims/redeem', { claim, metadata: { serial: '17' } });
  const client = await connected(device, {}, 1);
  await client.publishAsync(`raw/${device.id}`, 'hello', { qos: 1 });
  await expect(call('POST', '/claims/redeem', { claim })).rejects.toThrow('410');
});

test.each([
  ['replicated', {}, /^ack_level: .*stream RAW is kept on 1 server/, 'policy_ack_level_broken'],
  [
    'synced',
    { nats_subject: 'strict.{id}' },
    /^ack_level: .*stream STRICT is kept in memory/,
    'policy_subject_ack_level_broken',
  ],
] as const)(
  'a policy that promises %s where it does not hold has nothing acknowledged, until it promises less',
  async (level, rules, warning, told) => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'STRICT', subjects: ['strict.*'], storage: StorageType.Memory });
    const type = `strict-${level}`;
    const { warnings } = await setPolicy(type, { ...rules, ack_level: level });
    expect(warnings).toEqual([expect.stringMatching(warning)]);
    const [device, other] = [await add(type), await add('lenient')];
    const [client, lenient] = [await connected(device), await connected(other)];
    let acknowledged = false;
    // Each replica looks at the streams of policies as soon as a policy is there.
    await until(() => lines.filter(({ event }) => event === told).length === 2);
    client.publish(`raw/${device.id}`, 'a', { qos: 1 }, (error) => {
      acknowledged = error === undefined || error === null;
    });
    for (let count = 0; count < 20; count += 1)
      await lenient.publishAsync(`raw/${other.id}`, 'b', { qos: 1 });
    expect(acknowledged).toBe(false);
    await setPolicy(type, { ...rules, ack_level: 'stored' });
    await until(() => acknowledged);
    await manager.streams.delete('STRICT');
  },
);
