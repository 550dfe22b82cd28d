import type { IClientPublishOptions, IPublishPacket } from 'mqtt';
import { connect } from 'nats';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { addDevice, type OnFinished, startGateway, startReplica, until } from './gateway.js';
import { connectMqttJs } from './mqtt-js.js';

const env = { ACL: 'open' };

/** Publishes on a connection of its own; resolves with PUBACK. */
async function retain(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
  topic: string,
  payload: string,
  options: IClientPublishOptions = {},
): Promise<void> {
  const client = await connectMqttJs(onFinished, port, device);
  await client.publishAsync(topic, payload, { qos: 1, retain: true, ...options });
  await client.endAsync();
}

/** What a replica answers a new subscription: topics and payloads, sorted. Something else that is retained marks the end. */
async function readRetained(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
  filter = 't/#',
): Promise<IPublishPacket[]> {
  const client = await connectMqttJs(onFinished, port, device);
  const received: IPublishPacket[] = [];
  client.on('message', (_topic, _payload, packet) => received.push(packet));
  await client.subscribeAsync(filter, { qos: 2 });
  await client.subscribeAsync('end', { qos: 1 });
  await client.publishAsync('end', '', { qos: 1 });
  await until('the end is there', () => received.some(({ topic }) => topic === 'end'));
  await client.endAsync();
  return received.filter(({ topic }) => topic !== 'end').sort((a, b) => (a.topic < b.topic ? -1 : 1));
}

const texts = (packets: IPublishPacket[]) => packets.map(({ topic, payload }) => `${topic} ${payload}`);

test('a retained message is every replica’s, with all that it carries, and outlives them and NATS', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env });
  const beside = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const read = (port: number) => readRetained(onTestFinished, port, device);
  const ports = [gateway.server.mqttPort, beside.mqttPort];
  const [one = 0, other = 0] = ports;

  await retain(onTestFinished, one, device, 't/a//x y', '1', {
    qos: 2,
    properties: {
      contentType: 'text/plain',
      correlationData: Buffer.from([0, 255]),
      messageExpiryInterval: 1_000,
      userProperties: { site: ['graz', 'wien'] },
    },
  });
  await retain(onTestFinished, other, device, 't/b', '2');
  await retain(onTestFinished, other, device, 't/short', '3', { properties: { messageExpiryInterval: 1 } });
  for (const port of ports) {
    // PUBACK promises that it is stored; another replica has it as soon as NATS has passed it on.
    await until('both are there', async () => (await read(port)).length === 2);
    const [first, second] = await read(port);
    expect(first).toMatchObject({ topic: 't/a//x y', qos: 2, retain: true, payload: Buffer.from('1') });
    expect(first?.properties).toMatchObject({
      contentType: 'text/plain',
      correlationData: Buffer.from([0, 255]),
      userProperties: { site: ['graz', 'wien'] },
    });
    const left = Number(first?.properties?.messageExpiryInterval);
    expect(left).toBeGreaterThan(800);
    expect(left).toBeLessThanOrEqual(1_000);
    expect(second).toMatchObject({ topic: 't/b', qos: 1 });
  }

  const startAgain = () =>
    startReplica(onTestFinished, gateway, {
      MQTT_PORT: String(beside.mqttPort),
      LISTEN_ADDR: `127.0.0.1:${beside.httpPort}`,
    });
  await Promise.all([gateway.server.end('SIGKILL'), beside.end('SIGKILL')]);
  await gateway.nats.kill();
  await gateway.nats.restart();
  await Promise.all([gateway.restart(), startAgain()]);
  for (const port of ports) expect(texts(await read(port))).toEqual(['t/a//x y 1', 't/b 2']);

  await retain(onTestFinished, other, device, 't/a//x y', '');
  for (const port of ports) await until('one is gone', async () => (await read(port)).length === 1);
  await gateway.server.end('SIGKILL');
  await gateway.restart();
  expect(texts(await read(one))).toEqual(['t/b 2']);
});

test('of what replicas retain at the same time all keep the last of the stream', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env });
  const beside = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const ports = [gateway.server.mqttPort, beside.mqttPort];
  const clients = await Promise.all(ports.map((port) => connectMqttJs(onTestFinished, port, device)));
  await Promise.all(
    clients.flatMap((client, replica) =>
      Array.from({ length: 400 }, (_, number) =>
        client.publishAsync(`t/${number % 4}`, number % 7 === 0 ? '' : `${replica} ${number}`, {
          qos: 1,
          retain: true,
        }),
      ),
    ),
  );
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  const expected: string[] = [];
  for (let topic = 0; topic < 4; topic += 1) {
    const last = await streams.getMessage('SVC_MQTT_RETAINED', {
      last_by_subj: `svc-mqtt.retained.t.${topic}`,
    });
    if (last.data.length > 0) expected.push(`t/${topic} ${last.string()}`);
  }
  for (const port of ports) {
    await until('they agree', async () => {
      const found = texts(await readRetained(onTestFinished, port, device));
      return JSON.stringify(found) === JSON.stringify(expected);
    });
  }
});

test('a stream that is deleted is made again, and has again what the replicas know', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env });
  const beside = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  await retain(onTestFinished, gateway.server.mqttPort, device, 't/a', '1');
  await retain(onTestFinished, gateway.server.mqttPort, device, 't/b', '2');
  await until('the other has them', async () => {
    return (await readRetained(onTestFinished, beside.mqttPort, device)).length === 2;
  });
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  await streams.delete('SVC_MQTT_RETAINED');
  // It waits for the stream, and is stored there.
  await retain(onTestFinished, beside.mqttPort, device, 't/b', '3');
  await retain(onTestFinished, beside.mqttPort, device, 't/c', '4');
  await until('all are in the stream', async () => {
    const info = await streams.info('SVC_MQTT_RETAINED', { subjects_filter: '>' }).catch(() => undefined);
    return Object.keys(info?.state.subjects ?? {}).length === 3;
  });
  await Promise.all([gateway.server.end('SIGKILL'), beside.end('SIGKILL')]);
  await gateway.restart();
  expect(texts(await readRetained(onTestFinished, gateway.server.mqttPort, device))).toEqual([
    't/a 1',
    't/b 3',
    't/c 4',
  ]);
});

test('PUBACK waits while NATS is away, nobody is closed, and a bound is as it was', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: { ...env, MAX_RETAINED_MESSAGES: '2' } });
  const { server, nats } = gateway;
  const device = await addDevice(server.httpPort);
  const client = await connectMqttJs(onTestFinished, server.mqttPort, device);
  await client.publishAsync('t/a', '1', { qos: 1, retain: true });
  await nats.kill();
  let answered = 0;
  const waiting = ['t/a', 't/b', 't/b'].map((topic, index) =>
    client.publishAsync(topic, `later ${index}`, { qos: 1, retain: true }).then(() => {
      answered += 1;
    }),
  );
  await client.subscribeAsync('elsewhere', { qos: 1 });
  expect(answered).toBe(0);
  await nats.restart();
  await Promise.all(waiting);
  // One more than the bound is delivered and acknowledged.
  await client.publishAsync('t/c', 'too many', { qos: 1, retain: true });
  const metrics = await (await fetch(`http://127.0.0.1:${server.httpPort}/metrics`)).text();
  expect(metrics).toContain('svc_mqtt_limits_hit_total{limit="retained-messages"} 1');
  expect(texts(await readRetained(onTestFinished, server.mqttPort, device))).toEqual([
    't/a later 0',
    't/b later 2',
  ]);
  expect(client.connected).toBe(true);
});

test('without rights retained messages are those of the replica, as it says once', async ({
  onTestFinished,
}) => {
  const { server } = await startGateway(onTestFinished, {
    env: { ...env, NATS_USER: 'gateway', NATS_PASSWORD: 'secret' },
    nats: {
      configExtra: `authorization { users: [ { user: gateway, password: secret, permissions: {
        publish: { allow: ["raw.>", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.RAW"] }
        subscribe: { allow: ["_INBOX.>", "cmd.>"] } } } ] }`,
    },
  });
  const device = await addDevice(server.httpPort);
  await retain(onTestFinished, server.mqttPort, device, 't/a', '1');
  await retain(onTestFinished, server.mqttPort, device, 't/b', '2');
  await retain(onTestFinished, server.mqttPort, device, 't/a', '');
  expect(texts(await readRetained(onTestFinished, server.mqttPort, device))).toEqual(['t/b 2']);
  const told = server.log.filter(
    ({ event, stream }) => event === 'state_stream_unusable' && stream === 'SVC_MQTT_RETAINED',
  );
  expect(told).toMatchObject([{ reason: expect.stringContaining('SVC_MQTT_RETAINED') }]);
});
