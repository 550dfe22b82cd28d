import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';

let controlled: ControlledBroker;
let clients: MqttClient[];
let children: ChildProcess[];

beforeEach(async () => {
  clients = [];
  children = [];
  controlled = await openControlledBroker({
    acl: 'open',
    // What nobody may publish: it has too many levels.
    maxTopicLevels: 4,
  });
});

afterEach(async () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
  await Promise.all(clients.map((client) => client.endAsync(true)));
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
});

const refusedTopic = 'a/b/c/d/e';
/** The headers of the messages that were taken, without the first lines. */
const headersTaken = (): string[][] =>
  controlled.taken.map(({ headers }) => Buffer.from(headers).toString().split('\r\n').slice(2, -2));
const payloadsTaken = (): string[] => controlled.taken.map(({ payload }) => Buffer.from(payload).toString());

describe('MQTT.js, MQTT 5', () => {
  async function connected(options: IClientOptions = {}): Promise<MqttClient> {
    const { id, password } = controlled.device;
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${controlled.port}`, {
      protocolVersion: 5,
      username: id,
      password,
      reconnectPeriod: 0,
      ...options,
    });
    clients.push(client);
    return client;
  }

  it('has what waits sent without its time to live when the stream takes none any more', async () => {
    controlled.takesTtl = true;
    controlled.autoStore = false;
    const client = await connected();
    const published = client.publishAsync('a', 'x', { qos: 1, properties: { messageExpiryInterval: 600 } });
    await vi.waitFor(() => expect(headersTaken()).toEqual([['Mqtt-Message-Expiry: 600', 'Nats-TTL: 600s']]));
    const [message] = controlled.taken;
    expect(message?.renew()).toBeUndefined();
    expect(headersTaken()).toEqual([['Mqtt-Message-Expiry: 600', 'Nats-TTL: 600s']]);
    controlled.takesTtl = false;
    expect(message?.renew()).toBeUndefined();
    expect(headersTaken()).toEqual([['Mqtt-Message-Expiry: 600']]);
    message?.onStored();
    await published;
  });

  it('publishes with QoS 0, 1 and 2 and properties, and gets them with what it subscribed to', async () => {
    const client = await connected({ properties: { topicAliasMaximum: 5, receiveMaximum: 10 } });
    const received: unknown[] = [];
    client.on('message', (topic, payload, { qos, properties }) => {
      received.push([
        topic,
        payload.toString(),
        qos,
        properties?.contentType,
        { ...properties?.userProperties },
      ]);
    });
    await client.subscribeAsync('js/#', { qos: 2 });
    const properties = { contentType: 'text/plain', userProperties: { a: ['1', '2'], b: '3' } };
    for (const qos of [0, 1, 2] as const)
      await client.publishAsync(`js/${qos}`, String(qos), { qos, properties });
    await vi.waitFor(() => expect(received).toHaveLength(3));
    expect(received).toEqual(
      [0, 1, 2].map((qos) => [`js/${qos}`, String(qos), qos, 'text/plain', { a: ['1', '2'], b: '3' }]),
    );
    expect(headersTaken()).toEqual(
      Array.from({ length: 3 }, () => ['Content-Type: text/plain', 'a: 1', 'a: 2', 'b: 3']),
    );
  });

  it('learns why a message is refused, and why its connection ends', async () => {
    const client = await connected();
    const ended = new Promise((resolve) =>
      client.once('disconnect', ({ reasonCode }) => resolve(reasonCode)),
    );
    for (const qos of [1, 2] as const)
      await expect(client.publishAsync(refusedTopic, 'x', { qos })).rejects.toMatchObject({ code: 0x90 });
    await client.publishAsync('goes/on', 'x', { qos: 1 });
    controlled.core.kick('dev1', 'kicked');
    expect(await ended).toBe(0x98);
    expect(payloadsTaken()).toEqual(['x']);
  });

  it('is told of a wrong password with 0x86', async () => {
    await expect(connected({ password: 'wrong' })).rejects.toMatchObject({ code: 0x86 });
  });

  it('goes on with its session', async () => {
    const options = { clientId: 'js5', clean: false, properties: { sessionExpiryInterval: 100 } };
    const first = await connected(options);
    await first.subscribeAsync('kept', { qos: 1 });
    await first.endAsync();
    await (await connected()).publishAsync('kept', 'meanwhile', { qos: 1 });
    const { id, password } = controlled.device;
    const again = mqtt.connect(`mqtt://127.0.0.1:${controlled.port}`, {
      ...options,
      protocolVersion: 5,
      username: id,
      password,
      reconnectPeriod: 0,
    });
    clients.push(again);
    const payloads: string[] = [];
    again.on('message', (_, payload) => payloads.push(payload.toString()));
    await vi.waitFor(() => expect(payloads).toEqual(['meanwhile']));
  });
});

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(program: string, args: readonly string[]) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    output.stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output.stderr += chunk.toString();
  });
  const finished = new Promise<Finished>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, ...output }));
  });
  return { output, finished };
}

const inCi = process.env.CI === 'true';
const mosquittoMissing = ['mosquitto_pub', 'mosquitto_sub'].filter(
  (name) => spawnSync(name, ['--help']).error !== undefined,
);
const python = process.env.TEST_PYTHON ?? 'python3';
const pahoMissing = spawnSync(python, ['-c', 'from paho.mqtt.enums import CallbackAPIVersion']).status !== 0;

it('mosquitto_pub, mosquitto_sub and Paho for Python, version 2, are installed', ({ skip }) => {
  const missing = [...mosquittoMissing, ...(pahoMissing ? ['paho-mqtt'] : [])];
  if (!inCi) skip(missing.length > 0, `not installed: ${missing.join(', ')}`);
  expect(missing).toEqual([]);
});

describe.skipIf(mosquittoMissing.length > 0 && !inCi)('the clients of mosquitto, MQTT 5', () => {
  const login = (): string[] => [
    ...['-V', 'mqttv5', '-h', '127.0.0.1', '-p', String(controlled.port)],
    ...['-u', controlled.device.id, '-P', controlled.device.password],
  ];
  const pub = (...args: string[]) => start('mosquitto_pub', [...login(), ...args]).finished;

  it('publish with QoS 0, 1 and 2 and properties, and get them with what they subscribed to', async () => {
    await pub('-r', '-q', '1', '-t', 'subscribed', '-m', 'yes');
    const { output, finished } = start('mosquitto_sub', [
      ...login(),
      ...['-q', '2', '-t', 'm/#', '-t', 'subscribed', '-C', '4', '-W', '120', '-F', '%t|%q|%p|%C|%R|%P'],
    ]);
    await vi.waitFor(() => expect(output.stdout).toContain('subscribed|'));
    controlled.taken.length = 0;
    for (const qos of ['0', '1', '2']) {
      const list = [
        'content-type text/plain',
        'response-topic m/answer',
        'user-property a 1',
        'user-property b 2',
      ];
      const { code, stderr } = await pub(
        ...['-q', qos, '-t', `m/${qos}`, '-m', `hello ${qos}`],
        ...list.flatMap((item) => ['-D', 'publish', ...item.split(' ')]),
      );
      expect([code, stderr]).toEqual([0, '']);
    }
    const { code, stdout } = await finished;
    expect(code).toBe(0);
    expect(stdout.trim().split('\n').slice(1)).toEqual(
      ['0', '1', '2'].map((qos) => `m/${qos}|${qos}|hello ${qos}|text/plain|m/answer|a:1 b:2`),
    );
    expect(headersTaken()[0]).toEqual([
      'Content-Type: text/plain',
      'Mqtt-Response-Topic: m/answer',
      'a: 1',
      'b: 2',
    ]);
  });

  it('learn why a message is refused, and why a connection ends', async () => {
    const refused = await pub('-q', '1', '-t', refusedTopic, '-m', 'x');
    expect(refused.stderr).toContain('Topic Name invalid.\na topic name of more than MAX_TOPIC_LEVELS');
    // Line by line, though it writes into a pipe.
    const { output } = start('stdbuf', ['-oL', 'mosquitto_sub', ...login(), '-d', '-t', 'a']);
    await vi.waitFor(() => expect(output.stdout).toContain('SUBACK'));
    controlled.core.kick('dev1', 'revoked');
    await vi.waitFor(() => expect(output.stdout).toContain('Received DISCONNECT (135)'));
  });
});

/** Prints a line of JSON for each thing that happens. */
const paho = `
import json, sys, time
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, user, password, refused = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
say = lambda *words: print(json.dumps(words), flush=True)
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="paho", protocol=mqtt.MQTTv5, reconnect_on_failure=False)
client.username_pw_set(user, password)
client.on_publish = lambda c, u, mid, code, properties: say("published", mid, code.value)
client.on_disconnect = lambda c, u, flags, code, properties: say("disconnected", code.value)
client.on_message = lambda c, u, m: say("message", m.topic, m.payload.decode(), m.qos, m.properties.ContentType, m.properties.UserProperty)
def subscribed(c, u, mid, codes, properties):
    listed = Properties(PacketTypes.PUBLISH)
    listed.ContentType = "text/plain"
    listed.UserProperty = [("a", "1"), ("a", "2")]
    for qos in (0, 1, 2):
        c.publish("p/%d" % qos, "hello", qos, properties=listed)
    c.publish(refused, "x", 1)
    c.publish(refused, "x", 2)
client.on_subscribe = subscribed
client.on_connect = lambda c, u, flags, code, properties: c.subscribe("p/#", 2) if code.value == 0 else say("refused", code.value)
client.connect("127.0.0.1", port)
client.loop_forever()
`;

describe.skipIf(pahoMissing && !inCi)('Paho for Python, version 2, MQTT 5', () => {
  const run = (password: string) =>
    start(python, ['-c', paho, String(controlled.port), controlled.device.id, password, refusedTopic]);
  const linesOf = (stdout: string): unknown[][] =>
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));

  it('publishes and gets messages with properties, and learns of refusals and of a kick', async () => {
    const { output, finished } = run(controlled.device.password);
    await vi.waitFor(() => expect(linesOf(output.stdout)).toHaveLength(8), { timeout: 60_000 });
    controlled.core.kick('dev1', 'kicked');
    const lines = linesOf((await finished).stdout);
    const user = [
      ['a', '1'],
      ['a', '2'],
    ];
    expect(lines.filter(([what]) => what === 'message').sort()).toEqual(
      [0, 1, 2].map((qos) => ['message', `p/${qos}`, 'hello', qos, 'text/plain', user]),
    );
    const codes = lines.filter(([what]) => what === 'published').map(([, , code]) => code);
    // After PUBREC with a refusal Paho sends PUBREL all the same, and hands on what that is answered: there is no exchange.
    expect(codes.sort()).toEqual([0, 0, 0, 0x90, 0x92]);
    expect(lines.at(-1)).toEqual(['disconnected', 0x98]);
    expect(headersTaken()[2]).toEqual(['Content-Type: text/plain', 'a: 1', 'a: 2']);
  });

  it('is told of a wrong password', async () => {
    const { stdout } = await run('wrong').finished;
    expect(linesOf(stdout)).toContainEqual(['refused', 0x86]);
  });
});
