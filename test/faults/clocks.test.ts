import { connect } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket, pingreqPacket, publishPacket, type RawClient } from '../support/raw-client.js';
import { nextCommand, numbers, openSubscriber, subscribeToCommands, takeCommands } from './command-client.js';
import { addDevice, addDevices, connected, startGateway, startReplica, until } from './gateway.js';

/** A clock that is an hour ahead of that of the machine, for a process of Node.js. */
const hourAhead = `const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { given.length === 0 ? super(Date.now()) : super(...given); }
  static now() { return Real.now() + 3_600_000; }
};`;
const env = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(hourAhead)}` };

async function expectOpen(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  expect((await client.next()).type).toBe(13);
}

test('replicas whose clocks are an hour apart take connections over from each other, either way', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const ahead = await startReplica(onTestFinished, gateway, env);
  expect(Date.parse(String(ahead.log[0]?.time)) - Date.now()).toBeGreaterThan(3_000_000);
  const [device, other] = await addDevices(gateway.server.httpPort, 2);
  if (device === undefined || other === undefined) throw new Error('no devices');
  let session: RawClient | undefined;
  let clean: RawClient | undefined;
  for (const { mqttPort } of [gateway.server, ahead, gateway.server, ahead, gateway.server]) {
    const next = await openSubscriber(onTestFinished, mqttPort, device);
    expect(next.sessionPresent).toBe(session !== undefined);
    await session?.waitClosed();
    session = next.client;
    await subscribeToCommands(session, device);
    const without = await connected(onTestFinished, mqttPort, other, { clean: true });
    await clean?.waitClosed();
    clean = without;
    await expectOpen(session);
    await expectOpen(clean);
  }
});

test('a replica that stood still while its client went on elsewhere writes nothing more, whichever clock is ahead', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const ahead = await startReplica(onTestFinished, gateway, env);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const stream = observer.jetstream();
  for (const [frozen, other] of [
    [gateway.server, ahead],
    [ahead, gateway.server],
  ] as const) {
    const device = await addDevice(gateway.server.httpPort);
    const { client } = await openSubscriber(onTestFinished, frozen.mqttPort, device);
    await subscribeToCommands(client, device);
    frozen.signal('SIGSTOP');
    const next = await openSubscriber(onTestFinished, other.mqttPort, device);
    expect(next.sessionPresent).toBe(true);
    for (const payload of numbers(20)) await stream.publish(`cmd.${device.id}.go`, payload);
    expect((await takeCommands(next.client, 20)).map(({ payload }) => payload)).toEqual(numbers(20));
    frozen.signal('SIGCONT');
    await client.waitClosed();
    await expectOpen(next.client);
    next.client.send(disconnectPacket);
    await next.client.waitClosed();
    await stream.publish(`cmd.${device.id}.go`, 'next');
    const back = await openSubscriber(onTestFinished, frozen.mqttPort, device);
    expect(back.sessionPresent).toBe(true);
    // Where it is back before the end of its last connection is stored, it is sent again what it had, with DUP.
    let command = await nextCommand(back.client);
    while (command.dup) command = await nextCommand(back.client);
    expect(command.payload).toBe('next');
    await expectOpen(back.client);
  }
});

test('a message of QoS 2 that goes on at a replica with another clock is stored once', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const ahead = await startReplica(onTestFinished, gateway, env);
  const device = await addDevice(gateway.server.httpPort);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const topic = `raw/${device.id}`;
  const { client } = await openSubscriber(onTestFinished, ahead.mqttPort, device);
  client.send(publishPacket({ topic, payload: 'once', qos: 2, packetId: 7 }));
  expect((await client.next()).type).toBe(5);
  await ahead.end('SIGKILL');
  const next = await openSubscriber(onTestFinished, gateway.server.mqttPort, device);
  next.client.send(publishPacket({ topic, payload: 'once', qos: 2, packetId: 7, dup: true }));
  expect((await next.client.next()).type).toBe(5);
  next.client.send(Buffer.from([0x62, 2, 0, 7]));
  expect((await next.client.next()).type).toBe(7);
  const manager = await observer.jetstreamManager();
  await until('it is stored', async () => (await manager.streams.info('RAW')).state.messages > 0);
  expect((await manager.streams.info('RAW')).state.messages).toBe(1);
});
