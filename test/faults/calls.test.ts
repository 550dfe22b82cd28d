import { setTimeout as delay } from 'node:timers/promises';
import mqtt from 'mqtt';
import { connect, type Msg, type NatsConnection, headers as newHeaders } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { addDevice, type Gateway, startGateway, until } from './gateway.js';

let gateway: Gateway;
let other: ServerProcess;
let nats: NatsConnection;
const undo: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  gateway = await startGateway((each) => void undo.push(each), {
    env: { MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' },
  });
  other = await startServerProcess(gateway.env);
  undo.push(async () => {
    await other.end('SIGKILL');
  });
  nats = await connect({ servers: gateway.nats.url });
  undo.push(() => nats.close());
});
afterAll(async () => {
  for (const each of undo.reverse()) await each();
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
  return await nats.request(`call.${device}.${what}`, payload, { timeout: 15_000, headers });
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
    await until('it is called no more', async () => {
      try {
        await ask(device.id, 'state', '', { 'Mqtt-Answer-Within': '0.2' });
        return false;
      } catch (error) {
        return (error as { code: string }).code === '503';
      }
    });
    await client.subscribeAsync(`cmd/${device.id}/fan`, { qos: 1 });
    await client.endAsync(true);
    await until('it is gone', async () => {
      try {
        await ask(device.id, 'state', '', { 'Mqtt-Answer-Within': '0.2' });
        return false;
      } catch (error) {
        return (error as { code: string }).code === '503';
      }
    });
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
    const many = await Promise.all(
      Array.from({ length: 80 }, () => ask(device.id, 'fan', '', { 'Mqtt-Answer-Within': '2' })),
    );
    expect(many.map((each) => failureOf(each)[0]).filter((code) => code === '429').length).toBe(16);
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
    const asked = ask(device.id, 'state', '', { 'Mqtt-Answer-Within': '3' });
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
