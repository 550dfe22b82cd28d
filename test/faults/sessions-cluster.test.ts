import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { disconnectPacket, pingreqPacket, type RawClient } from '../support/raw-client.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { nextCommand, numbers, subscribeToCommands } from './command-client.js';
import {
  addDevice,
  addDevices,
  connectDevice,
  type Gateway,
  startGateway,
  startReplica,
  until,
} from './gateway.js';
import { startCluster } from './nats-cluster.js';
import { publishAll } from './qos2-client.js';

/** Sessions and commands in three servers of NATS, while the ones that lead their streams are killed. */

const sessions = 'KV_svc-mqtt-sessions';

describe('with three servers of NATS', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>;
  let gateway: Gateway;
  let replicas: ServerProcess[];
  const onFinished = undoAfterAll();

  beforeAll(async () => {
    cluster = await startCluster(onFinished);
    gateway = await startGateway(onFinished, { env: { NATS_URL: cluster.urls.join(',') } });
    replicas = [gateway.server, await startReplica(onFinished, gateway)];
    for (const name of [sessions, 'CMD', 'KV_svc-mqtt-replicas'])
      expect((await cluster.read(name)).config.num_replicas).toBe(3);
  });

  const portOf = (turn: number) => replicas[turn % 2]?.mqttPort ?? 0;

  /** Connects as a device does: one that is told that its session is out of reach comes again. */
  async function comeBack(port: number, device: Credentials) {
    for (;;) {
      const back = await connectDevice(port, device, { clean: false });
      onFinished(() => back.client.destroy());
      if (back.code === 0) return back;
      expect([3, 5]).toContain(back.code);
      back.client.destroy();
      await delay(100);
    }
  }

  /** Stores numbered commands, each once, however often NATS has to be asked. */
  async function sendCommands({ id }: Credentials, payloads: readonly string[]): Promise<void> {
    for (const payload of payloads) {
      await until('it is stored', async () =>
        cluster.observer
          .jetstream({ timeout: 1_000 })
          .publish(`cmd.${id}.go`, payload, { msgID: `${id} ${payload}` })
          .then(
            () => true,
            () => false,
          ),
      );
    }
  }

  /** Takes commands until the last one has come; what came before may only come again with DUP. */
  async function takeUpTo(client: RawClient, last: string, had: string[]): Promise<void> {
    while (had.at(-1) !== last) {
      const { payload, dup } = await nextCommand(client);
      if (!had.includes(payload)) had.push(payload);
      else expect([payload, dup]).toEqual([payload, true]);
    }
  }

  test('a session that was away gets every command in order', async () => {
    const device = await addDevice(gateway.server.httpPort);
    const first = await comeBack(portOf(0), device);
    await subscribeToCommands(first.client, device);
    first.client.send(disconnectPacket);
    await first.client.waitClosed();
    const sending = sendCommands(device, numbers(300));
    await cluster.killLeader('CMD');
    await sending;
    const killing = cluster.killLeader(sessions);
    const had: string[] = [];
    const back = await comeBack(portOf(1), device);
    expect(back.sessionPresent).toBe(true);
    await takeUpTo(back.client, '150', had);
    await killing;
    const more = sendCommands(device, numbers(100, 301));
    await Promise.all([cluster.killLeader('CMD'), takeUpTo(back.client, '400', had), more]);
    expect(had).toEqual(numbers(400));
  });

  test('messages of QoS 2 are stored once each, also when a replica dies', async () => {
    const devices = await addDevices(gateway.server.httpPort, 4);
    const messages = 150;
    let turn = 0;
    const port = () => portOf(turn++);
    const publishers = devices.map((device, index) =>
      publishAll(port, device, messages, index % 2 === 0, onFinished),
    );
    const total = () => publishers.reduce((sum, { count }) => sum + count, 0);
    const reach = (part: number) =>
      until('some are stored', () => total() >= part * messages * devices.length);
    await reach(0.1);
    await cluster.killLeader(sessions);
    await reach(0.4);
    await replicas[1]?.end('SIGKILL');
    await cluster.killLeader('RAW');
    replicas[1] = await startReplica(onFinished, gateway);
    await Promise.all(publishers.map(({ done }) => done));
    const stored: string[] = [];
    const { observer } = cluster;
    const { state } = await cluster.read('RAW');
    const stream = await observer.jetstream().streams.get('RAW');
    for (let sequence = state.first_seq; sequence <= state.last_seq; sequence += 1)
      stored.push((await stream.getMessage({ seq: sequence })).string());
    const expected = devices.flatMap(({ id }) =>
      Array.from({ length: messages }, (_, number) => `${id} ${number}`),
    );
    expect(stored.toSorted()).toEqual(expected.toSorted());
  });

  test('a client that is taken over is left with one connection', async () => {
    const device = await addDevice(gateway.server.httpPort);
    let last: RawClient | undefined;
    let killing: Promise<void> | undefined;
    for (let turn = 0; turn < 60; turn += 1) {
      if (turn === 20) killing = cluster.killLeader(sessions);
      const { client, sessionPresent } = await comeBack(portOf(turn), device);
      expect(sessionPresent).toBe(turn > 0);
      await last?.waitClosed();
      last = client;
    }
    await killing;
    last?.send(pingreqPacket);
    expect((await last?.next())?.type).toBe(13);
  });

  test('a device that is revoked while it is away has no session, and its commands go to nobody', async () => {
    const { httpPort } = gateway.server;
    const device = await addDevice(httpPort);
    const first = await comeBack(portOf(0), device);
    await subscribeToCommands(first.client, device);
    first.client.send(disconnectPacket);
    await first.client.waitClosed();
    await sendCommands(device, numbers(5));
    const killing = cluster.killLeader(sessions);
    const revoked = await fetch(`http://127.0.0.1:${httpPort}/devices/${device.id}`, { method: 'DELETE' });
    expect(revoked.ok).toBe(true);
    await killing;
    const last = { last_by_subj: `$KV.svc-mqtt-sessions.${device.id}.c` };
    await until('its session is gone', async () => {
      const manager = await cluster.observer.jetstreamManager({ timeout: 2_000, checkAPI: false });
      return await manager.streams.getMessage(sessions, last).then(
        ({ header }) => header.get('KV-Operation') === 'DEL',
        ({ api_error: answer }: { api_error?: { code?: number } }) => answer?.code === 404,
      );
    });
    const enabled = await fetch(`http://127.0.0.1:${httpPort}/devices/${device.id}/enable`, {
      method: 'POST',
    });
    expect(enabled.ok).toBe(true);
    const back = await comeBack(portOf(1), device);
    expect(back.sessionPresent).toBe(false);
    back.client.send(pingreqPacket);
    expect((await back.client.next()).type).toBe(13);
  });
});
