import mqtt from 'mqtt';
import { connect as connectNats } from 'nats';
import pg from 'pg';
import { expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { fakeIo } from '../cli/support.js';
import { publishPacket } from '../support/raw-client.js';
import { startServerProcess } from '../support/server-process.js';
import { addDevice, connected, type OnFinished, publishAndWait, startGateway, until } from './gateway.js';

async function openSql(onFinished: OnFinished, url: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  onFinished(() => client.end());
  return client;
}

test('what two replicas counted of a device is what the stream has, once they have stopped', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: { MQTT_PORT: '0', LISTEN_ADDR: '127.0.0.1:0' } });
  const other = await startServerProcess(gateway.env);
  onTestFinished(async () => {
    await other.end('SIGKILL');
  });
  const device = await addDevice(gateway.server.httpPort);
  const clients = [
    await connected(onTestFinished, gateway.server.mqttPort, device, { clientId: 'a' }),
    await connected(onTestFinished, other.mqttPort, device, { clientId: 'b' }),
  ];
  for (const client of clients)
    for (let number = 1; number <= 50; number += 1) await publishAndWait(client, device, `${number}`, number);
  clients[0]?.send(publishPacket({ topic: `raw/${device.id}`, payload: 'once', qos: 0 }));
  // Outside of the policy: with 3.1.1 the connection ends.
  clients[1]?.send(publishPacket({ topic: 'raw/another', payload: 'x', qos: 1, packetId: 99 }));
  await until(
    'it is refused',
    () => clients[1]?.socket.destroyed === true || clients[1]?.socket.readableEnded === true,
  );
  await until('all are stored', async () => (await storedOf(gateway.nats.url, device.id)) >= 101);

  const shown = await fetch(`http://127.0.0.1:${gateway.server.httpPort}/devices/${device.id}`);
  // Nothing is written yet: the first minute is not over. What each replica has counted is added up, whichever is asked.
  expect(await shown.json()).toMatchObject({
    id: device.id,
    ledger: { received: 102, stored: 100, refused: 1, last_stream: 'RAW', last_address: '127.0.0.1' },
  });
  const io = fakeIo({ env: { ...gateway.env, LISTEN_ADDR: `127.0.0.1:${other.httpPort}` } });
  await runProgram(['device', 'show', device.id], io);
  expect(io.out()).toMatch(/^received +102$/m);
  expect(io.out()).toMatch(/^refused +1, last .*: publish-denied$/m);

  await Promise.all([gateway.server.end('SIGTERM'), other.end('SIGTERM')]);
  const sql = await openSql(onTestFinished, gateway.databaseUrl);
  const { rows } = await sql.query('select * from svc_mqtt.ledger where device_id = $1', [device.id]);
  expect(rows).toMatchObject([
    {
      received: '102',
      stored: '100',
      refused: '1',
      last_refused_reason: 'publish-denied',
      last_stream: 'RAW',
      last_address: '127.0.0.1',
    },
  ]);
  expect(rows[0].first_seen_at).toBeInstanceOf(Date);
  expect(Number(rows[0].last_sequence)).toBeGreaterThanOrEqual(100);

  await gateway.restart();
  const again = await connected(onTestFinished, gateway.server.mqttPort, device);
  await publishAndWait(again, device, 'again');
  const details = await fetch(`http://127.0.0.1:${gateway.server.httpPort}/devices/${device.id}`);
  // What is not written yet is counted in by the replica that knows it.
  expect(await details.json()).toMatchObject({ ledger: { received: 103, stored: 101, refused: 1 } });

  const reader = await mqtt.connectAsync({
    port: gateway.server.mqttPort,
    username: device.id,
    password: device.password,
    clientId: 'reader',
  });
  onTestFinished(() => reader.endAsync(true));
  await reader.subscribeAsync(`cmd/${device.id}/#`, { qos: 1 });
  const nats = await connectNats({ servers: gateway.nats.url });
  onTestFinished(() => nats.close());
  for (const number of [1, 2, 3]) nats.publish(`cmd.${device.id}.fan`, String(number));
  await until('all are acknowledged', async () => {
    const answer = await fetch(`http://127.0.0.1:${gateway.server.httpPort}/devices/${device.id}`);
    return ((await answer.json()) as { ledger: { delivered: number } }).ledger.delivered === 3;
  });

  await sql.query('delete from devices where id = $1', [device.id]);
  await gateway.server.end('SIGTERM');
  expect((await sql.query('select * from device_ledger')).rows).toEqual([]);
});

async function storedOf(url: string, deviceId: string): Promise<number> {
  const nats = await connectNats({ servers: url });
  try {
    const info = await (await nats.jetstreamManager()).streams.info('RAW', {
      subjects_filter: `raw.${deviceId}`,
    });
    return info.state.subjects?.[`raw.${deviceId}`] ?? 0;
  } finally {
    await nats.close();
  }
}
