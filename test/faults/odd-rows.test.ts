import { connect } from 'nats';
import pg from 'pg';
import { expect, test } from 'vitest';
import {
  addDevice,
  connected,
  type OnFinished,
  publishAndWait,
  startGateway,
  tryConnect,
  until,
} from './gateway.js';

async function openSql(onFinished: OnFinished, connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  onFinished(() => client.end());
  return client;
}

test('times that only PostgreSQL knows are as late, or as early, as can be', async ({ onTestFinished }) => {
  const { server, databaseUrl } = await startGateway(onTestFinished);
  const sql = await openSql(onTestFinished, databaseUrl);
  const times = { infinity: 0, '-infinity': 5, '0044-03-15 BC': 5, '12024-01-01': 0 };
  for (const [time, code] of Object.entries(times)) {
    const device = await addDevice(server.httpPort);
    await sql.query('update devices set expires_at = $1 where id = $2', [time, device.id]);
    await until(time, async () => (await tryConnect(server.mqttPort, device)) === code);
    const answer = await fetch(`http://127.0.0.1:${server.httpPort}/devices/${device.id}`);
    const { expires_at: expiry } = (await answer.json()) as { expires_at: string };
    expect([time, answer.status, expiry > new Date().toISOString()]).toEqual([time, 200, code === 0]);
  }
  const page = await fetch(`http://127.0.0.1:${server.httpPort}/devices`);
  expect(page.status).toBe(200);
});

test('a policy with what is no text allows the rest, and ends no replica, also at its start', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const sql = await openSql(onTestFinished, gateway.databaseUrl);
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(onTestFinished, gateway.server.mqttPort, device);
  await sql.query(
    `insert into policies (device_type, publish, subscribe)
     select type, array['raw/{id}', null], array[['a', 'b']] from devices where id = $1`,
    [device.id],
  );
  await until('the policy is known', () =>
    gateway.server.stderr.some((line) => line.includes('policy_unsound')),
  );
  client.destroy();
  const again = await connected(onTestFinished, gateway.server.mqttPort, device);
  await publishAndWait(again, device, 'stored');
  await gateway.server.end('SIGTERM');
  await gateway.restart();
  const last = await connected(onTestFinished, gateway.server.mqttPort, device);
  await publishAndWait(last, device, 'stored');
});

test('a question whose fault cannot be a header is answered, and ends no replica', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device);
  const service = await connect({ servers: nats.url });
  onTestFinished(() => service.close());
  let subjects: string[] = [];
  await until('a replica is offered', async () => {
    for await (const { endpoints } of await service.services.client().info('svc-mqtt'))
      subjects = (endpoints ?? []).map(({ subject }) => subject);
    return subjects.length > 0;
  });
  for (const subject of subjects) {
    const answer = await service.request(subject, '{"a\\nb":1}', { timeout: 5_000 });
    expect([subject, answer.headers?.get('Nats-Service-Error-Code')]).toEqual([subject, '400']);
  }
  await publishAndWait(client, device, 'stored');
});
