import mqtt from 'mqtt';
import { connect, headers, type StreamConfig } from 'nats';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { disconnectPacket, packet, type RawClient, subscribePacket, uint16 } from '../support/raw-client.js';
import {
  nextCommand,
  numbers,
  openSubscriber,
  type ReceivedCommand,
  takeCommands,
} from './command-client.js';
import { addDevices, type Gateway, type OnFinished, startGateway, startReplica, until } from './gateway.js';

/** Messages between devices for sessions that are away, over the life of replicas, with real processes and a real NATS. */

const env = { ACL: 'open' };
const all = 500;

async function openTwo(onFinished: OnFinished) {
  const gateway = await startGateway(onFinished, { env });
  const other = await startReplica(onFinished, gateway);
  const [subscriber, sender] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  return { gateway, other, subscriber, sender };
}

async function publisher(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
): Promise<mqtt.MqttClient> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
    protocolVersion: 5,
    username: device.id,
    password: device.password,
    clientId: 'publisher',
    reconnectPeriod: 0,
  });
  client.on('error', () => {});
  onFinished(() => client.endAsync(true));
  return client;
}

async function subscribe(client: RawClient, filters: [string, number][]): Promise<void> {
  client.send(subscribePacket(1, filters));
  const { type, body } = await client.next();
  expect([type, ...body.subarray(2)]).toEqual([9, ...filters.map(([, qos]) => qos)]);
}

async function leave(client: RawClient): Promise<void> {
  client.send(disconnectPacket);
  await client.waitClosed();
}

const send = (client: mqtt.MqttClient, topic: string, payloads: readonly string[], qos: 0 | 1 | 2 = 1) =>
  Promise.all(payloads.map((payload) => client.publishAsync(topic, payload, { qos })));

async function configure({ nats }: Gateway, change: Partial<StreamConfig>): Promise<void> {
  const observer = await connect({ servers: nats.url });
  await (await observer.jetstreamManager()).streams.update('SVC_MQTT_MESSAGES', change);
  await observer.close();
}

async function countStored({ nats }: Gateway): Promise<number> {
  const observer = await connect({ servers: nats.url });
  const { state } = await (await observer.jetstreamManager()).streams.info('SVC_MQTT_MESSAGES');
  await observer.close();
  return state.messages;
}

test('all gateways are killed while a session is away: it gets its 500 messages of another device on the other replica, in order', async ({
  onTestFinished,
}) => {
  const { gateway, other, subscriber, sender } = await openTwo(onTestFinished);
  const { client } = await openSubscriber(onTestFinished, other.mqttPort, subscriber);
  await subscribe(client, [['chat/#', 1]]);
  await leave(client);
  const from = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  await send(from, 'chat/a', numbers(all - 50));
  await Promise.all([gateway.server.end('SIGKILL'), other.end('SIGKILL')]);
  const [, started] = await Promise.all([gateway.restart(), startReplica(onTestFinished, gateway)]);
  // Nobody who saw it subscribe lives: what it wants is known all the same.
  const again = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  await send(again, 'chat/b', numbers(50, all - 49));
  const back = await openSubscriber(onTestFinished, started.mqttPort, subscriber);
  expect(back.sessionPresent).toBe(true);
  const taken = await takeCommands(back.client, all);
  expect(taken.map(({ payload }) => payload)).toEqual(numbers(all));
  expect(taken.filter(({ dup }) => dup)).toEqual([]);
  await send(again, 'chat/a', ['live']);
  expect((await nextCommand(back.client)).payload).toBe('live');
});

test('its replica is killed in the middle of delivery: a session gets every message, doubles with DUP and under the same identifier only', async ({
  onTestFinished,
}) => {
  const { gateway, other, subscriber, sender } = await openTwo(onTestFinished);
  const { client } = await openSubscriber(onTestFinished, other.mqttPort, subscriber);
  await subscribe(client, [['chat/+', 1]]);
  await leave(client);
  const third = await startReplica(onTestFinished, gateway);
  const from = await publisher(onTestFinished, third.mqttPort, sender);
  await send(from, 'chat/a', numbers(all));
  const seen = new Map<string, ReceivedCommand>();
  let order = 0;
  for (const [round, replica] of [gateway.server, other, third].entries()) {
    const { client: again, sessionPresent } = await openSubscriber(
      onTestFinished,
      replica.mqttPort,
      subscriber,
    );
    expect(sessionPresent).toBe(true);
    while (round === 2 ? seen.size < all : seen.size < 150 * (round + 1)) {
      const message = await nextCommand(again, { acknowledge: round === 2 || seen.size % 7 !== 0 });
      const before = seen.get(message.payload);
      if (before === undefined) {
        order += 1;
        expect(message.payload).toBe(String(order));
      } else {
        expect([message.dup, message.packetId]).toEqual([true, before.packetId]);
      }
      seen.set(message.payload, message);
    }
    if (round < 2) await replica.end('SIGKILL');
    again.destroy();
  }
  expect(seen.size).toBe(all);
});

test('with QoS 2 each message comes to a session once, though replicas die between PUBREC and PUBCOMP', async ({
  onTestFinished,
}) => {
  const { gateway, other, subscriber, sender } = await openTwo(onTestFinished);
  const { client } = await openSubscriber(onTestFinished, other.mqttPort, subscriber);
  await subscribe(client, [['chat/#', 2]]);
  await leave(client);
  const from = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  await send(from, 'chat/a', numbers(60), 2);
  /** As a client keeps it: what it has received and not released, by packet identifier [MQTT 5.0 §4.3.3, method B]. */
  const held = new Set<number>();
  const got: string[] = [];
  const replicas = [other, gateway.server];
  const nextReplica = async (round: number) =>
    replicas[round] ?? (await startReplica(onTestFinished, gateway));
  for (let round = 0; got.length < 60 || held.size > 0; round += 1) {
    const replica = await nextReplica(round);
    const back = await openSubscriber(onTestFinished, replica.mqttPort, subscriber);
    expect(back.sessionPresent).toBe(true);
    for (let steps = 0; (steps < 90 || round >= 3) && (got.length < 60 || held.size > 0); steps += 1) {
      const { type, flags, body } = await back.client.next();
      if (type === 3) {
        const topicEnd = 2 + body.readUInt16BE(0);
        const packetId = body.readUInt16BE(topicEnd);
        expect((flags >> 1) & 3).toBe(2);
        if (!held.has(packetId)) got.push(body.subarray(topicEnd + 2).toString());
        held.add(packetId);
        back.client.send(packet(0x50, uint16(packetId)));
      } else {
        expect(type).toBe(6);
        held.delete(body.readUInt16BE(0));
        // Some are not completed before the replica dies.
        if (steps % 3 !== 0 || round >= 3) back.client.send(packet(0x70, body.subarray(0, 2)));
      }
    }
    if (round < 3) await replica.end('SIGKILL');
    back.client.destroy();
  }
  expect(got).toEqual(numbers(60));
});

test('nothing is stored that no session wants, whatever others have subscribed to here', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env });
  const [subscriber, sender] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const from = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  const { client: clean } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber, {
    clean: true,
    clientId: 'clean',
  });
  await subscribe(clean, [['chat/#', 1]]);
  const { client: plain } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber);
  await subscribe(plain, [[`cmd/${subscriber.id}/#`, 1]]);
  await leave(plain);
  // After a start everything counts as wanted for a moment.
  await until('it is known what is wanted', async () => {
    const before = await countStored(gateway);
    await send(from, 'chat/a', ['x']);
    await nextCommand(clean);
    return (await countStored(gateway)) === before;
  });
  const before = await countStored(gateway);
  await send(from, 'chat/a', numbers(20));
  expect((await takeCommands(clean, 20)).map(({ payload }) => payload)).toEqual(numbers(20));
  expect(await countStored(gateway)).toBe(before);

  // A session that comes and goes: stored while it is there to want them, connected or away, and QoS 0 never.
  const { client } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber);
  await subscribe(client, [['chat/#', 1]]);
  await send(from, 'chat/a', numbers(5));
  expect((await takeCommands(client, 5)).map(({ payload }) => payload)).toEqual(numbers(5));
  await leave(client);
  await send(from, 'chat/a', numbers(5, 6));
  await send(from, 'chat/a', ['zero'], 0);
  await send(from, 'other/a', ['other']);
  expect(await countStored(gateway)).toBe(before + 10);
  expect((await takeCommands(clean, 11)).map(({ payload }) => payload)).toContain('zero');
  const back = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber);
  expect((await takeCommands(back.client, 5)).map(({ payload }) => payload)).toEqual(numbers(5, 6));
  await leave(back.client);
  const { client: ended } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber, {
    clean: true,
  });
  await leave(ended);
  await until('the end of the session is known', async () => {
    const stored = await countStored(gateway);
    await send(from, 'chat/a', ['x']);
    return (await countStored(gateway)) === stored;
  });
});

test('a device that is revoked while its session is away gets nothing of what waited; nor does one whose policy changed', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { httpPort, mqttPort } = gateway.server;
  const put = (subscribe: string[]) =>
    fetch(`http://127.0.0.1:${httpPort}/policies/sensor`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ publish: ['chat/#'], subscribe }),
    });
  expect((await put(['chat/#', 'other/#'])).status).toBe(200);
  const devices = (await addDevices(httpPort, 3)) as [Credentials, Credentials, Credentials];
  const [revoked, changed, sender] = devices;
  for (const device of [revoked, changed]) {
    const { client } = await openSubscriber(onTestFinished, mqttPort, device);
    await subscribe(client, [['chat/#', 1]]);
    await leave(client);
  }
  const from = await publisher(onTestFinished, mqttPort, sender);
  await send(from, 'chat/a', numbers(10));
  await gateway.server.end('SIGTERM');
  await gateway.restart();
  await fetch(`http://127.0.0.1:${httpPort}/devices/${revoked.id}`, { method: 'DELETE' });
  await until('its session is removed', () => gateway.server.count('sessions_removed') === 1);
  await fetch(`http://127.0.0.1:${httpPort}/devices/${revoked.id}/enable`, { method: 'POST' });
  await until('it may connect again', async () => {
    const { client, sessionPresent } = await openSubscriber(
      onTestFinished,
      gateway.server.mqttPort,
      revoked,
    ).catch(() => ({ client: undefined, sessionPresent: true }));
    client?.destroy();
    return !sessionPresent;
  });
  expect((await put(['other/#'])).status).toBe(200);
  await until('the policy is there', () => gateway.server.count('policies_applied') > 0);
  const back = await openSubscriber(onTestFinished, gateway.server.mqttPort, changed);
  expect(back.sessionPresent).toBe(false);
  await subscribe(back.client, [['other/#', 1]]);
  back.client.send(packet(0xc0, Buffer.alloc(0)));
  expect((await back.client.next()).type).toBe(13);
});

/** A NATS user with no more rights than docs/services.md gives for messages between devices, sessions and commands. */
function userWith(publish: readonly string[]) {
  const stream = (name: string) => [`$JS.API.STREAM.CREATE.${name}`, `$JS.API.CONSUMER.CREATE.${name}.>`];
  const all = [
    ...[
      'raw.>',
      'svc-mqtt.>',
      '$JS.API.STREAM.LIST',
      '$JS.API.STREAM.INFO.*',
      '$JS.API.STREAM.CREATE.RAW',
      '$JS.FC.>',
    ],
    ...['svc-mqtt-sessions', 'svc-mqtt-replicas'].flatMap((name) => [
      `$KV.${name}.>`,
      ...stream(`KV_${name}`),
      `$JS.API.DIRECT.GET.KV_${name}.>`,
      `$JS.API.STREAM.MSG.GET.KV_${name}`,
    ]),
    ...[...stream('SVC_MQTT_RETAINED'), ...stream('SVC_MQTT_MESSAGES'), ...publish],
  ];
  return {
    nats: {
      configExtra: `authorization { users = [ { user: gateway, password: gateway, permissions: {
        publish: { allow: ${JSON.stringify(all)} },
        subscribe: { allow: ["_INBOX.>", "svc-mqtt.>", "cmd.>", "call.>"] } } } ] }`,
    },
    env: { ...env, NATS_USER: 'gateway', NATS_PASSWORD: 'gateway' },
  };
}

test('with the rights that docs/services.md gives messages wait for sessions; without one of them that is said', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(
    onTestFinished,
    userWith(['$JS.API.DIRECT.GET.SVC_MQTT_MESSAGES', '$JS.API.STREAM.MSG.GET.SVC_MQTT_MESSAGES']),
  );
  const [subscriber, sender] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const { client } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber);
  await subscribe(client, [['chat/#', 1]]);
  await leave(client);
  const from = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  await send(from, 'chat/a', numbers(10));
  const restarted = await startReplica(onTestFinished, gateway);
  const back = await openSubscriber(onTestFinished, restarted.mqttPort, subscriber);
  expect((await takeCommands(back.client, 10)).map(({ payload }) => payload)).toEqual(numbers(10));

  const less = await startGateway(onTestFinished, userWith([]));
  await until('it is said', () =>
    less.server.log.some(
      ({ event, stream }) => event === 'state_stream_unusable' && stream === 'SVC_MQTT_MESSAGES',
    ),
  );
  const [here, other] = (await addDevices(less.server.httpPort, 2)) as [Credentials, Credentials];
  const { client: near } = await openSubscriber(onTestFinished, less.server.mqttPort, here);
  await subscribe(near, [['chat/#', 1]]);
  await send(await publisher(onTestFinished, less.server.mqttPort, other), 'chat/a', ['live']);
  expect((await nextCommand(near)).payload).toBe('live');
});

test('a session that is served before the stream of messages is found goes on where it stood when it is, with what was in flight', async ({
  onTestFinished,
}) => {
  const { gateway, subscriber, sender } = await openTwo(onTestFinished);
  const { mqttPort } = gateway.server;
  const { client } = await openSubscriber(onTestFinished, mqttPort, subscriber);
  await subscribe(client, [['chat/#', 2]]);
  const { client: second } = await openSubscriber(onTestFinished, mqttPort, subscriber, {
    clientId: 'second',
  });
  await subscribe(second, [['more/#', 1]]);
  await leave(second);
  const from = await publisher(onTestFinished, mqttPort, sender);
  await send(from, 'chat/a', numbers(3));
  expect((await takeCommands(client, 3)).map(({ payload }) => payload)).toEqual(numbers(3));
  await send(from, 'chat/a', ['unacknowledged']);
  const unacknowledged = await nextCommand(client, { acknowledge: false });
  await send(from, 'chat/a', ['received'], 2);
  const received = await nextCommand(client);
  client.send(packet(0x50, uint16(received.packetId)));
  expect(await client.next()).toMatchObject({ type: 6, body: uint16(received.packetId) });
  await leave(client);
  await send(from, 'more/a', ['before it subscribed']);

  await configure(gateway, { allow_direct: false });
  const late = await startReplica(onTestFinished, gateway);
  await late.waitFor('state_stream_unusable', ({ stream }) => stream === 'SVC_MQTT_MESSAGES');
  const back = await openSubscriber(onTestFinished, late.mqttPort, subscriber);
  expect(back.sessionPresent).toBe(true);
  await subscribe(back.client, [['more/#', 1]]);
  await send(from, 'chat/a', ['meanwhile']);
  await configure(gateway, { allow_direct: true });
  expect(await back.client.next()).toMatchObject({ type: 6, body: uint16(received.packetId) });
  back.client.send(packet(0x70, uint16(received.packetId)));
  expect(await nextCommand(back.client)).toEqual({ ...unacknowledged, dup: true });
  expect(await nextCommand(back.client)).toMatchObject({ payload: 'meanwhile', dup: false });
  await send(from, 'more/a', ['live']);
  expect(await nextCommand(back.client)).toMatchObject({ payload: 'live', dup: false });
});

test('the stream of messages is deleted and made anew while a session is connected: what is stored in it comes once, in order', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env });
  const [subscriber, sender] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
  const { client } = await openSubscriber(onTestFinished, gateway.server.mqttPort, subscriber);
  await subscribe(client, [['chat/#', 1]]);
  const from = await publisher(onTestFinished, gateway.server.mqttPort, sender);
  await send(from, 'chat/a', numbers(3));
  await takeCommands(client, 3);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  const { config } = await streams.info('SVC_MQTT_MESSAGES');
  await streams.delete('SVC_MQTT_MESSAGES');
  await streams.add(config);
  const stored = headers();
  stored.set('Mqtt-Qos', '1');
  for (const payload of numbers(10, 11))
    await observer.jetstream().publish('svc-mqtt.message.chat.a', payload, { headers: stored });
  const taken = await takeCommands(client, 10);
  expect(taken.map(({ payload }) => payload)).toEqual(numbers(10, 11));
  await send(from, 'chat/a', ['live']);
  expect((await nextCommand(client)).payload).toBe('live');
});
