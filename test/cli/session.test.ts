import { connectAsync, type MqttClient } from 'mqtt';
import { connect as connectNats } from 'nats';
import { beforeAll, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { type Gateway, startGateway } from '../faults/gateway.js';
import { freePort } from '../support/free-port.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { fakeIo, jsonLines, until } from './support.js';

/** The commands against two replicas: what one has, the other tells. */

const later = undoAfterAll();
const token = 'token-of-the-test-run';
let gateway: Gateway;
let other: ServerProcess;
let env: Record<string, string>;

beforeAll(async () => {
  gateway = await startGateway(later, {
    env: { API_TOKEN: token, MAX_SESSION_EXPIRY: '1h', ACL: 'open' },
  });
  const ports = { MQTT_PORT: '0', LISTEN_ADDR: `127.0.0.1:${await freePort()}` };
  other = await startServerProcess({ ...gateway.env, ...ports });
  later(async () => {
    await other.end('SIGKILL');
  });
  env = { LISTEN_ADDR: ports.LISTEN_ADDR, API_TOKEN: token };
});

/** A client of the first replica, with a subscription. */
async function connect(device: string, clientId: string, clean = false): Promise<MqttClient> {
  const response = await fetch(`http://${gateway.env.LISTEN_ADDR}/devices`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify({ type: 'sensor', id: device }),
  });
  const { mqtt_password: password } = (await response.json()) as { mqtt_password: string };
  const client = await connectAsync(`mqtt://127.0.0.1:${gateway.server.mqttPort}`, {
    username: device,
    password,
    clientId,
    clean,
    reconnectPeriod: 0,
  });
  later(() => client.endAsync(true));
  await client.subscribeAsync(`cmd/${device}/#`, { qos: 1 });
  return client;
}

async function run(...args: readonly string[]) {
  const io = fakeIo({ env });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

const list = async (...args: readonly string[]) => (await run('session', 'list', '--json', ...args)).lines();

test('sessions are listed, shown and ended on whichever replica is asked', async () => {
  const none = await run('session', 'list');
  expect(none).toMatchObject({
    outcome: 0,
    out: '',
    err: 'There is no session that outlives its connection.\n',
  });
  const here = await connect('roof-1', 'pump/1');
  const gone = await connect('roof-2', 'pump-2');
  await connect('roof-3', 'without', true);
  await gone.endAsync();
  await until('one is away', async () => (await list()).some(({ away_since: at }) => at !== null));

  const nats = await connectNats({ servers: gateway.nats.url });
  later(() => nats.close());
  for (const what of ['a', 'b', 'c']) nats.publish(`cmd.roof-2.${what}`, 'x');
  await nats.flush();
  await until('they wait', async () => (await list('--device', 'roof-2'))[0]?.pending === 3);

  const [first, second, ...more] = await list();
  expect(more).toEqual([]);
  expect(first).toMatchObject({
    id: 'roof-1.pump=2f1',
    device: 'roof-1',
    client: 'pump/1',
    connected: true,
    away_since: null,
    expires_at: null,
    subscriptions: [{ filter: 'cmd/roof-1/#', qos: 1 }],
    pending: 0,
    oldest_pending_at: null,
    problem: null,
  });
  expect(second).toMatchObject({ id: 'roof-2.pump-2', connected: false, away_since: expect.any(String) });
  const stored = await (await nats.jetstreamManager()).streams.getMessage('CMD', { seq: 1 });
  expect(Date.parse(String(second?.oldest_pending_at))).toBe(stored.time.getTime());
  expect(Date.parse(String(second?.expires_at)) - Date.parse(String(second?.away_since))).toBe(
    Number(second?.expiry_seconds) * 1_000,
  );
  expect(await list('--device', 'roof-2')).toEqual([second]);
  const limited = await run('session', 'list', '--limit', '1');
  expect(limited.out.trimEnd().split('\n')).toHaveLength(2);
  expect(limited.err).toBe('There are more; --limit shows more of them.\n');
  const shown = await run('session', 'show', 'roof-1.pump=2f1');
  expect(shown.out).toMatch(/^state +connected$/m);
  expect(shown.out).toMatch(/^subscriptions +cmd\/roof-1\/# {2}QoS 1$/m);

  const closed = new Promise<void>((resolve) => here.once('close', resolve));
  const ended = await run('session', 'end', 'roof-1.pump=2f1', 'roof-9.none', '--yes', '--json');
  expect(ended.outcome).toMatchObject({
    code: 'SESSION_NOT_FOUND',
    message: 'There is no session roof-9.none',
  });
  expect(ended.lines()).toEqual([
    { id: 'roof-1.pump=2f1', outcome: 'ended' },
    { id: 'roof-9.none', outcome: 'unknown' },
  ]);
  await closed;
  expect((await run('session', 'end', '--device', 'roof-2', '--yes')).out).toBe('roof-2.pump-2 ended\n');
  expect(await list()).toEqual([]);
  await until('both are in the audit log', async () => {
    const audit = (await run('audit', '--url', env.LISTEN_ADDR ?? '', '--json')).lines();
    return audit.filter(({ action }) => action === 'session.end').length === 2;
  });
  expect((await run('session', 'end', '--device', 'roof-2', '--yes')).outcome).toMatchObject({
    code: 'SESSION_NOT_FOUND',
  });
});

test('a signal ends no further session, and is told', async () => {
  for (const clientId of ['one', 'two', 'three']) await connect(`stopped-${clientId}`, clientId);
  await until(
    'the sessions are there',
    async () => (await list()).filter(({ device }) => String(device).startsWith('stopped-')).length === 3,
  );
  const ids = (await list())
    .filter(({ device }) => String(device).startsWith('stopped-'))
    .map(({ id }) => String(id));
  const io = fakeIo({ env });
  const { stdout } = io;
  const write = stdout.write.bind(stdout);
  // It comes while the first one is told of.
  stdout.write = ((text: string) => {
    io.stop('SIGINT');
    return write(text);
  }) as typeof stdout.write;
  const outcome = await runProgram(['session', 'end', ...ids, '--yes'], io).catch((error) => error);
  expect(outcome).toMatchObject({ exitStatus: 130, told: '1 of 3 sessions ended, and then: interrupted' });
  expect(io.out()).toBe(`${ids[0]} ended\n`);
});

test('what other devices sent waits for a session, too', async () => {
  const gone = await connect('roof-4', 'pump');
  await gone.subscribeAsync('chat/+', { qos: 1 });
  await gone.endAsync();
  const sender = await connect('roof-5', 'sender');
  for (const topic of ['chat/a', 'chat/b', 'chat/b/c', 'other/a'])
    await sender.publishAsync(topic, 'x', { qos: 1 });
  const ofGone = async () => (await list('--device', 'roof-4'))[0];
  await until('they wait', async () => (await ofGone())?.pending === 2);
  const nats = await connectNats({ servers: gateway.nats.url });
  later(() => nats.close());
  await nats.jetstream().publish('cmd.roof-4.go', 'x');
  await until('the command waits beside them', async () => (await ofGone())?.pending === 3);
  const { streams } = await nats.jetstreamManager();
  const first = await streams.getMessage('SVC_MQTT_MESSAGES', { last_by_subj: 'svc-mqtt.message.chat.a' });
  expect(Date.parse(String((await ofGone())?.oldest_pending_at))).toBe(first.time.getTime());
  expect((await run('session', 'show', 'roof-4.pump')).out).toMatch(/^pending +3$/m);
});
