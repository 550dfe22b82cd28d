import type { IPublishPacket } from 'mqtt';
import { connect } from 'nats';
import { beforeAll, expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, addDevices, type Gateway, startGateway, startReplica, until } from './gateway.js';
import { connectMqttJs } from './mqtt-js.js';

const env = { ACL: 'open' };

const texts = (packets: IPublishPacket[]) => packets.map(({ topic, payload }) => `${topic} ${payload}`);

const later = undoAfterAll();
let gateway: Gateway;
let beside: ServerProcess;
let one: number;
let other: number;
beforeAll(async () => {
  gateway = await startGateway(later, { env });
  beside = await startReplica(later, gateway);
  one = gateway.server.mqttPort;
  other = beside.mqttPort;
});

async function readMetric(httpPort: number, series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1),
  );
}

test('a message reaches the subscribers of every replica once, as it was published', async ({
  onTestFinished,
}) => {
  const [sender, far, near] = (await addDevices(gateway.server.httpPort, 3)) as [
    Credentials,
    Credentials,
    Credentials,
  ];
  const publisher = await connectMqttJs(onTestFinished, one, sender);
  const nearby = await connectMqttJs(onTestFinished, one, near);
  const away = await connectMqttJs(onTestFinished, other, far);
  const old = await connectMqttJs(onTestFinished, other, far, { protocolVersion: 4, clientId: 'old' });
  await nearby.subscribeAsync('chat/#', { qos: 2 });
  await away.subscribeAsync('chat/+/x', { qos: 2, properties: { subscriptionIdentifier: 7 } });
  await old.subscribeAsync('chat/a/#', { qos: 0 });
  await publisher.subscribeAsync({ 'chat/#': { qos: 1, nl: true } });
  for (const qos of [0, 1, 2] as const)
    await publisher.publishAsync('chat/a/x', `with ${qos}`, {
      qos,
      properties: { contentType: 'text/plain', messageExpiryInterval: 100, userProperties: { site: 'graz' } },
    });
  await publisher.publishAsync('chat/a/y', 'the end', { qos: 1 });
  await away.publishAsync('chat/b/x', 'back', { qos: 1 });
  await until('all have come', () => {
    const lengths = [nearby, away, old, publisher].map(({ got }) => got.length);
    return JSON.stringify(lengths) === '[5,4,4,1]';
  });
  const sorted = (packets: IPublishPacket[]) => texts(packets).toSorted();
  expect(sorted(away.got)).toEqual([
    'chat/a/x with 0',
    'chat/a/x with 1',
    'chat/a/x with 2',
    'chat/b/x back',
  ]);
  expect(sorted(nearby.got)).toEqual([
    'chat/a/x with 0',
    'chat/a/x with 1',
    'chat/a/x with 2',
    'chat/a/y the end',
    'chat/b/x back',
  ]);
  expect(texts(publisher.got)).toEqual(['chat/b/x back']);
  expect(old.got.every(({ qos }) => qos === 0)).toBe(true);
  const last = away.got.find(({ payload }) => payload.toString() === 'with 2');
  expect(last).toMatchObject({
    qos: 2,
    properties: { contentType: 'text/plain', userProperties: { site: 'graz' }, subscriptionIdentifier: 7 },
  });
  expect(Number(last?.properties?.messageExpiryInterval)).toBeGreaterThan(80);
});

test('No Local holds on whatever replica the client subscribes', async ({ onTestFinished }) => {
  const [device] = (await addDevices(gateway.server.httpPort, 1)) as [Credentials];
  const first = await connectMqttJs(onTestFinished, other, device, {
    clientId: 'moves',
    properties: { sessionExpiryInterval: 600 },
  });
  await first.subscribeAsync({ 'chat/#': { qos: 1, nl: true } });
  const publisher = await connectMqttJs(onTestFinished, one, device, { clientId: 'stays' });
  await publisher.publishAsync('chat/a', 'of another client', { qos: 1 });
  await until('it has come', () => first.got.length === 1);
  await first.publishAsync('chat/a', 'of its own', { qos: 1 });
  await publisher.publishAsync('chat/a', 'the end', { qos: 1 });
  await until('the end has come', () => first.got.length === 2);
  expect(texts(first.got)).toEqual(['chat/a of another client', 'chat/a the end']);
});

test('what nobody elsewhere wants stays, and is stored once', async ({ onTestFinished }) => {
  const [sender, far] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const publisher = await connectMqttJs(onTestFinished, one, sender);
  const away = await connectMqttJs(onTestFinished, other, far);
  await away.subscribeAsync('wanted/#', { qos: 1 });
  const passed = () => readMetric(gateway.server.httpPort, 'svc_mqtt_fleet_messages_total{direction="out"}');
  // After a start everything counts as wanted for a moment.
  let unwanted = 0;
  await until('it is known what is wanted', async () => {
    const before = await passed();
    await publisher.publishAsync('unwanted/a', 'x', { qos: 1 });
    unwanted += 1;
    return (await passed()) === before;
  });
  const before = await passed();
  for (let number = 0; number < 20; number += 1) {
    await publisher.publishAsync('unwanted/a', 'x', { qos: 1 });
    await publisher.publishAsync('wanted/a', String(number), { qos: 1 });
  }
  expect(await passed()).toBe(before + 20);
  await until('all have come', () => away.got.length === 20);
  expect(texts(away.got)).toEqual(Array.from({ length: 20 }, (_, number) => `wanted/a ${number}`));
  expect(unwanted).toBeGreaterThan(0);
  expect(await readMetric(beside.httpPort, 'svc_mqtt_fleet_replicas')).toBe(1);

  // What is granted is known to the others when a message published from then on is stored.
  for (let number = 0; number < 20; number += 1) {
    await away.subscribeAsync(`new${number}/#`, { qos: 1 });
    await publisher.publishAsync(`new${number}/a`, 'x', { qos: 1 });
  }
  await until('all new have come', () => away.got.length === 40);
});

test('one member of a shared subscription gets a message, wherever it was published', async ({
  onTestFinished,
}) => {
  const [sender, worker, second] = (await addDevices(gateway.server.httpPort, 3)) as [
    Credentials,
    Credentials,
    Credentials,
  ];
  const here = await connectMqttJs(onTestFinished, one, sender);
  const there = await connectMqttJs(onTestFinished, other, sender);
  const far = await connectMqttJs(onTestFinished, other, worker);
  await far.subscribeAsync('$share/w/jobs/#', { qos: 1 });
  for (let number = 0; number < 20; number += 1)
    await here.publishAsync('jobs/a', `far ${number}`, { qos: 1 });
  await until('the only member has all', () => far.got.length === 20);
  const near = await connectMqttJs(onTestFinished, one, second);
  await near.subscribeAsync('$share/w/jobs/#', { qos: 1 });
  for (let number = 0; number < 20; number += 1) {
    await here.publishAsync('jobs/a', `here ${number}`, { qos: 1 });
    await there.publishAsync('jobs/a', `there ${number}`, { qos: 1 });
  }
  await here.publishAsync('jobs/a', 'the end', { qos: 1 });
  await until('all have come', () => far.got.length + near.got.length === 61);
  const all = texts([...far.got, ...near.got]);
  expect(new Set(all).size).toBe(61);
  expect(near.got.length).toBeGreaterThan(0);
  await near.endAsync();
  await here.publishAsync('jobs/a', 'to who is left', { qos: 1 });
  await until('who is left has it', () => texts(far.got).includes('jobs/a to who is left'));
});

test('nothing is lost or doubled while NATS is away, and PUBACK waits', async ({ onTestFinished }) => {
  const [sender, far] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const publisher = await connectMqttJs(onTestFinished, one, sender);
  const away = await connectMqttJs(onTestFinished, other, far);
  await away.subscribeAsync('chat/#', { qos: 1 });
  const publishing: Promise<unknown>[] = [];
  for (let number = 0; number < 300; number += 1) {
    publishing.push(publisher.publishAsync('chat/a', String(number), { qos: 1 }));
    if (number === 100 || number === 200) {
      await publishing[number - 50];
      await gateway.nats.kill();
      await gateway.nats.restart();
    }
  }
  await Promise.all(publishing);
  await until('all have come', () => away.got.length >= 300);
  await publisher.publishAsync('chat/a', 'the end', { qos: 1 });
  await until('the end has come', () => texts(away.got).includes('chat/a the end'));
  const numbers = Array.from({ length: 300 }, (_, number) => `chat/a ${number}`);
  expect(texts(away.got)).toEqual([...numbers, 'chat/a the end']);
  expect(away.connected && publisher.connected).toBe(true);
});

test('a message that is too large for NATS with what is added to it stays, and harms nobody', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env, nats: { configExtra: 'max_payload: 65536' } });
  const beside = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const { mqttPort } = gateway.server;
  const far = await connectMqttJs(onTestFinished, beside.mqttPort, device, { clientId: 'far' });
  await far.subscribeAsync('chat/#', { qos: 1 });
  const near = await connectMqttJs(onTestFinished, mqttPort, device, { clientId: 'near' });
  await near.subscribeAsync('chat/#', { qos: 1 });
  const publisher = await connectMqttJs(onTestFinished, mqttPort, device, { clientId: 'publisher' });
  for (const qos of [0, 1] as const)
    await publisher.publishAsync('chat/a', 'x'.repeat(65_480), { qos, retain: qos === 1 });
  await publisher.publishAsync('chat/a', 'the end', { qos: 1 });
  await until('all have come', () => near.got.length === 3);
  await until('what can pass has passed', () => far.got.length > 0);
  expect(texts(far.got)).toEqual(['chat/a the end']);
  expect(gateway.server.count('nats_disconnected')).toBe(0);
  const refused = await readMetric(
    gateway.server.httpPort,
    'svc_mqtt_messages_dropped_total{reason="not-passed"}',
  );
  expect(refused).toBe(2);
  expect(gateway.server.count('retained_refused')).toBe(1);
});

test('the stream of messages is made again when it is deleted', async ({ onTestFinished }) => {
  const [sender, far] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const publisher = await connectMqttJs(onTestFinished, one, sender);
  const away = await connectMqttJs(onTestFinished, other, far);
  await away.subscribeAsync('chat/#', { qos: 1 });
  await publisher.publishAsync('chat/a', 'before', { qos: 1 });
  await until('it has come', () => away.got.length === 1);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  await streams.delete('SVC_MQTT_MESSAGES');
  await publisher.publishAsync('chat/a', 'after', { qos: 1 });
  await until('it has come, too', () => away.got.length === 2);
  expect(texts(away.got)).toEqual(['chat/a before', 'chat/a after']);
});

test('replicas keep to themselves where no policy lets devices reach each other', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const device = await addDevice(gateway.server.httpPort);
  const client = await connectMqttJs(onTestFinished, gateway.server.mqttPort, device);
  await client.publishAsync(`raw/${device.id}`, 'x', { qos: 1, retain: true });
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const names: string[] = [];
  for await (const { config } of (await observer.jetstreamManager()).streams.list()) names.push(config.name);
  expect(names.filter((name) => name.startsWith('SVC_MQTT_'))).toEqual([]);
});
