import { expect, test } from 'vitest';
import { readStored } from '../support/load.js';
import { publishPacket } from '../support/raw-client.js';
import { addDevice, connected, startGateway, startReplica, until } from './gateway.js';
import { connectMqttJs } from './mqtt-js.js';

test.for(['goes on', 'is stopped'])(
  'a client at its bound dies while NATS is away: its will is stored, behind its messages, when NATS is back (the server %s)',
  async (what, { onTestFinished }) => {
    const { server, nats } = await startGateway(onTestFinished, { env: { MAX_IN_FLIGHT_PER_CLIENT: '5' } });
    const device = await addDevice(server.httpPort);
    const topic = `raw/${device.id}`;
    const metric = async (name: string) => {
      const text = await (await fetch(`http://127.0.0.1:${server.httpPort}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
    };
    await nats.halt();
    await until('the server knows', async () => (await server.readiness()).nats === 'failed');
    const client = await connected(onTestFinished, server.mqttPort, device, {
      will: { topic, payload: 'will', qos: 1 },
    });
    const payloads = ['1', '2', '3', '4', '5'];
    client.send(
      ...payloads.map((payload, index) => publishPacket({ topic, payload, qos: 1, packetId: index + 1 })),
    );
    await until('all are taken', async () => (await metric('svc_mqtt_in_flight_messages')) === 5);
    client.destroy();
    await until('the will waits', async () => (await metric('svc_mqtt_waiting_wills')) === 1);

    const ending = what === 'is stopped' ? server.end('SIGTERM') : undefined;
    if (ending !== undefined) await until('it stops', () => server.count('serve_stopping') === 1);
    await nats.restart();
    expect(await ending).toBe(ending && 0);
    await until('all are stored', async () => (await readStored(nats.url).catch(() => [])).length === 6);
    expect((await readStored(nats.url)).map(({ payload }) => payload)).toEqual([...payloads, 'will']);
    expect(server.count('drain_incomplete')).toBe(0);
  },
);

test('the delayed will of a client that goes on with its session on another replica is not published when the first one stops', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const other = await startReplica(onTestFinished, gateway);
  const devices = [
    await addDevice(gateway.server.httpPort),
    await addDevice(gateway.server.httpPort),
  ] as const;
  const open = (port: number, device: (typeof devices)[0]) =>
    connectMqttJs(onTestFinished, port, device, {
      clean: false,
      clientId: 'mover',
      properties: { sessionExpiryInterval: 300 },
      will: {
        topic: `raw/${device.id}`,
        payload: Buffer.from(`will of ${device.id}`),
        qos: 1,
        retain: false,
        properties: { willDelayInterval: 60 },
      },
    });
  const clients = await Promise.all(devices.map((device) => open(gateway.server.mqttPort, device)));
  const closed = clients.map(
    (client) => new Promise<void>((resolve) => client.once('close', () => resolve())),
  );
  const ending = gateway.server.end('SIGTERM');
  await Promise.all(closed);
  await open(other.mqttPort, devices[0]);
  expect(await ending).toBe(0);
  const stored = await readStored(gateway.nats.url);
  expect(stored.map(({ payload }) => payload)).toEqual([`will of ${devices[1].id}`]);
});
