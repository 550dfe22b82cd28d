import { AckPolicy, connect, DeliverPolicy, type JsMsg, headers as newHeaders } from 'nats';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { publishPacket, type RawClient } from '../support/raw-client.js';
import { Id, property, readAcknowledge } from '../support/raw-mqtt5.js';
import { startServerProcess } from '../support/server-process.js';
import {
  addDevice,
  connected,
  type Gateway,
  type OnFinished,
  publishAndWait,
  startGateway,
  until,
} from './gateway.js';

const subject = 'dead.letters';
/** Where there are users, the one that may do everything. */
const login = { user: 'admin', pass: 'admin' };

async function makeStreams(url: string, maxBytes = 2_000): Promise<void> {
  const nats = await connect({ servers: url, ...login });
  const { streams } = await nats.jetstreamManager();
  await streams.add({ name: 'RAW', subjects: ['raw.>'], max_msg_size: maxBytes });
  await streams.add({ name: 'SMALL', subjects: ['small.>'], max_msg_size: 500 });
  await streams.add({ name: 'FORBIDDEN', subjects: ['forbidden.>'] });
  await streams.add({ name: 'DEAD', subjects: ['dead.>'] });
  await nats.close();
}

function start(
  onFinished: OnFinished,
  env: Record<string, string> = {},
  configExtra?: string,
): Promise<Gateway> {
  return startGateway(onFinished, {
    ...(configExtra === undefined ? {} : { nats: { configExtra } }),
    env: { DEAD_LETTER_SUBJECT: subject, MAX_PACKET_BYTES: '100000', ...env },
    beforeServer: makeStreams,
  });
}

/** The dead letters, once there are so many. */
async function read({ nats: { url } }: Gateway, count: number): Promise<JsMsg[]> {
  const nats = await connect({ servers: url, ...login });
  const manager = await nats.jetstreamManager();
  await until(`${count} are kept`, async () => (await manager.streams.info('DEAD')).state.messages >= count);
  const { name } = await manager.consumers.add('DEAD', {
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.All,
  });
  const batch = await (await nats.jetstream().consumers.get('DEAD', name)).fetch({
    max_messages: 1_000,
    expires: 1_000,
  });
  const found: JsMsg[] = [];
  for await (const message of batch) found.push(message);
  await nats.close();
  return found;
}

function headersOf(message: JsMsg | undefined): Record<string, string> {
  const lines = message?.headers ?? newHeaders();
  return Object.fromEntries(lines.keys().map((name) => [name, lines.get(name)]));
}

function five(
  onFinished: OnFinished,
  gateway: Gateway,
  device: Credentials,
  clientId = 'five',
): Promise<RawClient> {
  return connected(onFinished, gateway.server.mqttPort, device, {
    level: 5,
    clientId,
    properties: Buffer.alloc(0),
  });
}

const binary = Buffer.from([0, 255, 13, 10, 128]);

test('what a device may not publish is kept, and refused all the same', async ({ onTestFinished }) => {
  const gateway = await start(onTestFinished);
  const device = await addDevice(gateway.server.httpPort);
  const three = await connected(onTestFinished, gateway.server.mqttPort, device, { clientId: 'three ü' });
  three.send(publishPacket({ topic: 'raw/another/x', payload: binary, qos: 1, packetId: 7, retain: true }));
  await three.waitClosed();

  const client = await five(onTestFinished, gateway, device);
  const properties = Buffer.concat([
    property(Id.userProperty, ['unit', 'C']),
    property(Id.userProperty, ['Mqtt-Device', 'forged']),
    property(Id.messageExpiry, 60),
  ]);
  client.send(publishPacket({ topic: 'cmd/x', payload: 'five', qos: 1, packetId: 8, properties }));
  expect(readAcknowledge(await client.next())).toMatchObject({ packetId: 8, code: 0x87 });
  client.send(publishPacket({ topic: 'cmd/y', payload: 'zero', qos: 0, properties: Buffer.alloc(0) }));
  // It lives, and what it may publish is stored where it belongs.
  client.send(
    publishPacket({
      topic: `raw/${device.id}`,
      payload: 'good',
      qos: 1,
      packetId: 9,
      properties: Buffer.alloc(0),
    }),
  );
  expect(readAcknowledge(await client.next())).toMatchObject({ packetId: 9, code: 0 });

  const [first, second, third, ...rest] = await read(gateway, 3);
  expect(rest).toEqual([]);
  expect(Buffer.from(first?.data ?? [])).toEqual(binary);
  expect(headersOf(first)).toEqual({
    'Mqtt-Topic': 'raw/another/x',
    'Mqtt-Retain': '1',
    'Mqtt-Refused': 'publish-denied',
    'Mqtt-Refused-Why': expect.stringContaining('policy'),
    'Mqtt-Refused-At': expect.stringMatching(/^20.*Z$/),
    'Mqtt-Device': device.id,
    'Mqtt-Client': 'three%20%C3%BC',
    'Mqtt-Protocol': '3.1.1',
    'Mqtt-Qos': '1',
  });
  expect(second?.string()).toBe('five');
  expect(headersOf(second)).toMatchObject({
    'Mqtt-Topic': 'cmd/x',
    'Mqtt-Protocol': '5.0',
    'Mqtt-Device': device.id,
    unit: 'C',
    'Mqtt-Message-Expiry': '60',
  });
  expect(headersOf(third)).toMatchObject({ 'Mqtt-Topic': 'cmd/y', 'Mqtt-Qos': '0' });
  const metrics = await (await fetch(`http://127.0.0.1:${gateway.server.httpPort}/metrics`)).text();
  expect(metrics).toMatch(/^svc_mqtt_dead_letters_total{result="sent"} 3$/m);
});

test('what is too large for its stream is kept whole, whether that was known or JetStream says so', async ({
  onTestFinished,
}) => {
  const gateway = await start(onTestFinished);
  const api = `http://127.0.0.1:${gateway.server.httpPort}`;
  const device = await addDevice(gateway.server.httpPort);
  const large = Buffer.alloc(5_000, 'x');
  const publish = (topic: string, more: object = {}) =>
    publishPacket({ topic, payload: large, qos: 1, packetId: 1, ...more });
  const three = await connected(onTestFinished, gateway.server.mqttPort, device, { clientId: 'three' });
  three.send(publish(`raw/${device.id}`));
  await three.waitClosed();
  const client = await five(onTestFinished, gateway, device);
  client.send(publish(`raw/${device.id}`, { properties: Buffer.alloc(0) }));
  expect(readAcknowledge(await client.next())).toMatchObject({ packetId: 1, code: 0x97 });

  const set = await fetch(`${api}/policies/sensor`, {
    method: 'PUT',
    body: JSON.stringify({ publish: ['raw/{id}/#'], subscribe: [], nats_subject: 'small.{id}' }),
  });
  expect(set.status, await set.text()).toBe(200);
  const small = await connected(onTestFinished, gateway.server.mqttPort, device, { clientId: 'small' });
  await until('its messages go there', async () => {
    await publishAndWait(small, device, 'fits');
    const nats = await connect({ servers: gateway.nats.url, ...login });
    const { state } = await (await nats.jetstreamManager()).streams.info('SMALL');
    await nats.close();
    return state.messages > 0;
  });
  const medium = Buffer.alloc(1_000, 'm');
  small.send(publishPacket({ topic: `raw/${device.id}`, payload: medium, qos: 1, packetId: 2 }));
  await small.waitClosed();

  const found = await read(gateway, 3);
  expect(found.map(({ data }) => Buffer.from(data))).toEqual([large, large, medium]);
  expect(found.map((each) => headersOf(each)['Mqtt-Refused'])).toEqual([
    'packet-too-large',
    'packet-too-large',
    'refused-by-nats',
  ]);
  expect(headersOf(found[2])['Mqtt-Refused-Why']).toContain('message size exceeds maximum');
});

test('what NATS denies is kept where the client is told, and a will that may not be published any more', async ({
  onTestFinished,
}) => {
  const users = `authorization { users = [
    { user: gateway, password: gateway, permissions: { publish: { deny: ["forbidden.>"] } } }
    { user: admin, password: admin }
  ] }`;
  const gateway = await start(onTestFinished, { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway' }, users);
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(onTestFinished, gateway.server.mqttPort, device, {
    level: 5,
    clientId: 'five',
    properties: Buffer.alloc(0),
    will: { topic: `raw/${device.id}/will`, payload: 'gone', qos: 1 },
  });
  const set = (rules: object) =>
    fetch(`http://127.0.0.1:${gateway.server.httpPort}/policies/sensor`, {
      method: 'PUT',
      body: JSON.stringify({ subscribe: [], ...rules }),
    });
  const publish = async (topic: string) => {
    client.send(publishPacket({ topic, payload: topic, qos: 1, packetId: 1, properties: Buffer.alloc(0) }));
    return readAcknowledge(await client.next()).code;
  };
  const topic = `raw/${device.id}`;
  const rules = { publish: ['raw/{id}/#'], nats_subject: 'forbidden.{id}', on_refusal: 'answer' };
  expect((await set(rules)).status).toBe(200);
  await until('NATS denies it', async () => (await publish(topic)) === 0x87);
  const [denied] = await read(gateway, 1);
  expect(denied?.string()).toBe(topic);
  expect(headersOf(denied)).toMatchObject({
    'Mqtt-Refused': 'denied-by-nats',
    'Mqtt-Refused-Why': expect.stringContaining('may not publish to forbidden.'),
  });
  expect((await set({ publish: ['raw/{id}/else'] })).status).toBe(200);
  await until('the policy denies it', async () => {
    await publish(`${topic}/x`);
    return (await read(gateway, 1)).some((each) => headersOf(each)['Mqtt-Refused'] === 'publish-denied');
  });
  client.destroy();
  let will: JsMsg | undefined;
  await until('the will is kept', async () => {
    will = (await read(gateway, 1)).find((each) => each.string() === 'gone');
    return will !== undefined;
  });
  expect(headersOf(will)).toMatchObject({ 'Mqtt-Refused': 'publish-denied', 'Mqtt-Topic': `${topic}/will` });
});

test('a device that is refused again and again does not take the place of others', async ({
  onTestFinished,
}) => {
  const gateway = await start(onTestFinished);
  const [noisy, quiet] = [await addDevice(gateway.server.httpPort), await addDevice(gateway.server.httpPort)];
  const flood = await five(onTestFinished, gateway, noisy);
  for (let number = 1; number <= 500; number += 1)
    flood.send(publishPacket({ topic: 'no', payload: 'x', qos: 0, properties: Buffer.alloc(0) }));
  flood.send(
    publishPacket({ topic: 'no', payload: 'last', qos: 1, packetId: 1, properties: Buffer.alloc(0) }),
  );
  await flood.next();
  const one = await five(onTestFinished, gateway, quiet);
  one.send(publishPacket({ topic: 'no', payload: 'mine', qos: 1, packetId: 1, properties: Buffer.alloc(0) }));
  await one.next();
  await until('it is kept', async () => (await read(gateway, 1)).some((each) => each.string() === 'mine'));
  const metrics = await (await fetch(`http://127.0.0.1:${gateway.server.httpPort}/metrics`)).text();
  const count = (result: string) =>
    Number(new RegExp(`^svc_mqtt_dead_letters_total{result="${result}"} (\\d+)$`, 'm').exec(metrics)?.[1]);
  expect(count('sent') + count('rate')).toBe(502);
  expect(count('rate')).toBeGreaterThan(100);
});

test('a subject that means something else is refused at the start, and one without a stream warned of', async ({
  onTestFinished,
}) => {
  const gateway = await start(onTestFinished, { DEAD_LETTER_SUBJECT: 'nowhere.letters' });
  const warned = gateway.server.log.find(({ event }) => event === 'dead_letters_not_stored');
  expect(warned).toMatchObject({ subject: 'nowhere.letters', reason: 'no stream takes nowhere.letters' });
  const device = await addDevice(gateway.server.httpPort);
  const client = await five(onTestFinished, gateway, device);
  client.send(publishPacket({ topic: 'no', payload: 'x', qos: 1, packetId: 1, properties: Buffer.alloc(0) }));
  expect(readAcknowledge(await client.next())).toMatchObject({ code: 0x87 });
  const wrongs = [
    ['raw.dead', 'NATS_SUBJECT'],
    ['cmd.dead.letters', 'as commands'],
    ['raw.dead.letters', 'stream RAW'],
    ['dead.*', 'tokens of'],
  ] as const;
  await Promise.all(
    wrongs.map(async ([wrong, why]) => {
      const ports = { MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' };
      const failed = startServerProcess({ ...gateway.env, ...ports, DEAD_LETTER_SUBJECT: wrong });
      await expect(failed, wrong).rejects.toThrow(why);
    }),
  );
});
