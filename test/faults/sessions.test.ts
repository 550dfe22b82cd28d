import { setTimeout as delay } from 'node:timers/promises';
import { connect, headers } from 'nats';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import {
  disconnectPacket,
  pingreqPacket,
  publishPacket,
  type RawClient,
  subscribePacket,
  unsubscribePacket,
} from '../support/raw-client.js';
import { Id, property } from '../support/raw-mqtt5.js';
import {
  addDevice,
  addDevices,
  connectDevice,
  connected,
  type Gateway,
  type OnFinished,
  startGateway,
  startReplica,
  until,
} from './gateway.js';

/** Sessions over the life of the replica that has the connection, with real processes and a real NATS. */

const suback = 9;
const publish = 3;
const pingresp = 13;

async function nextOf(client: RawClient, type: number): Promise<Buffer> {
  const packet = await client.next();
  expect(packet.type).toBe(type);
  return packet.body;
}

async function ping(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  await nextOf(client, pingresp);
}

async function openNats(onFinished: OnFinished, { nats }: Gateway) {
  const connection = await connect({ servers: nats.url });
  onFinished(() => connection.close());
  return connection;
}

test('subscriptions outlive the death of every replica, and are there on another one', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const other = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const nats = await openNats(onTestFinished, gateway);
  const first = await connected(onTestFinished, gateway.server.mqttPort, device, { clean: false });
  first.send(
    subscribePacket(1, [[`cmd/${device.id}/a`, 1]]),
    subscribePacket(2, [[`cmd/${device.id}/b/#`, 0]]),
  );
  expect([...(await nextOf(first, suback))]).toEqual([0, 1, 1]);
  expect([...(await nextOf(first, suback))]).toEqual([0, 2, 0]);
  first.send(subscribePacket(3, [[`cmd/${device.id}/c`, 1]]));
  await nextOf(first, suback);
  first.send(unsubscribePacket(4, [`cmd/${device.id}/c`]));
  await nextOf(first, 11);

  await Promise.all([gateway.server.end('SIGKILL'), other.end('SIGKILL')]);
  const third = await startReplica(onTestFinished, gateway);
  const back = await connectDevice(third.mqttPort, device, { clean: false });
  onTestFinished(() => back.client.destroy());
  expect([back.code, back.sessionPresent]).toEqual([0, true]);
  for (const [name, qos] of [
    ['a', 1],
    ['b/x', 0],
  ] as const) {
    nats.publish(`cmd.${device.id}.${name.replace('/', '.')}`, name);
    await nats.flush();
    const packet = await back.client.next();
    expect([packet.type, (packet.flags >> 1) & 3]).toEqual([publish, qos]);
    expect(packet.body.toString()).toContain(name);
  }
  nats.publish(`cmd.${device.id}.c`, 'c');
  await nats.flush();
  await ping(back.client);

  // An orderly stop keeps them as well.
  await third.end('SIGTERM');
  const fourth = await startReplica(onTestFinished, gateway);
  const again = await connectDevice(fourth.mqttPort, device, { clean: false });
  onTestFinished(() => again.client.destroy());
  expect([again.code, again.sessionPresent]).toEqual([0, true]);
});

test('a client goes on with its session on another replica, and back; a clean start ends it everywhere', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const replicas = [gateway.server, await startReplica(onTestFinished, gateway)] as const;
  const device = await addDevice(gateway.server.httpPort);
  const nats = await openNats(onTestFinished, gateway);
  const first = await connected(onTestFinished, replicas[0].mqttPort, device, { clean: false });
  first.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
  await nextOf(first, suback);
  let last = first;
  for (let round = 0; round < 10; round += 1) {
    const { client, code, sessionPresent } = await connectDevice(
      (replicas[round % 2 === 0 ? 1 : 0] as (typeof replicas)[0]).mqttPort,
      device,
      { clean: false },
    );
    onTestFinished(() => client.destroy());
    expect([code, sessionPresent], `round ${round}`).toEqual([0, true]);
    await last.waitClosed();
    last = client;
    if (round % 3 === 2) {
      client.send(disconnectPacket);
      await client.waitClosed();
    } else {
      nats.publish(`cmd.${device.id}.n`, `round ${round}`);
      await nats.flush();
      // Behind those that were not acknowledged on the other replica.
      while (!(await nextOf(client, publish)).toString().includes(`round ${round}`));
    }
  }
  const clean = await connectDevice(replicas[0].mqttPort, device, { clean: true });
  expect([clean.code, clean.sessionPresent]).toEqual([0, false]);
  clean.client.send(disconnectPacket);
  await clean.client.waitClosed();
  for (const { mqttPort } of replicas) {
    const { code, sessionPresent, client } = await connectDevice(mqttPort, device, { clean: false });
    expect([code, sessionPresent]).toEqual([0, mqttPort === replicas[1].mqttPort]);
    client.destroy();
  }
});

test('what MQTT 5 says of a session and its subscriptions is kept, and the session expires when it says', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: { ACL: 'open' } });
  const other = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const options = (seconds: number) => ({
    level: 5,
    clean: false,
    properties: property(Id.sessionExpiry, seconds),
  });
  const first = await connected(onTestFinished, gateway.server.mqttPort, device, options(3_600));
  first.send(subscribePacket(1, [['t/+', 2 | 4 | 8]], property(Id.subscriptionId, 77)));
  await nextOf(first, suback);
  await gateway.server.end('SIGKILL');
  const { client, sessionPresent } = await connectDevice(other.mqttPort, device, options(1));
  expect(sessionPresent).toBe(true);
  // No Local: its own message does not come; another's does, with the identifier and as published.
  client.send(publishPacket({ topic: 't/own', payload: 'own', properties: Buffer.alloc(0) }));
  await ping(client);
  const { client: sender } = await connectDevice(other.mqttPort, await addDevice(other.httpPort), {});
  onTestFinished(() => sender.destroy());
  sender.send(publishPacket({ topic: 't/other', payload: 'other', retain: true }));
  const packet = await client.next();
  expect([packet.type, packet.flags & 1]).toEqual([publish, 1]);
  expect(packet.body.includes(property(Id.subscriptionId, 77))).toBe(true);
  client.destroy();
  await until('it has expired', async () => {
    const nats = await connect({ servers: gateway.nats.url });
    const manager = await nats.jetstreamManager();
    const { state } = await manager.streams.info('KV_svc-mqtt-sessions', { subjects_filter: '>' });
    const message = await manager.streams
      .getMessage('KV_svc-mqtt-sessions', { last_by_subj: Object.keys(state.subjects ?? {})[0] ?? 'none' })
      .catch(() => undefined);
    await nats.close();
    return message === undefined || message.header.get('Nats-Marker-Reason') === 'MaxAge';
  });
  const late = await connectDevice(other.mqttPort, device, options(1));
  expect([late.code, late.sessionPresent]).toEqual([0, false]);
  late.client.destroy();
});

/** The sessions that the bucket has: not those of which only a mark is left. */
async function countSessions(nats: Awaited<ReturnType<typeof openNats>>): Promise<number> {
  const manager = await nats.jetstreamManager();
  const { state } = await manager.streams.info('KV_svc-mqtt-sessions', { subjects_filter: '>' });
  let count = 0;
  for (const subject of Object.keys(state.subjects ?? {})) {
    const { header } = await manager.streams.getMessage('KV_svc-mqtt-sessions', { last_by_subj: subject });
    if (header.get('KV-Operation') === '' && header.get('Nats-Marker-Reason') === '') count += 1;
  }
  return count;
}

test('the session of a client whose replica died expires, unless it comes back before', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const other = await startReplica(onTestFinished, gateway);
  const nats = await openNats(onTestFinished, gateway);
  const options = (seconds: number, clientId: string) => ({
    level: 5,
    clean: false,
    clientId,
    properties: property(Id.sessionExpiry, seconds),
  });
  const device = await addDevice(gateway.server.httpPort);
  for (const [seconds, id] of [
    [1, 'short'],
    [3_600, 'long'],
  ] as const)
    await connected(onTestFinished, gateway.server.mqttPort, device, options(seconds, id));
  await connected(onTestFinished, other.mqttPort, device, options(1, 'connected'));
  expect(await countSessions(nats)).toBe(3);
  await gateway.server.end('SIGKILL');
  await until('the short one has expired', async () => (await countSessions(nats)) === 2);
  expect(other.count('sessions_parted')).toBeGreaterThan(0);
  const long = await connectDevice(other.mqttPort, device, options(1, 'long'));
  onTestFinished(() => long.client.destroy());
  expect(long.sessionPresent).toBe(true);
  await ping(long.client);
});

test('a device that is revoked has no session when it is enabled again, whether a replica runs meanwhile or none', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const nats = await openNats(onTestFinished, gateway);
  const { server } = gateway;
  const [running, stopped] = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  for (const device of [running, stopped]) {
    const client = await connected(onTestFinished, server.mqttPort, device, { clean: false });
    client.send(disconnectPacket);
    await client.waitClosed();
  }
  // So that it is in the memory of none.
  await server.end('SIGTERM');
  await gateway.restart();
  expect(await countSessions(nats)).toBe(2);
  const port = gateway.server.httpPort;
  await fetch(`http://127.0.0.1:${port}/devices/${running.id}`, { method: 'DELETE' });
  await until('its session is removed', async () => (await countSessions(nats)) === 1);
  await gateway.server.end('SIGTERM');
  const database = new pg.Client({ connectionString: gateway.databaseUrl });
  await database.connect();
  await database.query('update devices set revoked_at = now() where id = $1', [stopped.id]);
  await database.end();
  await gateway.restart();
  await until('its session is removed', async () => (await countSessions(nats)) === 0);
});

test('a device has no more than MAX_CLIENTS_PER_DEVICE sessions: those away longest make room', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: { MAX_CLIENTS_PER_DEVICE: '3' } });
  const nats = await openNats(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const leave = async (clientId: string, port: number) => {
    const { client, sessionPresent } = await connectDevice(port, device, { clean: false, clientId });
    client.send(disconnectPacket);
    await client.waitClosed();
    return sessionPresent;
  };
  for (const id of ['1', '2', '3']) await leave(id, gateway.server.mqttPort);
  await gateway.server.end('SIGTERM');
  const other = await startReplica(onTestFinished, gateway);
  await leave('4', other.mqttPort);
  expect(await countSessions(nats)).toBe(3);
  expect(await leave('2', other.mqttPort)).toBe(true);
  expect(await leave('1', other.mqttPort)).toBe(false);
  expect(await countSessions(nats)).toBe(3);
});

test('with the rights that docs/services.md gives sessions are stored', async ({ onTestFinished }) => {
  const names = ['svc-mqtt-sessions', 'svc-mqtt-replicas'];
  const publish = [
    'raw.>',
    '$JS.API.STREAM.LIST',
    '$JS.API.STREAM.INFO.*',
    '$JS.API.STREAM.CREATE.RAW',
    'svc-mqtt.>',
    '$JS.FC.>',
    ...names.flatMap((name) => [
      `$KV.${name}.>`,
      `$JS.API.STREAM.CREATE.KV_${name}`,
      `$JS.API.CONSUMER.CREATE.KV_${name}.>`,
      `$JS.API.DIRECT.GET.KV_${name}.>`,
      `$JS.API.STREAM.MSG.GET.KV_${name}`,
    ]),
  ];
  const gateway = await startGateway(onTestFinished, {
    nats: {
      configExtra: `authorization { users = [ { user: gateway, password: gateway, permissions: {
        publish: { allow: ${JSON.stringify(publish)} },
        subscribe: { allow: ["_INBOX.>", "svc-mqtt.taken", "cmd.>", "call.>"] } } } ] }`,
    },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway' },
  });
  const { server } = gateway;
  const device = await addDevice(server.httpPort);
  const first = await connected(onTestFinished, server.mqttPort, device, { clean: false });
  first.send(subscribePacket(1, [[`raw/${device.id}/x`, 1]]));
  await nextOf(first, suback);
  await server.end('SIGKILL');
  const other = await startReplica(onTestFinished, gateway);
  const back = await connectDevice(other.mqttPort, device, { clean: false });
  onTestFinished(() => back.client.destroy());
  expect([back.code, back.sessionPresent]).toEqual([0, true]);
  const unusable = [...server.log, ...other.log].filter(
    ({ event, stream }) => event === 'state_stream_unusable' && String(stream).startsWith('KV_'),
  );
  expect(unusable).toEqual([]);
});

describe('while NATS is away', () => {
  test('a client whose session this replica has goes on with it, another one is told to come back; SUBACK waits', async ({
    onTestFinished,
  }) => {
    const gateway = await startGateway(onTestFinished, { env: { CONNECT_TIMEOUT_SEC: '3' } });
    const { server, nats } = gateway;
    const device = await addDevice(server.httpPort);
    const stranger = await addDevice(server.httpPort);
    const client = await connected(onTestFinished, server.mqttPort, device, { clean: false });
    client.send(subscribePacket(1, [[`cmd/${device.id}/a`, 1]]));
    await nextOf(client, suback);
    await nats.halt();
    await until('the server knows', async () => (await server.readiness()).nats === 'failed');
    const back = await connectDevice(server.mqttPort, device, { clean: false });
    onTestFinished(() => back.client.destroy());
    expect([back.code, back.sessionPresent]).toEqual([0, true]);
    expect((await connectDevice(server.mqttPort, stranger, { clean: false })).code).toBe(3);
    expect((await connectDevice(server.mqttPort, stranger, { clean: true })).code).toBe(0);
    // That there was no such subscription is said of the session, too, which another replica may have by now.
    back.client.send(unsubscribePacket(2, [`cmd/${device.id}/b`]));
    back.client.send(unsubscribePacket(3, [`cmd/${device.id}/a`]));
    await ping(back.client);
    await ping(back.client);
    await nats.restart();
    await nextOf(back.client, 11);
    await nextOf(back.client, 11);
    expect((await connectDevice(server.mqttPort, stranger, { clean: false })).code).toBe(0);
  });
});

test('a record that cannot be read keeps its own client out, and nobody else; a clean start takes its place', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { server } = gateway;
  const nats = await openNats(onTestFinished, gateway);
  const device = await addDevice(server.httpPort);
  const other = await addDevice(server.httpPort);
  const fields = headers();
  fields.set('Svc-Mqtt-Epoch', '3');
  await nats.request(`$KV.svc-mqtt-sessions.${device.id}.c`, '{"v":99}', { headers: fields, timeout: 5_000 });
  expect((await connectDevice(server.mqttPort, device, { clean: false })).code).toBe(3);
  expect(server.log.find(({ event }) => event === 'session_unreadable')).toMatchObject({
    session: `${device.id}.c`,
    reason: expect.stringContaining('version 99'),
  });
  expect((await connectDevice(server.mqttPort, other, { clean: false })).code).toBe(0);
  const clean = await connectDevice(server.mqttPort, device, { clean: true });
  expect([clean.code, clean.sessionPresent]).toEqual([0, false]);
  clean.client.send(disconnectPacket);
  await clean.client.waitClosed();
  expect((await connectDevice(server.mqttPort, device, { clean: false })).code).toBe(0);
});

test('a bucket that is deleted is made again, with the sessions of those who are connected', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { server } = gateway;
  const nats = await openNats(onTestFinished, gateway);
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device, { clean: false });
  client.send(subscribePacket(1, [[`cmd/${device.id}/a`, 1]]));
  await nextOf(client, suback);
  const manager = await nats.jetstreamManager();
  await manager.streams.delete('KV_svc-mqtt-sessions');
  await until('it is written anew', async () => {
    const info = await manager.streams.info('KV_svc-mqtt-sessions').catch(() => undefined);
    return info?.state.messages === 1;
  });
  await ping(client);
  await server.end('SIGKILL');
  const other = await startReplica(onTestFinished, gateway);
  const back = await connectDevice(other.mqttPort, device, { clean: false });
  onTestFinished(() => back.client.destroy());
  expect([back.code, back.sessionPresent]).toEqual([0, true]);
});

test('without the right to the bucket sessions are in memory, and that is said', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, {
    nats: {
      configExtra: `authorization { users = [ { user: gateway, password: gateway, permissions: {
        publish: { deny: ["$JS.API.STREAM.CREATE.KV_svc-mqtt-sessions"] } } } ] }`,
    },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway' },
  });
  const { server } = gateway;
  expect(server.log.find(({ event }) => event === 'state_stream_unusable')).toMatchObject({
    stream: 'KV_svc-mqtt-sessions',
    reason: expect.stringContaining('STREAM.CREATE.KV_svc-mqtt-sessions'),
  });
  const ready = await fetch(`http://127.0.0.1:${server.httpPort}/readyz`);
  expect(await ready.text()).toContain('sessions are in memory: ');
  const device = await addDevice(server.httpPort);
  const first = await connected(onTestFinished, server.mqttPort, device, { clean: false });
  first.send(subscribePacket(1, [[`cmd/${device.id}/a`, 1]]));
  await nextOf(first, suback);
  const back = await connectDevice(server.mqttPort, device, { clean: false });
  onTestFinished(() => back.client.destroy());
  expect([back.code, back.sessionPresent]).toEqual([0, true]);
});

test('clients whose sessions are on their way while the server is held up for seconds are not refused', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: { CONNECT_TIMEOUT_SEC: '120' } });
  const { nats } = gateway;
  const devices = await addDevices(gateway.server.httpPort, 20);
  for (const device of devices) {
    const client = await connected(onTestFinished, gateway.server.mqttPort, device, { clean: false });
    client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
    await nextOf(client, suback);
  }
  await gateway.server.end('SIGKILL');
  const server = await startReplica(onTestFinished, gateway);

  // NATS is asked for the sessions, and does not answer before the server stands still.
  await nats.pause();
  const coming = devices.map((device) => connectDevice(server.mqttPort, device, { clean: false }));
  await until('the server has read what they sent', async () => {
    const stats = await fetch(`http://127.0.0.1:${server.httpPort}/metrics`);
    return /^svc_mqtt_connections\{transport="tcp"\} 20$/m.test(await stats.text());
  });
  server.signal('SIGSTOP');
  nats.resume();
  await delay(7_000);
  server.signal('SIGCONT');

  const back = await Promise.all(coming);
  for (const { client } of back) onTestFinished(() => client.destroy());
  expect(back.map(({ code, sessionPresent }) => [code, sessionPresent])).toEqual(
    devices.map(() => [0, true]),
  );
});
