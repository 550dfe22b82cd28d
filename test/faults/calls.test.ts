import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import mqtt from 'mqtt';
import { connect, type Msg, type NatsConnection, headers as newHeaders } from 'nats';
import { beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { fakeIo } from '../cli/support.js';
import type { Credentials } from '../support/load.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, type Gateway, startGateway, until } from './gateway.js';

let gateway: Gateway;
let other: ServerProcess;
let nats: NatsConnection;
const later = undoAfterAll();

beforeAll(async () => {
  gateway = await startGateway(later, {
    env: { MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' },
  });
  other = await startServerProcess(gateway.env);
  later(async () => {
    await other.end('SIGKILL');
  });
  nats = await connect({ servers: gateway.nats.url });
  later(() => nats.close());
});

async function open(
  onFinished: (undo: () => Promise<void> | void) => void,
  device: Credentials,
  protocolVersion: 4 | 5,
  port = gateway.server.mqttPort,
) {
  const client = await mqtt.connectAsync({
    host: '127.0.0.1',
    port,
    username: device.id,
    password: device.password,
    protocolVersion,
    clientId: `v${protocolVersion}`,
    reconnectPeriod: 0,
  });
  onFinished(() => client.endAsync(true));
  return client;
}

async function ask(
  device: string,
  what: string,
  payload: string,
  fields: Record<string, string> = {},
): Promise<Msg> {
  const headers = newHeaders();
  for (const [name, value] of Object.entries(fields)) headers.set(name, value);
  return await nats.request(`call.${device}.${what}`, payload, { timeout: 60_000, headers });
}
const failureOf = (message: Msg) => [
  message.headers?.get('Nats-Service-Error-Code'),
  message.headers?.get('Nats-Service-Error'),
];

describe('a device that is asked by a NATS request', () => {
  test('answers with MQTT 5 where the message says, with properties both ways', async ({
    onTestFinished,
  }) => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await open(onTestFinished, device, 5);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    client.on('message', (topic, payload, { properties }) => {
      expect(topic).toBe(`cmd/${device.id}/call/fan/speed`);
      client.publish(String(properties?.responseTopic), `${payload} rpm`, {
        qos: 1,
        properties: {
          correlationData: properties?.correlationData as Buffer,
          contentType: 'text/plain',
          userProperties: {
            asked: String((properties?.userProperties as Record<string, string>)?.['x-from']),
          },
        },
      });
    });
    const answer = await ask(device.id, 'fan.speed', '900', { 'x-from': 'tests' });
    expect(answer.string()).toBe('900 rpm');
    expect(answer.headers?.get('Mqtt-Answered-By')).toBe('reply');
    expect(answer.headers?.get('Content-Type')).toBe('text/plain');
    expect(answer.headers?.get('asked')).toBe('tests');
  });

  test('answers with MQTT 3.1.1 on the topic that the token names', async ({ onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await open(onTestFinished, device, 4, other.mqttPort);
    await client.subscribeAsync(`cmd/${device.id}/call/#`, { qos: 0 });
    client.on('message', (topic, payload) => {
      const [, , call, token, ...what] = topic.split('/');
      expect([call, what]).toEqual(['call', ['state']]);
      client.publish(`raw/${device.id}/reply/${token}`, `state ${payload}`);
    });
    // Many at once, each with its own answer.
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => ask(device.id, 'state', `${n}`)));
    expect(answers.map((each) => each.string())).toEqual(Array.from({ length: 20 }, (_, n) => `state ${n}`));
  });

  test('answers by its acknowledgement where that is enough', async ({ onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await open(onTestFinished, device, 4);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    const answer = await ask(device.id, 'reboot', '', { 'Mqtt-Answer': 'ack' });
    expect(answer.headers?.get('Mqtt-Answered-By')).toBe('ack');
    expect(answer.data).toHaveLength(0);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 0 });
    expect(failureOf(await ask(device.id, 'reboot', '', { 'Mqtt-Answer': 'ack' }))).toEqual([
      '404',
      expect.stringContaining('with QoS 1'),
    ]);
  });

  test('is answered for at once by NATS when it is connected nowhere, or takes no commands', async ({
    onTestFinished,
  }) => {
    const device = await addDevice(gateway.server.httpPort);
    await expect(ask(device.id, 'state', '')).rejects.toMatchObject({ code: '503' });
    const client = await open(onTestFinished, device, 5);
    await expect(ask(device.id, 'state', '')).rejects.toMatchObject({ code: '503' });
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    expect(failureOf(await ask(device.id, 'state', '', { 'Mqtt-Answer-Within': '0.2' }))[0]).toBe('408');
    await client.unsubscribeAsync(`cmd/${device.id}/#`);
    await nats.flush();
    // A request that comes just as the gateway lets go is answered by nobody.
    const isUnheard = async () => {
      const asking = nats.request(`call.${device.id}.state`, '', { timeout: 1_000 });
      return (await asking.catch(({ code }: { code: string }) => code)) === '503';
    };
    await until('it is called no more', isUnheard);
    await client.subscribeAsync(`cmd/${device.id}/fan`, { qos: 1 });
    await client.endAsync(true);
    await until('it is gone', isUnheard);
  });

  test('that does not answer, has not subscribed to it, or is asked nonsense: the asker learns why', async ({
    onTestFinished,
  }) => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await open(onTestFinished, device, 4);
    await client.subscribeAsync(`cmd/${device.id}/fan/#`, { qos: 1 });
    expect(failureOf(await ask(device.id, 'fan', ''))).toEqual([
      '404',
      expect.stringContaining(`cmd/${device.id}/call/fan`),
    ]);
    // What is asked cannot become a header of the answer.
    const split = await ask(device.id, 'fan%0D%0AX:y', '');
    expect(split.headers?.keys().sort()).toEqual(['Nats-Service-Error', 'Nats-Service-Error-Code']);
    await client.subscribeAsync(`cmd/${device.id}/call/#`, { qos: 1 });
    const begun = performance.now();
    expect(failureOf(await ask(device.id, 'fan', '', { 'Mqtt-Answer-Within': '0.5' }))).toEqual([
      '408',
      'the device did not answer within 0.5 s',
    ]);
    expect(performance.now() - begun).toBeGreaterThan(400);
    for (const within of ['0', '-1', 'x', '61'])
      expect(failureOf(await ask(device.id, 'fan', '', { 'Mqtt-Answer-Within': within }))[0]).toBe('400');
    expect(failureOf(await ask(device.id, 'fan.+', ''))[0]).toBe('400');
    expect(failureOf(await ask(device.id, '%23', ''))[0]).toBe('400');
    // Nobody is answered before all have asked.
    const tokens: string[] = [];
    client.on('message', (topic) => {
      const [, , , token = '', what] = topic.split('/');
      if (what === 'many') tokens.push(token);
    });
    let refused = 0;
    const many = Array.from({ length: 80 }, async () => {
      const answer = await ask(device.id, 'many', '', { 'Mqtt-Answer-Within': '60' });
      if (answer.headers?.get('Nats-Service-Error-Code') === '429') refused += 1;
    });
    await until('64 wait, and the others are refused', () => tokens.length + refused === 80);
    expect(refused).toBe(16);
    for (const token of tokens) client.publish(`raw/${device.id}/reply/${token}`, '', { qos: 1 });
    await Promise.all(many);
    expect(refused).toBe(16);
  });

  test('makes the gateway say nothing where only its own user of NATS may', async ({ onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await open(onTestFinished, device, 5);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    const streams = (await nats.jetstreamManager()).streams;
    await streams.add({ name: 'PREY', subjects: ['$KV.prey.>'] });
    const commands: string[] = [];
    client.on('message', (topic) => void commands.push(topic));
    const nonsense = newHeaders();
    nonsense.set('Mqtt-Answer-Within', 'never');
    for (const reply of ['$KV.prey.forged', `cmd.${device.id}.forged`])
      nats.publish(`call.${device.id}.what`, '', { reply, headers: nonsense });
    // Its answer is behind theirs.
    expect(failureOf(await ask(device.id, 'what', '', { 'Mqtt-Answer-Within': 'never' }))[0]).toBe('400');
    nats.publish(`cmd.${device.id}.last`);
    await until('the last command is there', () => commands.includes(`cmd/${device.id}/last`));
    expect((await nats.request('$KV.prey.last')).json()).toMatchObject({ stream: 'PREY', seq: 1 });
    expect(commands).toEqual([`cmd/${device.id}/last`]);
  });

  test('a reply of another device, a late one and one to nobody change nothing', async ({
    onTestFinished,
  }) => {
    const [device, stranger] = [
      await addDevice(gateway.server.httpPort),
      await addDevice(gateway.server.httpPort),
    ];
    const client = await open(onTestFinished, device, 4);
    const strange = await open(onTestFinished, stranger, 5);
    await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    let token = '';
    client.on('message', (topic) => {
      token = topic.split('/')[3] ?? '';
    });
    const asked = ask(device.id, 'state', '', { 'Mqtt-Answer-Within': '60' });
    await until('it is asked', () => token !== '');
    await strange.publishAsync(`raw/${stranger.id}/reply/${token}`, 'lie', { qos: 1 });
    await expect(
      strange.publishAsync(`raw/${device.id}/reply/${token}`, 'lie', { qos: 1 }),
    ).rejects.toThrow();
    await client.publishAsync(`raw/${device.id}/reply/unknown`, 'to nobody', { qos: 1 });
    await client.publishAsync(`raw/${device.id}/reply/${token}`, 'truth', { qos: 1 });
    expect((await asked).string()).toBe('truth');
    await client.publishAsync(`raw/${device.id}/reply/${token}`, 'again', { qos: 1 });
    await delay(50);
    expect(client.connected).toBe(true);
  });
});

test('NATS may die while a device is asked: the gateway goes on, and answers when it is back', async ({
  onTestFinished,
}) => {
  const own = await startGateway(onTestFinished);
  const device = await addDevice(own.server.httpPort);
  const client = await open(onTestFinished, device, 4, own.server.mqttPort);
  let asked = 0;
  client.on('message', () => {
    asked += 1;
  });
  await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
  const asker = await connect({ servers: own.nats.url, reconnectTimeWait: 100, maxReconnectAttempts: -1 });
  onTestFinished(() => asker.close());
  const request = (within: string) => {
    const headers = newHeaders();
    headers.set('Mqtt-Answer-Within', within);
    return asker.request(`call.${device.id}.state`, '', { headers, timeout: 3_000 });
  };
  const lost = request('60').catch(() => 'lost');
  await until('it is asked', () => asked === 1);
  await own.nats.kill();
  expect(await lost).toBe('lost');
  await delay(1_000);
  await own.nats.restart();
  await until('it is asked again', async () => {
    const answer = await request('1').catch(() => undefined);
    return answer?.headers?.get('Nats-Service-Error-Code') === '408';
  });
  expect(client.connected).toBe(true);
});

describe('device send', () => {
  async function run(args: readonly string[], stdin?: string) {
    const io = fakeIo({
      env: { API_URL: `http://127.0.0.1:${gateway.server.httpPort}` },
      ...(stdin !== undefined && { stdin }),
    });
    const outcome = await runProgram(['device', 'send', ...args], io).catch(
      (error: SvcMqttError) => error.code,
    );
    return { outcome, out: io.out(), err: io.err() };
  }

  test('stores a command that a sleeping device gets when it comes', async ({ onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    const session = { clientId: 'sleeper', clean: false };
    const connectSleeper = async () => {
      const client = mqtt.connect({
        host: '127.0.0.1',
        port: other.mqttPort,
        username: device.id,
        password: device.password,
        reconnectPeriod: 0,
        ...session,
      });
      onTestFinished(() => client.endAsync(true));
      const got: string[] = [];
      client.on('message', (topic, payload) => void got.push(`${topic} ${payload}`));
      await new Promise((resolve) => client.once('connect', resolve));
      return { client, got };
    };
    const first = await connectSleeper();
    await first.client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
    await first.client.endAsync();
    const { outcome, out } = await run([device.id, 'fan/speed', '900', '--json']);
    expect(outcome).toBe(0);
    expect(JSON.parse(out)).toEqual({
      device: device.id,
      topic: `cmd/${device.id}/fan/speed`,
      stored: { stream: 'CMD', sequence: expect.any(Number) },
      answer: null,
    });
    expect(await run([device.id, 'late', 'x', '--expires', '1s'])).toMatchObject({ outcome: 0 });
    expect(await run([device.id, 'from/stdin', '-'], 'piped')).toMatchObject({ outcome: 0 });
    await delay(1_100);
    const { got } = await connectSleeper();
    await until('it has them', () => got.length >= 2);
    expect(got).toEqual([`cmd/${device.id}/fan/speed 900`, `cmd/${device.id}/from/stdin piped`]);
  });

  test('asks a device and prints its answer, or says why there is none', async ({ onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    expect(await run([device.id, 'state', '--wait', '1s'])).toMatchObject({ outcome: 'DEVICE_UNAVAILABLE' });
    const client = await open(onTestFinished, device, 5, other.mqttPort);
    await client.subscribeAsync(`cmd/${device.id}/call/#`, { qos: 1 });
    client.on('message', (topic, payload, { properties }) => {
      if (topic.endsWith('/state')) client.publish(String(properties?.responseTopic), `is ${payload}`);
    });
    expect(await run([device.id, 'state', 'on', '--wait', '5s'])).toMatchObject({
      outcome: 0,
      out: 'is on\n',
    });
    expect(await run([device.id, 'other', '--wait', '300ms'])).toMatchObject({ outcome: 'USAGE' });
    expect(await run([device.id, 'other', '--wait', '1s'])).toMatchObject({ outcome: 'DEVICE_SILENT' });
    expect(await run([device.id, 'other', '--wait', '1s', '--ack'])).toMatchObject({
      outcome: 0,
      out: `${device.id} has it\n`,
    });
  });

  test('sends a file whose text would be six times as long in JSON, and no larger one', async ({
    onTestFinished,
  }) => {
    const { id } = await addDevice(gateway.server.httpPort);
    const directory = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-test-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const file = path.join(directory, 'zeros');
    await writeFile(file, Buffer.alloc(200_000));
    expect(await run([id, 'state', '--file', file])).toMatchObject({ outcome: 0 });
    await writeFile(file, Buffer.alloc(262_145));
    expect(await run([id, 'state', '--file', file])).toMatchObject({ outcome: 'BODY_TOO_LARGE' });
  });

  test('sends to all that are selected, and tells which could not be sent it', async ({ onTestFinished }) => {
    const add = (body: object) =>
      fetch(`http://127.0.0.1:${gateway.server.httpPort}/devices`, {
        method: 'POST',
        body: JSON.stringify(body),
      });
    for (const site of ['graz', 'graz']) await add({ type: 'pump', metadata: { site } });
    const last = await add({ type: 'pump', metadata: { site: 'lyon' } });
    const { id, mqtt_password: password } = (await last.json()) as { id: string; mqtt_password: string };
    const { outcome, out } = await run([
      '--type',
      'pump',
      '--metadata',
      'site=graz',
      '--yes',
      'interval',
      '60',
    ]);
    expect([outcome, out]).toEqual([0, '2 devices sent, 0 failed\n']);
    expect(await run(['--type', 'pump', '--yes', 'state', '--wait', '1s'])).toMatchObject({
      outcome: 1,
      out: '0 devices sent, 3 failed\n',
      err: expect.stringContaining('no client of the device'),
    });
    const client = await open(onTestFinished, { id, password }, 5, other.mqttPort);
    await client.subscribeAsync(`cmd/${id}/call/#`, { qos: 1 });
    client.on('message', (_topic, payload, { properties }) => {
      client.publish(String(properties?.responseTopic), `is ${payload}`);
    });
    expect(await run(['--type', 'pump', '--yes', 'state', 'on', '--wait', '5s'])).toMatchObject({
      outcome: 1,
      out: `${id}  is on\n1 device sent, 2 failed\n`,
    });
  });

  test.each([
    [['nobody', 'x'], 'DEVICE_NOT_FOUND'],
    [['only-one'], 'USAGE'],
    [['a', 'b', 'c', 'd'], 'USAGE'],
    [['a', 'fan/#', 'x'], 'INPUT_INVALID'],
    [['a', 'x', 'y', '--ack'], 'USAGE'],
    [['a', 'x', 'y', '--wait', '5s', '--expires', '1h'], 'USAGE'],
    [['a', 'x', 'y', '--wait', '90s'], 'INPUT_INVALID'],
    [['a', 'x', '--file', '/does/not/exist'], 'INPUT_INVALID'],
  ])('%j is refused: %s', async (args, code) => {
    expect(await run(args)).toMatchObject({ outcome: code });
  });

  test('a revoked device is sent nothing, and what is sent is in the audit log without its payload', async () => {
    const device = await addDevice(gateway.server.httpPort);
    const base = `http://127.0.0.1:${gateway.server.httpPort}`;
    expect(await run([device.id, 'x', 'secret words'])).toMatchObject({ outcome: 0 });
    await fetch(`${base}/devices/${device.id}`, { method: 'DELETE' });
    expect(await run([device.id, 'x', 'y'])).toMatchObject({ outcome: 'DEVICE_UNAVAILABLE' });
    const audit = await (await fetch(`${base}/audit?device=${device.id}`)).text();
    expect(audit).toContain('device.command');
    expect(audit).not.toContain('secret words');
  });
});
