import { connect, headers } from 'nats';
import { beforeAll, describe, expect, test } from 'vitest';
import type { CommandJson, CommandProgressJson } from '../../src/api/command.js';
import { runProgram } from '../../src/cli/program.js';
import { fakeIo } from '../cli/support.js';
import type { Credentials } from '../support/load.js';
import { disconnectPacket, packet, type RawClient, subscribePacket, uint16 } from '../support/raw-client.js';
import { acknowledgePacket, Id, property, readPublish5 } from '../support/raw-mqtt5.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { nextCommand, openSubscriber, subscribeToCommands } from './command-client.js';
import { addDevice, connected, type Gateway, startGateway, startReplica, until } from './gateway.js';

/** Two replicas on one NATS and one database: a command is followed from either of them. */

const later = undoAfterAll();
let gateway: Gateway;
let other: ServerProcess;

beforeAll(async () => {
  gateway = await startGateway(later);
  other = await startReplica(later, gateway);
  const { id } = await addDevice(gateway.server.httpPort);
  const { sequence } = await send(id, {});
  for (const server of [gateway.server, other])
    await until(
      'it sees the other one',
      async () => (await progress(id, sequence, server)).replicas.length === 2,
    );
});

async function call(path: string, { httpPort }: { httpPort: number } = gateway.server, body?: object) {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

async function send(id: string, request: object, server: { httpPort: number } = gateway.server) {
  const answer = await call(`/devices/${id}/commands`, server, { topic: 'fan', payload: 'on', ...request });
  expect(answer.status, JSON.stringify(answer.body)).toBe(200);
  const { stored } = answer.body as unknown as CommandJson;
  if (stored === null) throw new Error('it is not stored');
  return stored;
}

async function progress(
  id: string,
  sequence: number,
  server: { httpPort: number } = gateway.server,
): Promise<CommandProgressJson> {
  const { status, body } = await call(`/devices/${id}/commands/${sequence}`, server);
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as CommandProgressJson;
}

/** Both replicas come to say the same of it. */
async function untilBoth(id: string, sequence: number, wanted: object): Promise<void> {
  for (const server of [gateway.server, other])
    await expect.poll(() => progress(id, sequence, server), { timeout: 60_000 }).toMatchObject(wanted);
}

async function subscriber(
  device: Credentials,
  server: { mqttPort: number },
  options: { clientId?: string; clean?: boolean; qos?: number; known?: boolean } = {},
): Promise<RawClient> {
  const { client } = await openSubscriber(later, server.mqttPort, device, options);
  if (options.known !== true) await subscribeToCommands(client, device, options.qos);
  return client;
}

async function leave(client: RawClient): Promise<void> {
  client.send(disconnectPacket);
  await client.waitClosed();
}

test('a command for a client that sleeps is queued, sent and acknowledged, whichever replica is asked', async () => {
  const device = await addDevice(gateway.server.httpPort);
  await leave(await subscriber(device, gateway.server, { clientId: 'main' }));
  const { stream, sequence } = await send(device.id, {}, other);
  await untilBoth(device.id, sequence, {
    device: device.id,
    stream,
    sequence,
    topic: `cmd/${device.id}/fan`,
    bytes: 2,
    qos: 1,
    expires_at: null,
    state: 'queued',
    sessions: [{ client: 'main', state: 'queued', connected: false, qos: 1 }],
  });
  const client = await subscriber(device, gateway.server, { clientId: 'main', known: true });
  const { packetId } = await nextCommand(client, { acknowledge: false });
  await untilBoth(device.id, sequence, {
    state: 'sent',
    sessions: [{ client: 'main', state: 'sent', connected: true, replica: expect.any(String) }],
  });
  client.send(packet(0x40, uint16(packetId)));
  await untilBoth(device.id, sequence, { state: 'acknowledged' });
  await leave(client);
  await untilBoth(device.id, sequence, {
    state: 'acknowledged',
    sessions: [{ client: 'main', state: 'acknowledged', connected: false }],
  });
});

test('a command whose time is over is expired, before and after its client has come', async () => {
  const device = await addDevice(gateway.server.httpPort);
  await leave(await subscriber(device, gateway.server));
  const first = await send(device.id, { expires_in_seconds: 1 });
  const last = await send(device.id, { expires_in_seconds: 1 });
  const kept = await send(device.id, {});
  for (const { sequence } of [first, last]) await untilBoth(device.id, sequence, { state: 'expired' });
  const client = await subscriber(device, other, { known: true });
  await nextCommand(client);
  const check = async () => {
    for (const { sequence } of [first, last]) await untilBoth(device.id, sequence, { state: 'expired' });
    await untilBoth(device.id, kept.sequence, { state: 'acknowledged' });
  };
  await check();
  // So says the record, too.
  await leave(client);
  await check();
});

test('each client has its own state, and the device that of the furthest one', async () => {
  const device = await addDevice(gateway.server.httpPort);
  await leave(await subscriber(device, gateway.server, { clientId: 'away' }));
  const plain = await subscriber(device, gateway.server, { clientId: 'plain', qos: 0 });
  const { sequence } = await send(device.id, {});
  await nextCommand(plain);
  const sessions = [
    { client: 'away', state: 'queued', qos: 1, connected: false },
    { client: 'plain', state: 'sent', qos: 0, connected: true },
  ];
  await untilBoth(device.id, sequence, { state: 'sent', sessions });
  const clean = await subscriber(device, other, { clientId: 'clean', clean: true });
  const next = await send(device.id, {});
  await nextCommand(clean);
  await untilBoth(device.id, next.sequence, {
    state: 'acknowledged',
    sessions: [sessions[0], { client: 'clean', state: 'acknowledged' }, sessions[1]],
  });
  // What was stored before it subscribed is not for it.
  await untilBoth(device.id, sequence, { sessions });
  await leave(clean);
  await untilBoth(device.id, next.sequence, { state: 'sent', sessions });
});

test('a command that the client refuses is refused, also when it is away', async () => {
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(later, gateway.server.mqttPort, device, {
    level: 5,
    properties: property(Id.sessionExpiry, 3_600),
  });
  client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]], Buffer.alloc(0)));
  expect((await client.next()).type).toBe(9);
  const { sequence } = await send(device.id, {});
  const { packetId } = readPublish5(await client.next());
  client.send(acknowledgePacket(4, packetId ?? 0, 0x83));
  await untilBoth(device.id, sequence, { state: 'refused' });
  await leave(client);
  await untilBoth(device.id, sequence, { state: 'refused', sessions: [{ connected: false }] });
});

test('a command that no session takes is unclaimed, unless a replica does not answer', async () => {
  const device = await addDevice(gateway.server.httpPort);
  const { sequence } = await send(device.id, {});
  await untilBoth(device.id, sequence, { state: 'unclaimed', sessions: [] });
  process.kill(other.pid, 'SIGSTOP');
  try {
    const found = await progress(device.id, sequence);
    expect(found).toMatchObject({ state: 'unknown', replicas: [{ ok: true }, { ok: false }] });
  } finally {
    process.kill(other.pid, 'SIGCONT');
  }
  await untilBoth(device.id, sequence, { state: 'unclaimed', replicas: [{ ok: true }, { ok: true }] });
});

test('what is no command of the device has a code', async () => {
  const [one, two] = [await addDevice(gateway.server.httpPort), await addDevice(gateway.server.httpPort)];
  const { stream, sequence } = await send(one.id, {});
  const nats = await connect({ servers: gateway.nats.url });
  later(() => nats.close());
  const gone = await send(one.id, {});
  await (await nats.jetstreamManager()).streams.deleteMessage(stream, gone.sequence);
  for (const [path, status, code] of [
    [`/devices/${two.id}/commands/${sequence}`, 404, 'COMMAND_NOT_FOUND'],
    [`/devices/${one.id}/commands/999999`, 404, 'COMMAND_NOT_FOUND'],
    [`/devices/${one.id}/commands/${gone.sequence}`, 410, 'COMMAND_GONE'],
    [`/devices/nobody/commands/${sequence}`, 404, 'DEVICE_NOT_FOUND'],
    [`/devices/%00/commands/${sequence}`, 404, 'DEVICE_NOT_FOUND'],
    [`/devices/${one.id}/commands/0`, 400, 'INPUT_INVALID'],
    [`/devices/${one.id}/commands/x`, 400, 'INPUT_INVALID'],
  ] as const)
    await expect
      .poll(async () => {
        const { status: got, body } = await call(path, other);
        return [path, got, body.code];
      })
      .toEqual([path, status, code]);
});

describe('the QoS of a command', () => {
  test('is that of the subscription, and no more than the sender says', async () => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await subscriber(device, gateway.server);
    const nats = await connect({ servers: gateway.nats.url });
    later(() => nats.close());
    const publish = async (name: string, value: string) => {
      const lines = headers();
      lines.set(name, value);
      await nats.jetstream().publish(`cmd.${device.id}.fan`, name + value, { headers: lines });
    };
    const { sequence } = await send(device.id, { qos: 0, payload: 'zero' });
    await send(device.id, { qos: 1, payload: 'one' });
    await publish('Mqtt-Qos', '0');
    await publish('mqtt-qos', '0');
    // What is none is as if it were not there.
    await publish('Mqtt-Qos', '2');
    await publish('Mqtt-Qos', 'none');
    const taken = [];
    for (let at = 0; at < 6; at += 1) taken.push(await nextCommand(client));
    expect(taken.map(({ payload, packetId }) => [payload, packetId > 0])).toEqual([
      ['zero', false],
      ['one', true],
      ['Mqtt-Qos0', false],
      ['mqtt-qos0', false],
      ['Mqtt-Qos2', true],
      ['Mqtt-Qosnone', true],
    ]);
    await untilBoth(device.id, sequence, { qos: 0, state: 'sent', sessions: [{ state: 'sent', qos: 0 }] });
  });

  test('holds for a question, too, and cannot be 0 where the acknowledgement is the answer', async () => {
    const device = await addDevice(gateway.server.httpPort);
    const client = await subscriber(device, gateway.server);
    const asking = call(`/devices/${device.id}/commands`, other, { topic: 'fan', qos: 0, wait_seconds: 1 });
    expect(await nextCommand(client)).toMatchObject({ packetId: 0 });
    expect((await asking).body.code).toBe('DEVICE_SILENT');
    const refused = await call(`/devices/${device.id}/commands`, other, {
      topic: 'fan',
      qos: 0,
      wait_seconds: 1,
      ack: true,
    });
    expect(refused).toMatchObject({ status: 400, body: { errors: [{ field: 'qos' }] } });
    for (const qos of [2, -1, '1'])
      expect(await call(`/devices/${device.id}/commands`, other, { topic: 'fan', qos })).toMatchObject({
        status: 400,
        body: { code: 'INPUT_INVALID' },
      });
  });
});

test('the commands send, say how to follow what they sent, and wait for it', async () => {
  const device = await addDevice(gateway.server.httpPort);
  await leave(await subscriber(device, gateway.server));
  const run = async (...args: string[]) => {
    const io = fakeIo({ env: { LISTEN_ADDR: `127.0.0.1:${other.httpPort}` } });
    return { code: await runProgram(args, io), out: io.out(), err: io.err() };
  };
  const sent = await run('device', 'send', '--qos', '1', device.id, 'fan', 'on');
  const sequence = /CMD (\d+)\n$/.exec(sent.out)?.[1] ?? '';
  expect(sent.err).toContain(`svc-mqtt device command ${device.id} ${sequence} --wait`);
  const now = await run('device', 'command', device.id, sequence);
  expect(now.out).toMatch(/^state +queued$/m);
  const late = await run('device', 'command', device.id, sequence, '--wait', '1s');
  expect(late.code).toBe(1);
  const waiting = run('device', 'command', device.id, sequence, '--wait', '2m', '--json');
  await nextCommand(await subscriber(device, gateway.server, { known: true }));
  const { code, out } = await waiting;
  expect([code, JSON.parse(out)]).toMatchObject([0, { state: 'acknowledged', sequence: Number(sequence) }]);
  await expect(run('device', 'command', device.id, 'x')).rejects.toMatchObject({ code: 'USAGE' });
  await expect(run('device', 'command', device.id, '999999')).rejects.toMatchObject({
    code: 'COMMAND_NOT_FOUND',
  });
  await expect(run('device', 'send', '--qos', '2', device.id, 'fan')).rejects.toMatchObject({
    code: 'USAGE',
  });
});
