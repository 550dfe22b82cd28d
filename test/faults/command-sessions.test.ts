import { connect, type NatsConnection } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket } from '../support/raw-client.js';
import {
  nextCommand,
  numbers,
  openSubscriber,
  type ReceivedCommand,
  subscribeToCommands,
  takeCommands,
} from './command-client.js';
import { addDevice, type Gateway, type OnFinished, startGateway, startReplica } from './gateway.js';

const all = 1_000;

async function publish(gateway: Gateway, deviceId: string, payloads: readonly string[]): Promise<void> {
  const observer: NatsConnection = await connect({ servers: gateway.nats.url });
  const stream = observer.jetstream();
  await Promise.all(payloads.map((payload) => stream.publish(`cmd.${deviceId}.go`, payload)));
  await observer.close();
}

async function openTwo(onFinished: OnFinished) {
  const gateway = await startGateway(onFinished);
  const other = await startReplica(onFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const { client } = await openSubscriber(onFinished, gateway.server.mqttPort, device);
  await subscribeToCommands(client, device);
  return { gateway, other, device, client };
}

test('all gateways are killed while a session is away: it gets its 1,000 commands on another replica, in order', async ({
  onTestFinished,
}) => {
  const { gateway, other, device, client } = await openTwo(onTestFinished);
  client.send(disconnectPacket);
  await client.waitClosed();
  await publish(gateway, device.id, numbers(all));
  await Promise.all([gateway.server.end('SIGKILL'), other.end('SIGKILL')]);
  const [, started] = await Promise.all([gateway.restart(), startReplica(onTestFinished, gateway)]);
  const back = await openSubscriber(onTestFinished, started.mqttPort, device);
  expect(back.sessionPresent).toBe(true);
  const taken = await takeCommands(back.client, all);
  expect(taken.map(({ payload }) => payload)).toEqual(numbers(all));
  expect(taken.filter(({ dup }) => dup)).toEqual([]);
});

test('NATS is killed while a session is away: it gets its 1,000 commands on another replica, in order', async ({
  onTestFinished,
}) => {
  const { gateway, other, device, client } = await openTwo(onTestFinished);
  client.send(disconnectPacket);
  await client.waitClosed();
  await publish(gateway, device.id, numbers(all / 2));
  await gateway.nats.kill();
  await gateway.nats.restart();
  await publish(gateway, device.id, numbers(all / 2, all / 2 + 1));
  await other.waitFor('nats_connected', () => other.count('nats_connected') === 2);
  const back = await openSubscriber(onTestFinished, other.mqttPort, device);
  expect(back.sessionPresent).toBe(true);
  const taken = await takeCommands(back.client, all);
  expect(taken.map(({ payload }) => payload)).toEqual(numbers(all));
  expect(taken.filter(({ dup }) => dup)).toEqual([]);
});

test('its replica is killed in the middle of delivery: a session gets every command, doubles with DUP and under the same identifier only', async ({
  onTestFinished,
}) => {
  const { gateway, other, device, client } = await openTwo(onTestFinished);
  client.send(disconnectPacket);
  await client.waitClosed();
  await publish(gateway, device.id, numbers(all));
  const seen = new Map<string, ReceivedCommand>();
  const ports = [gateway.server.mqttPort, other.mqttPort];
  const kill = [() => gateway.server.end('SIGKILL'), () => other.end('SIGKILL')];
  let order = 0;
  for (const [round, port] of [...ports, 0].entries()) {
    if (port === 0) await gateway.restart();
    const { client: again, sessionPresent } = await openSubscriber(
      onTestFinished,
      port === 0 ? gateway.server.mqttPort : port,
      device,
    );
    expect(sessionPresent).toBe(true);
    while (round === 2 ? seen.size < all : seen.size < 300 * (round + 1)) {
      const command = await nextCommand(again, { acknowledge: round === 2 || seen.size % 7 !== 0 });
      const before = seen.get(command.payload);
      if (before === undefined) {
        order += 1;
        expect(command.payload).toBe(String(order));
      } else {
        expect([command.dup, command.packetId]).toEqual([true, before.packetId]);
      }
      seen.set(command.payload, command);
    }
    await kill[round]?.();
    again.destroy();
    // The other one has taken down that the first is dead: what it may have sent is known all the same.
    if (round === 0) await other.waitFor('sessions_parted');
  }
  expect(seen.size).toBe(all);
});
