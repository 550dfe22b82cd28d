import mqtt from 'mqtt';
import { expect, test } from 'vitest';
import { addDevice, startGateway, startReplica, until } from './gateway.js';
import { startCluster } from './nats-cluster.js';

test('messages between replicas and retained ones survive the leaders of their streams', async ({
  onTestFinished,
}) => {
  const cluster = await startCluster(onTestFinished);
  const env = { ACL: 'open', NATS_URL: cluster.urls.join(',') };
  const gateway = await startGateway(onTestFinished, { env });
  const beside = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const [one, other] = await Promise.all(
    [gateway.server.mqttPort, beside.mqttPort].map(async (port, index) => {
      const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
        clientId: `c${index}`,
        username: device.id,
        password: device.password,
        reconnectPeriod: 0,
      });
      onTestFinished(() => client.endAsync(true));
      return client;
    }),
  );
  const got: string[] = [];
  const retained: string[] = [];
  other?.on('message', (topic, payload, { retain }) => (retain ? retained : got).push(`${topic} ${payload}`));
  await other?.subscribeAsync('t/#', { qos: 1 });
  for (const stream of ['SVC_MQTT_MESSAGES', 'SVC_MQTT_RETAINED'])
    expect((await cluster.read(stream)).config.num_replicas).toBe(3);

  const count = 400;
  const publishing: Promise<unknown>[] = [];
  for (let number = 0; number < count; number += 1) {
    publishing.push(one?.publishAsync(`t/${number % 3}`, String(number), { qos: 1, retain: true }) as never);
    if (number === 100) await cluster.killLeader('SVC_MQTT_MESSAGES');
    if (number === 250) await cluster.killLeader('SVC_MQTT_RETAINED');
  }
  await Promise.all(publishing);
  const expected = Array.from({ length: count }, (_, number) => `t/${number % 3} ${number}`);
  await until('all have come', () => new Set(got).size === count);
  expect(got).toEqual(expected);
  // At once, also while it does not know yet that the server it read from has died.
  await other?.unsubscribeAsync('t/#');
  retained.length = 0;
  await other?.subscribeAsync('t/#', { qos: 1 });
  await until('three are there', () => retained.length === 3);
  expect(retained.toSorted()).toEqual(expected.slice(-3).toSorted());
});
