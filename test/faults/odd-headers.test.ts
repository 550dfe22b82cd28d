import { once } from 'node:events';
import { connect as openSocket } from 'node:net';
import { connect, headers } from 'nats';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { fakeIo } from '../cli/support.js';
import type { Credentials } from '../support/load.js';
import { nextCommand, openSubscriber, subscribeToCommands, takeCommands } from './command-client.js';
import { addDevice, type OnFinished, publishAndWait, startGateway } from './gateway.js';

/** What nats-server passes on, and its client libraries neither write nor read. */
const oddBlock =
  'NATS/1.0\r\nMy Key: 1\r\nGröße: 2\r\n: nameless\r\nno field\r\n\u0001: control\r\nMqtt-Qos: 1\r\n\r\n';

/** Publishes with that header block, as a program does that speaks the protocol itself. */
async function openOddPublisher(onFinished: OnFinished, url: string) {
  const { hostname, port } = new URL(url);
  const socket = openSocket(Number(port), hostname);
  onFinished(() => void socket.destroy());
  await once(socket, 'connect');
  let heard = '';
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString();
  });
  socket.write('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n');
  return {
    /** @param reply where the answer is to go. */
    async publish(subject: string, payload: string, reply = ''): Promise<void> {
      const [header, body] = [Buffer.byteLength(oddBlock), Buffer.byteLength(payload)];
      heard = '';
      socket.write(
        `HPUB ${subject} ${reply} ${header} ${header + body}\r\n${oddBlock}${payload}\r\nPING\r\n`,
      );
      while (!heard.includes('PONG')) await once(socket, 'data');
      expect(heard).not.toContain('-ERR');
    },
  };
}

describe.each([
  ['stored in JetStream', {}],
  ['passed on by core NATS', { ENABLE_JETSTREAM: 'false' }],
])('headers that no client library reads, %s', (_, env) => {
  test('are no hindrance: the command reaches its device, the question its answer, and nobody waits', async ({
    onTestFinished,
  }) => {
    const { server, nats } = await startGateway(onTestFinished, { env });
    const [device, other] = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
    const odd = await openOddPublisher(onTestFinished, nats.url);
    const observer = await connect({ servers: nats.url });
    onTestFinished(() => observer.close());
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
    const { client: beside } = await openSubscriber(onTestFinished, server.mqttPort, other);
    await subscribeToCommands(client, device);
    await subscribeToCommands(beside, other);

    await odd.publish(`cmd.${device.id}.go`, 'odd');
    observer.publish(`cmd.${device.id}.go`, 'plain');
    observer.publish(`cmd.${other.id}.go`, 'of another');
    expect((await nextCommand(client)).payload).toBe('odd');
    expect((await nextCommand(client)).payload).toBe('plain');
    expect((await nextCommand(beside)).payload).toBe('of another');
    await odd.publish(`call.${device.id}.go`, 'asked', 'nobody.hears');
    expect((await nextCommand(client)).payload).toBe('asked');

    // Somebody who is no stream answers beside it.
    observer.subscribe('raw.>', {
      callback: (_error, { reply }) => void (reply && odd.publish(reply, '')),
    });
    await observer.flush();
    for (const packetId of [1, 2, 3]) await publishAndWait(beside, other, 'stored', packetId);
  });
});

test('a command with headers that no client library reads waits for a device that is away, and others for theirs', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const devices = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  const odd = await openOddPublisher(onTestFinished, nats.url);
  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  for (const device of devices) {
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
    await subscribeToCommands(client, device);
    client.destroy();
  }
  const [device] = devices as [Credentials];
  await odd.publish(`cmd.${device.id}.go`, '1');
  for (const { id } of devices)
    for (const payload of ['2', '3']) await observer.jetstream().publish(`cmd.${id}.go`, payload);
  await odd.publish(`cmd.${device.id}.go`, '4');

  const expected = [
    ['1', '2', '3', '4'],
    ['2', '3'],
  ];
  for (const [index, each] of devices.entries()) {
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, each);
    const got = await takeCommands(client, expected[index]?.length ?? 0);
    expect(got.map(({ payload }) => payload)).toEqual(expected[index]);
  }

  await odd.publish(`raw.${device.id}`, 'seen');
  const io = fakeIo({ env: { NATS_URL: nats.url } });
  await runProgram(['tail-nats', '--since', '10m', '--count', '1'], io);
  expect(io.out()).toContain('seen');
});

test("headers that are named as those of NATS are its sender's, and change nothing of what is read", async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const devices = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  const [device, other] = devices as [Credentials, Credentials];
  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  for (const each of devices) {
    const { client } = await openSubscriber(onTestFinished, server.mqttPort, each);
    await subscribeToCommands(client, each);
    client.destroy();
  }
  const copied = headers();
  copied.set('Nats-Sequence', 'x');
  copied.set('Nats-Subject', `cmd.${other.id}.go`);
  copied.set('Nats-Time-Stamp', 'never');
  for (const payload of ['1', '2', '3'])
    await observer.jetstream().publish(`cmd.${device.id}.go`, payload, { headers: copied });
  await observer.jetstream().publish(`cmd.${other.id}.go`, 'its own');

  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  const got = await takeCommands(client, 3);
  expect(got.map(({ payload, topic }) => [payload, topic])).toEqual(
    ['1', '2', '3'].map((payload) => [payload, `cmd/${device.id}/go`]),
  );
  const { client: beside } = await openSubscriber(onTestFinished, server.mqttPort, other);
  expect((await nextCommand(beside)).payload).toBe('its own');
});
