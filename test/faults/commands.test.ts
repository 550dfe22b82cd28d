import { connect, type NatsConnection } from 'nats';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import {
  disconnectPacket,
  packet,
  pingreqPacket,
  type RawClient,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../support/raw-client.js';
import { nextCommand, numbers, openSubscriber, subscribeToCommands, takeCommands } from './command-client.js';
import { addDevice, addDevices, connected, type OnFinished, startGateway, until } from './gateway.js';

async function observe(onFinished: OnFinished, url: string): Promise<NatsConnection> {
  const observer = await connect({ servers: url });
  onFinished(() => observer.close());
  return observer;
}

/** Publishes numbered commands and waits until they are stored. */
async function sendCommands(
  observer: NatsConnection,
  device: Credentials,
  payloads: readonly string[],
): Promise<void> {
  const stream = observer.jetstream();
  await Promise.all(payloads.map((payload) => stream.publish(`cmd.${device.id}.go`, payload)));
}

/** Requires that nothing but the answer to a PINGREQ comes. */
async function expectQuiet(client: RawClient): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    client.send(pingreqPacket);
    expect((await client.next()).type).toBe(13);
  }
}

const payloadsOf = (commands: readonly { payload: string }[]) => commands.map(({ payload }) => payload);

test('a session that is away gets every command stored meanwhile, in order, also when NATS was killed', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const other = await addDevice(server.httpPort);
  const first = await observe(onTestFinished, nats.url);
  await sendCommands(first, device, ['before']);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  await sendCommands(first, device, ['here']);
  expect(await nextCommand(client)).toMatchObject({
    payload: 'here',
    topic: `cmd/${device.id}/go`,
    dup: false,
  });
  await expectQuiet(client);
  client.destroy();

  await sendCommands(first, device, numbers(400));
  await sendCommands(first, other, numbers(50));
  await nats.kill();
  await nats.restart();
  const second = await observe(onTestFinished, nats.url);
  await sendCommands(second, device, numbers(600, 401));

  const back = await openSubscriber(onTestFinished, server.mqttPort, device);
  expect(back.sessionPresent).toBe(true);
  const got = await takeCommands(back.client, 1_000);
  expect(payloadsOf(got)).toEqual(numbers(1_000));
  expect(got.some(({ dup }) => dup)).toBe(false);
  await expectQuiet(back.client);
  await sendCommands(second, device, ['last']);
  expect((await nextCommand(back.client)).payload).toBe('last');
});

test('a connected client gets what is stored while NATS is away from the gateway, once', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  const expected: string[] = [];
  for (let round = 0; round < 3; round += 1) {
    const payloads = numbers(100, 1 + 100 * round);
    const observer = await observe(onTestFinished, nats.url);
    await sendCommands(observer, device, payloads);
    expected.push(...payloads);
    await nats.kill();
    await nats.restart();
  }
  expect(payloadsOf(await takeCommands(client, 300))).toEqual(expected);
  await expectQuiet(client);
});

test('without a session a client gets the commands from its SUBACK on while it is connected', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const observer = await observe(onTestFinished, nats.url);
  for (const qos of [0, 1]) {
    await sendCommands(observer, device, ['lost']);
    const client = await connected(onTestFinished, server.mqttPort, device);
    await subscribeToCommands(client, device, qos);
    await sendCommands(observer, device, ['got']);
    const got = await nextCommand(client);
    expect([got.payload, got.packetId > 0]).toEqual(['got', qos === 1]);
    await expectQuiet(client);
    client.destroy();
  }
});

test('a client gets commands as soon as it has subscribed to them, whatever it had subscribed to before', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const observer = await observe(onTestFinished, nats.url);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  client.send(subscribePacket(1, [[`raw/${device.id}/x`, 1]]));
  expect((await client.next()).type).toBe(9);
  await subscribeToCommands(client, device);
  await sendCommands(observer, device, ['first']);
  expect((await nextCommand(client)).payload).toBe('first');
  client.send(unsubscribePacket(2, [`cmd/${device.id}/#`]));
  expect((await client.next()).type).toBe(11);
  await sendCommands(observer, device, ['meanwhile']);
  await subscribeToCommands(client, device);
  await sendCommands(observer, device, ['again']);
  expect((await nextCommand(client)).payload).toBe('again');
});

test('a client that acknowledges nothing has 128 under way, holds nobody up, and is sent them again with DUP and the same identifiers', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished, { env: { MAX_OUTGOING_BYTES: '65536' } });
  const [device, other] = await addDevices(server.httpPort, 2);
  if (device === undefined || other === undefined) throw new Error('no device');
  const observer = await observe(onTestFinished, nats.url);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  const busy = await connected(onTestFinished, server.mqttPort, other);
  await subscribeToCommands(busy, other);
  const padding = '.'.repeat(1_000);
  const payloads = numbers(400).map((number) => number + padding);
  await Promise.all([sendCommands(observer, device, payloads), sendCommands(observer, other, payloads)]);
  expect(payloadsOf(await takeCommands(busy, 400))).toEqual(payloads);

  const held = [];
  while (held.length < 128) held.push(await nextCommand(client, { acknowledge: false }));
  expect(payloadsOf(held)).toEqual(payloads.slice(0, 128));
  await expectQuiet(client);
  // The first ten are acknowledged, and ten others come.
  for (const { packetId } of held.slice(0, 10)) client.send(packet(0x40, uint16(packetId)));
  const next = [];
  while (next.length < 10) next.push(await nextCommand(client, { acknowledge: false }));
  expect(payloadsOf(next)).toEqual(payloads.slice(128, 138));
  client.destroy();

  const back = await openSubscriber(onTestFinished, server.mqttPort, device);
  const again = await takeCommands(back.client, 390);
  expect(payloadsOf(again)).toEqual(payloads.slice(10));
  expect(again.slice(0, 128).map(({ packetId }) => packetId)).toEqual(
    [...held.slice(10), ...next].map(({ packetId }) => packetId),
  );
  expect(again.map(({ dup }) => dup)).toEqual([
    ...Array.from({ length: 128 }, () => true),
    ...Array.from({ length: 262 }, () => false),
  ]);
  await expectQuiet(back.client);
});

test('each session of a device gets each command once, at its own QoS, and only what its filters match', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished, { env: { ACL: 'open' } });
  const [device, watcher] = await addDevices(server.httpPort, 2);
  if (device === undefined || watcher === undefined) throw new Error('no device');
  const observer = await observe(onTestFinished, nats.url);
  const open = async (clientId: string, filters: [string, number][]) => {
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, device, { clientId });
    client.send(subscribePacket(1, filters));
    await client.next();
    return client;
  };
  const all = await open('all', [
    ['#', 0],
    [`cmd/${device.id}/#`, 1],
    [`cmd/${device.id}/b`, 1],
  ]);
  const some = await open('some', [[`cmd/${device.id}/b`, 1]]);
  const shared = [
    await open('s1', [[`$share/g/cmd/${device.id}/#`, 1]]),
    await open('s2', [[`$share/g/cmd/${device.id}/#`, 1]]),
  ];
  const foreign = await connected(onTestFinished, server.mqttPort, watcher);
  foreign.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
  await foreign.next();

  for (const payload of numbers(20)) {
    observer.publish(`cmd.${device.id}.${Number(payload) % 2 === 0 ? 'b' : 'a'}`, payload);
  }
  expect(payloadsOf(await takeCommands(all, 20))).toEqual(numbers(20));
  expect(payloadsOf(await takeCommands(foreign, 20))).toEqual(numbers(20));
  expect(payloadsOf(await takeCommands(some, 10))).toEqual(
    numbers(20).filter((number) => Number(number) % 2 === 0),
  );
  await until('the group has all', () => shared.flatMap(({ received }) => received).length === 22 + 2);
  for (const client of [all, some, foreign]) await expectQuiet(client);
});

test('a command that expires while its device is away is not delivered', async ({ onTestFinished }) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const observer = await observe(onTestFinished, nats.url);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  // What is sent to a client, also one that is gone by then, is sent again however old it is.
  client.send(disconnectPacket);
  await client.waitClosed();
  const { headers } = await import('nats');
  const brief = headers();
  brief.set('Mqtt-Message-Expiry', '1');
  await observer.jetstream().publish(`cmd.${device.id}.go`, 'brief', { headers: brief });
  await sendCommands(observer, device, ['lasting']);
  const atMs = Date.now();
  await until('it has expired', () => Date.now() > atMs + 1_500);
  const back = await openSubscriber(onTestFinished, server.mqttPort, device);
  expect((await nextCommand(back.client)).payload).toBe('lasting');
});

test('commands older than are known in memory are looked up', async ({ onTestFinished }) => {
  const { server, nats } = await startGateway(onTestFinished, { env: { MAX_INDEXED_COMMANDS: '20' } });
  const [device, other] = await addDevices(server.httpPort, 2);
  if (device === undefined || other === undefined) throw new Error('no device');
  const observer = await observe(onTestFinished, nats.url);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  client.destroy();
  const lookedUp = async () => {
    const text = await (await fetch(`http://127.0.0.1:${server.httpPort}/metrics`)).text();
    return Number(/^svc_mqtt_commands_looked_up_total (\d+)$/m.exec(text)?.[1]);
  };
  // Not those of others: a session that was up to date when its client left needs none of them.
  const { client: early } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await sendCommands(observer, other, numbers(50));
  await expectQuiet(early);
  early.destroy();
  await expectQuiet((await openSubscriber(onTestFinished, server.mqttPort, device)).client);
  expect(await lookedUp()).toBe(0);
  await sendCommands(observer, other, numbers(15));
  const { client: late } = await openSubscriber(onTestFinished, server.mqttPort, device);
  late.destroy();
  await sendCommands(observer, device, numbers(150));
  await sendCommands(observer, other, numbers(15));
  await sendCommands(observer, device, numbers(10, 151));
  const back = await openSubscriber(onTestFinished, server.mqttPort, device);
  expect(payloadsOf(await takeCommands(back.client, 160))).toEqual(numbers(160));
  expect(await lookedUp()).toBeGreaterThan(0);
  await sendCommands(observer, device, ['live']);
  expect((await nextCommand(back.client)).payload).toBe('live');
  await expectQuiet(back.client);
});

test('a stream that svc-mqtt made is made again, and sessions go on with it', async ({ onTestFinished }) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const observer = await observe(onTestFinished, nats.url);
  const manager = await observer.jetstreamManager();
  expect((await manager.streams.info('CMD')).config).toMatchObject({
    subjects: ['cmd.>'],
    retention: 'limits',
    discard: 'old',
    storage: 'file',
    max_age: 7 * 86_400 * 1e9,
    max_bytes: 1_073_741_824,
    allow_direct: true,
    metadata: { 'svc-mqtt.made': 'true' },
  });
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  const { client: absent } = await openSubscriber(onTestFinished, server.mqttPort, device, {
    clientId: 'absent',
  });
  await subscribeToCommands(absent, device);
  await sendCommands(observer, device, numbers(5));
  expect(payloadsOf(await takeCommands(client, 5))).toEqual(numbers(5));
  expect(payloadsOf(await takeCommands(absent, 5))).toEqual(numbers(5));
  absent.destroy();
  await manager.streams.delete('CMD');
  await server.waitFor('stream_made_again');
  await sendCommands(observer, device, numbers(3, 6));
  expect(payloadsOf(await takeCommands(client, 3))).toEqual(numbers(3, 6));
  const back = await openSubscriber(onTestFinished, server.mqttPort, device, { clientId: 'absent' });
  expect(payloadsOf(await takeCommands(back.client, 3))).toEqual(numbers(3, 6));
});

test("the user's own stream is used as it is; one that cannot be used leaves core NATS, which is said", async ({
  onTestFinished,
}) => {
  for (const [config, problem] of [
    [{ name: 'MINE', subjects: ['cmd.*.>', 'x.>'], allow_direct: false }, undefined],
    [{ name: 'QUEUE', subjects: ['cmd.>'], retention: 'workqueue' }, 'retention workqueue'],
    [{ name: 'PART', subjects: ['cmd.pump.>'] }, 'PART (cmd.pump.>) takes only a part'],
  ] as const) {
    const gateway = await startGateway(onTestFinished, {
      async beforeServer(url) {
        const observer = await connect({ servers: url });
        const manager = await observer.jetstreamManager();
        await manager.streams.add(config as never);
        await observer.close();
      },
    });
    const { server, nats } = gateway;
    const device = await addDevice(server.httpPort);
    const observer = await observe(onTestFinished, nats.url);
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
    await subscribeToCommands(client, device);
    observer.publish(`cmd.${device.id}.go`, 'now');
    expect((await nextCommand(client)).payload).toBe('now');
    const detail = (await (await fetch(`http://127.0.0.1:${server.httpPort}/readyz`)).text()) as string;
    if (problem === undefined) {
      client.destroy();
      await sendCommands(observer, device, numbers(50));
      const back = await openSubscriber(onTestFinished, server.mqttPort, device);
      expect(payloadsOf(await takeCommands(back.client, 50))).toEqual(numbers(50));
      expect(server.log.find(({ event }) => event === 'command_stream_warning')?.msg).toContain(
        'allow_direct',
      );
      expect(detail).not.toContain('not stored');
    } else {
      expect((await server.waitFor('commands_not_stored')).reason).toContain(problem);
      expect(server.count('commands_not_stored')).toBe(1);
      expect(detail).toContain('commands are not stored');
    }
    const manager = await observer.jetstreamManager();
    const names: string[] = [];
    for await (const { config: each } of manager.streams.list()) names.push(each.name);
    expect(names.filter((name) => name === 'CMD' || name === config.name)).toEqual([config.name]);
  }
});
