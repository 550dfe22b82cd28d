import { connect } from 'nats';
import { expect, test } from 'vitest';
import { numbersByClient, type Publisher, readStored, startPublisher } from '../support/load.js';
import { createDatabase, startPostgres } from '../support/postgres.js';
import { publishPacket } from '../support/raw-client.js';
import { inCi } from '../support/rounds.js';
import {
  addDevice,
  addDevices,
  connected,
  type Gateway,
  type OnFinished,
  startGateway,
  until,
} from './gateway.js';
import { takePort } from './processes.js';

/** More than enough for what a stop does besides waiting for NATS. */
const littleMs = 20_000;

async function startLoad(gateway: Gateway, clients: number, onFinished: OnFinished): Promise<Publisher[]> {
  const devices = await addDevices(gateway.server.httpPort, clients);
  const publishers = devices.map((device) =>
    startPublisher({
      port: () => gateway.server.mqttPort,
      device,
      qos: 1,
      count: Number.POSITIVE_INFINITY,
      window: 100,
    }),
  );
  onFinished(() => {
    for (const publisher of publishers) publisher.destroy();
  });
  return publishers;
}

const total = (publishers: readonly Publisher[]) =>
  publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0);

const stopping = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

test.for(stopping.slice(0, inCi(3, 1)))(
  '%s under load: what was stored was acknowledged, what was acknowledged is stored, exit 0',
  {
    timeout: 300_000,
  },
  async (signal, { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished);
    const publishers = await startLoad(gateway, 20, onTestFinished);
    const [quiet] = await addDevices(gateway.server.httpPort, 1);
    if (quiet === undefined) throw new Error('no device');
    const will = { topic: `raw/${quiet.id}`, payload: 'will', qos: 1 };
    const quietClient = await connected(onTestFinished, gateway.server.mqttPort, quiet, { will });
    await until('the load runs', () => total(publishers) > inCi(10_000, 2_000));

    expect(await gateway.server.end(signal)).toBe(0);
    await quietClient.waitClosed();
    await until('every client has noticed', () => publishers.every(({ disconnects }) => disconnects > 0));
    expect(gateway.server.count('serve_stopped')).toBe(1);
    expect(gateway.server.count('drain_incomplete')).toBe(0);
    const stored = await readStored(gateway.nats.url);
    const numbers = numbersByClient(
      stored.filter(({ subject }) => subject !== `raw.${quiet.id}`),
      publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
    );
    for (const { clientId, acknowledged } of publishers)
      expect(numbers.get(clientId)?.firsts).toEqual([...acknowledged].sort((one, other) => one - other));
    // The server ended the connection, so the will is due [MQTT-3.1.2-8].
    expect(
      stored.filter(({ subject }) => subject === `raw.${quiet.id}`).map(({ payload }) => payload),
    ).toEqual(['will']);
    for (const port of [gateway.server.mqttPort, gateway.server.httpPort])
      await (await takePort(port)).release();
  },
);

test('SIGTERM while NATS is frozen: not ready, no further client, over at the deadline, nothing acknowledged', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const shutdownTimeoutSec = 3;
  const gateway = await startGateway(onTestFinished, {
    env: { SHUTDOWN_TIMEOUT_SEC: String(shutdownTimeoutSec) },
  });
  const { server, nats } = gateway;
  const publishers = await startLoad(gateway, 5, onTestFinished);
  await until('the load runs', () => total(publishers) > 1_000);
  await nats.pause();
  onTestFinished(() => nats.resume());
  await until('the server knows', async () => (await server.readiness()).nats === 'failed');
  const acknowledged = total(publishers);

  const startedMs = performance.now();
  server.signal('SIGTERM');
  await server.waitFor('serve_stopping');
  await until('the listeners are told to be closed', async () => {
    const { status, listeners } = await server.readiness();
    return status === 503 && listeners === 'failed';
  });
  // The port is free: nobody gets in any more.
  await (await takePort(server.mqttPort)).release();
  expect(await server.ended).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(shutdownTimeoutSec * 1_000 + littleMs);
  expect(server.count('drain_incomplete')).toBe(1);
  expect(total(publishers)).toBe(acknowledged);

  nats.resume();
  await gateway.restart();
  for (const publisher of publishers) publisher.finish();
  await Promise.all(publishers.map(({ done }) => done));
  const numbers = numbersByClient(
    await readStored(nats.url),
    publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
  );
  for (const { clientId, sent } of publishers)
    expect(numbers.get(clientId)?.firsts).toEqual(Array.from({ length: sent }, (_, number) => number));
});

test('SIGTERM while NATS is frozen and services are to be told of devices: over at the deadline, and told later', async ({
  onTestFinished,
}) => {
  const shutdownTimeoutSec = 3;
  const gateway = await startGateway(onTestFinished, {
    env: { SHUTDOWN_TIMEOUT_SEC: String(shutdownTimeoutSec), DEVICE_EVENTS: 'true' },
  });
  const { server, nats } = gateway;
  const device = await addDevice(server.httpPort);
  await connected(onTestFinished, server.mqttPort, device);
  await nats.pause();
  onTestFinished(() => nats.resume());
  const late = await addDevice(server.httpPort);
  await server.waitFor('device_events_wait');

  const startedMs = performance.now();
  expect(await server.end('SIGTERM')).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(shutdownTimeoutSec * 1_000 + littleMs);

  nats.resume();
  const listener = await connect({ servers: nats.url });
  onTestFinished(() => listener.close());
  const told = listener.subscribe(`event.device.${late.id}.provisioned`, { max: 1 });
  await listener.flush();
  await gateway.restart();
  for await (const { subject } of told) expect(subject).toBe(`event.device.${late.id}.provisioned`);
});

test('NATS comes back within the deadline of a stop: everything taken is stored and acknowledged', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const gateway = await startGateway(onTestFinished, { env: { SHUTDOWN_TIMEOUT_SEC: '60' } });
  const { server, nats } = gateway;
  const [device] = await addDevices(server.httpPort, 1);
  if (device === undefined) throw new Error('no device');
  const client = await connected(onTestFinished, server.mqttPort, device);
  await nats.halt();
  await until('the server knows', async () => (await server.readiness()).nats === 'failed');
  const messages = 300;
  for (let packetId = 1; packetId <= messages; packetId += 1)
    client.send(publishPacket({ topic: `raw/${device.id}`, payload: `${packetId}`, qos: 1, packetId }));
  client.send(Buffer.from([0xc0, 0]));
  // The answer to the PINGREQ says that everything before it was taken.
  expect((await client.next()).type).toBe(13);
  server.signal('SIGTERM');
  await server.waitFor('serve_stopping');
  await nats.restart();
  expect(await server.ended).toBe(0);
  await client.waitClosed();
  const acknowledged = client.received.slice(2).map(({ type, body }) => [type, body.readUInt16BE(0)]);
  expect(acknowledged).toEqual(Array.from({ length: messages }, (_, index) => [4, index + 1]));
  expect((await readStored(nats.url)).map(({ payload }) => Number(payload))).toEqual(
    Array.from({ length: messages }, (_, index) => index + 1),
  );
});

const twice = [
  ['SIGTERM', 'SIGINT', 130],
  ['SIGTERM', 'SIGTERM', 143],
  ['SIGINT', 'SIGTERM', 143],
] as const;

test.for(twice.slice(0, inCi(3, 1)))(
  'a second signal ends a stop that waits: %s, then %s',
  async ([first, second, status], { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished, { env: { SHUTDOWN_TIMEOUT_SEC: '600' } });
    const { server, nats } = gateway;
    const publishers = await startLoad(gateway, 2, onTestFinished);
    await until('the load runs', () => total(publishers) > 100);
    await nats.halt();
    await until('the server knows', async () => (await server.readiness()).nats === 'failed');
    server.signal(first);
    await server.waitFor('serve_stopping');
    server.signal(second);
    expect(await server.ended).toBe(status);
    expect(server.count('serve_stopped')).toBe(0);
  },
);

test('SIGTERM while PostgreSQL is gone and a client does not read: over soon, exit 0', async ({
  onTestFinished,
}) => {
  const postgres = await startPostgres();
  onTestFinished(() => postgres.stop());
  const gateway = await startGateway(onTestFinished, { databaseUrl: await createDatabase(postgres.url) });
  const { server } = gateway;
  const [device] = await addDevices(server.httpPort, 1);
  if (device === undefined) throw new Error('no device');
  const client = await connected(onTestFinished, server.mqttPort, device);
  client.socket.pause();
  postgres.pause();
  onTestFinished(() => postgres.resume());
  await until('the server knows', async () => (await server.readiness()).database === 'failed');
  const startedMs = performance.now();
  expect(await server.end('SIGTERM')).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(15_000 + littleMs);
});
