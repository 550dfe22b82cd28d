import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addDevice, connected, startGateway, until } from '../faults/gateway.js';
import { publishPacket } from '../support/raw-client.js';
import { type Found, findSamples, type Sample, startSample } from './sample.js';

const inCi = process.env.CI === 'true';
let found: Found;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'svc-mqtt-examples-'));
  found = await findSamples(dir);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test.for(['device-node', 'device-python', 'consumer-node', 'consumer-python', 'consumer-go'])(
  '%s can be run here',
  (name, { skip }) => {
    const problem = found.problems.get(name);
    if (problem !== undefined && !inCi) skip(`this machine lacks what it needs: ${problem}`);
    expect(problem).toBeUndefined();
  },
);

/** The ids of the messages that a sample tells of. */
const idsIn = (sample: Sample, pattern: RegExp): string[] =>
  sample.lines.flatMap((line) => pattern.exec(line)?.[1] ?? []);
const stored = (device: Sample) => idsIn(device, /^stored (\S+)$/);
const taken = (consumer: Sample) => idsIn(consumer, /^\S+ (\S+) (?:\S+ °C|fan \w+)$/);

test('devices and consumers work together, and nothing stored is missed when gateway and consumers are killed', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const startConsumers = () =>
    found.consumers.map((command) =>
      startSample(onTestFinished, command, {
        NATS_URL: gateway.nats.url,
        READINGS: join(dir, 'readings.db'),
      }),
    );
  const first = startConsumers();
  const devices = await Promise.all(
    found.devices.map(async (command) => {
      const { id, password } = await addDevice(gateway.server.httpPort);
      const sample = startSample(onTestFinished, command, {
        MQTT_URL: `mqtt://127.0.0.1:${gateway.server.mqttPort}`,
        DEVICE_ID: id,
        DEVICE_PASSWORD: password,
        INTERVAL_SEC: '0.2',
      });
      return { id, sample };
    }),
  );

  // There and back: a reading, the command that follows from it, and the device's answer.
  for (const { id, sample } of devices) {
    await sample.prints(/^fan on$/);
    for (const consumer of first) await consumer.prints(new RegExp(`^${id} \\S+ fan on$`));
  }

  await gateway.server.end('SIGKILL');
  await gateway.restart();
  for (const { sample } of devices) {
    const before = stored(sample).length;
    await until('the device is back', () => stored(sample).length > before + 3);
  }

  await Promise.all(first.map((consumer) => consumer.end('SIGKILL')));
  for (const { sample } of devices) {
    const before = stored(sample).length;
    await until('more is stored', () => stored(sample).length > before + 3);
  }
  const second = startConsumers();

  const probe = await addDevice(gateway.server.httpPort);
  const client = await connected(onTestFinished, gateway.server.mqttPort, probe);
  const twice = '{"id":"probe-1","celsius":27}';
  const unreadable = [
    'no JSON',
    '{}',
    'null',
    '{"id":"\\ud800","celsius":31}',
    '{"id":"a\\nb","celsius":31}',
    '['.repeat(50_000),
    `{"id":"deep","celsius":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
    '{"id":"x"}',
    '{"id":"x","celsius":{"toString":null}}',
    '{"id":"x","celsius":"31"}',
    '{"id":"x","celsius":1e400}',
    `{"id":"x","celsius":${'9'.repeat(4_000)}}`,
    '{"id":["x"],"celsius":31}',
  ];
  for (const [index, payload] of [twice, twice, ...unreadable].entries()) {
    client.send(
      publishPacket({ topic: `raw/${probe.id}/temperature`, payload, qos: 1, packetId: index + 1 }),
    );
    await client.next();
  }
  for (const consumer of second) {
    await consumer.prints(/ probe-1 27(\.0)? °C$/);
    await consumer.prints(/ probe-1 again$/);
    // One that a slow machine has not looked at within 30 s is delivered again, and is unreadable again.
    await until(
      'the others are unreadable',
      () =>
        consumer.lines.filter((line) => line.startsWith(`${probe.id} unreadable: `)).length >=
        unreadable.length,
    );
  }

  // What a killed consumer had been given and had not acknowledged comes again after 30 s.
  for (const { sample } of devices) {
    expect(await sample.end('SIGINT')).toBe(0);
    for (const [index, consumer] of second.entries()) {
      const seen = () => new Set([first[index] as Sample, consumer].flatMap(taken));
      await until('everything stored was taken', () => stored(sample).every((id) => seen().has(id)));
    }
  }
  expect(await Promise.all(second.map((consumer) => consumer.end('SIGINT')))).toEqual(second.map(() => 0));
});
