import type { IPublishPacket, MqttClient } from 'mqtt';
import { connect, DiscardPolicy, type NatsConnection, headers as natsHeaders } from 'nats';
import { expect, test } from 'vitest';
import { addDevice, startGateway } from './gateway.js';
import { connectMqttJs } from './mqtt-js.js';

/** The user properties of PUBACK or PUBCOMP's PUBREC, as they come. */
function collectAnswers(client: MqttClient) {
  const answers: {
    cmd: string;
    reasonCode: number | undefined;
    userProperties: unknown;
    reasonString: unknown;
  }[] = [];
  client.on('packetreceive', (packet) => {
    if (packet.cmd !== 'puback' && packet.cmd !== 'pubrec') return;
    const { cmd, reasonCode, properties } = packet;
    answers.push({
      cmd,
      reasonCode,
      userProperties: properties?.userProperties,
      reasonString: properties?.reasonString,
    });
  });
  return answers;
}

test('properties become headers, receipts name the place, and headers become properties of a command', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished, { env: { TRACE_CONTEXT: 'make' } });
  const device = await addDevice(server.httpPort);
  const client = await connectMqttJs(onTestFinished, server.mqttPort, device, {
    properties: { userProperties: { receipt: '1' } },
  });
  const answers = collectAnswers(client);
  const topic = `raw/${device.id}/level`;
  await client.publishAsync(topic, '21', {
    qos: 1,
    properties: {
      payloadFormatIndicator: true,
      messageExpiryInterval: 3_600,
      contentType: 'text/plain',
      responseTopic: `cmd/${device.id}/answer`,
      correlationData: Buffer.from('no 1'),
      userProperties: { site: ['graz', 'wien'], 'Nats-Msg-Id': 'mine', 'room no': '7', traceparent: 'given' },
      topicAlias: 2,
    },
  });
  await client.publishAsync('', '22', { qos: 2, properties: { topicAlias: 2 } });

  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  const first = await streams.getMessage('RAW', { seq: 1 });
  const headersOf = ({ header }: typeof first) =>
    Object.fromEntries(header.keys().map((name) => [name, header.values(name)]));
  expect(headersOf(first)).toEqual({
    'Mqtt-Topic': [topic],
    'Mqtt-Payload-Format': ['1'],
    'Mqtt-Message-Expiry': ['3600'],
    'Content-Type': ['text/plain'],
    'Mqtt-Response-Topic': [`cmd/${device.id}/answer`],
    'Mqtt-Correlation-Data': ['no%201'],
    site: ['graz', 'wien'],
    'Mqtt-Property-Nats-Msg-Id': ['mine'],
    'Mqtt-Property-room%20no': ['7'],
    traceparent: ['given'],
  });
  const second = await streams.getMessage('RAW', { seq: 2 });
  expect(headersOf(second)).toMatchObject({
    'Mqtt-Topic': [topic],
    traceparent: [expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)],
  });
  expect(second.string()).toBe('22');
  expect(answers).toMatchObject([
    { cmd: 'puback', userProperties: { 'nats-stream': 'RAW', 'nats-sequence': '1' } },
    { cmd: 'pubrec', userProperties: { 'nats-stream': 'RAW', 'nats-sequence': '2' } },
  ]);

  const commands: IPublishPacket[] = [];
  client.on('message', (_topic, _payload, packet) => commands.push(packet));
  await client.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
  const headers = natsHeaders();
  headers.append('Content-Type', 'application/json');
  headers.append('Mqtt-Correlation-Data', 'no%202');
  headers.append('Mqtt-Message-Expiry', '60');
  headers.append('Nats-Msg-Id', 'not for the device');
  headers.append('site', 'graz');
  observer.publish(`cmd.${device.id}.set`, '{}', { headers });
  await expect.poll(() => commands.length).toBe(1);
  expect(commands[0]?.properties).toEqual({
    contentType: 'application/json',
    correlationData: Buffer.from('no 2'),
    messageExpiryInterval: 60,
    userProperties: { site: 'graz' },
  });
});

test('a stream that is full is answered where the policy says so, and waited for where not', async ({
  onTestFinished,
}) => {
  let observer: NatsConnection | undefined;
  const { server, nats } = await startGateway(onTestFinished, {
    async beforeServer(url) {
      observer = await connect({ servers: url });
      const { streams } = await observer.jetstreamManager();
      await streams.add({ name: 'RAW', subjects: ['raw.>'], max_msgs: 1, discard: DiscardPolicy.New });
      await observer.jetstream().publish('raw.first', 'fills it');
    },
  });
  onTestFinished(() => observer?.close());
  const setPolicy = async (rules: object) => {
    const answer = await fetch(`http://127.0.0.1:${server.httpPort}/policies/sensor`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(rules),
    });
    expect(answer.status).toBe(200);
  };
  const device = await addDevice(server.httpPort);
  const client = await connectMqttJs(onTestFinished, server.mqttPort, device);
  const answers = collectAnswers(client);
  const topic = `raw/${device.id}`;

  let answered = false;
  const waiting = client.publishAsync(topic, 'waits', { qos: 1 }).then(
    () => 0,
    ({ code }: { code: number }) => code,
  );
  void waiting.then(() => {
    answered = true;
  });
  await expect.poll(() => server.count('uplink_not_stored'), { timeout: 30_000 }).toBeGreaterThan(0);
  expect(answered).toBe(false);

  // What waits is held against the policy of now, too.
  await setPolicy({ on_refusal: 'answer', receipts: true });
  expect(await waiting).toBe(0x97);
  const still = await connectMqttJs(onTestFinished, server.mqttPort, await addDevice(server.httpPort));
  const other = await connectMqttJs(onTestFinished, server.mqttPort, await addDevice(server.httpPort));
  const told = collectAnswers(other);
  const otherTopic = `raw/${other.options.username}`;
  await expect
    .poll(
      async () => {
        await other.publishAsync(otherTopic, 'is told', { qos: 1 }).catch(() => {});
        return told.at(-1)?.reasonCode;
      },
      { timeout: 30_000 },
    )
    .toBe(0x97);
  await other.publishAsync(otherTopic, 'is told', { qos: 2 }).catch(() => {});
  expect(told.at(-1)).toMatchObject({
    cmd: 'pubrec',
    reasonCode: 0x97,
    reasonString: 'the stream takes no more messages',
  });

  // There is room again: what waits is stored, and what was refused was given up.
  await setPolicy({ on_refusal: null });
  const second = (async () => {
    const stillTopic = `raw/${still.options.username}`;
    for (;;) {
      const outcome = await still.publishAsync(stillTopic, 'waits', { qos: 1 }).then(
        () => 'stored',
        () => 'told',
      );
      if (outcome === 'stored') return;
    }
  })();
  const admin = await connect({ servers: nats.url });
  onTestFinished(() => admin.close());
  const { streams } = await admin.jetstreamManager();
  await streams.update('RAW', { max_msgs: 10 });
  await second;
  await other.publishAsync(otherTopic, 'is stored', { qos: 1 });
  expect(told.at(-1)?.userProperties).toMatchObject({ 'nats-stream': 'RAW', 'nats-sequence': '3' });
  expect(answers.at(-1)).toMatchObject({ cmd: 'puback', reasonCode: 0x97 });
});
