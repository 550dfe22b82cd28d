import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'nats';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { disconnectPacket, subscribePacket, unsubscribePacket } from '../support/raw-client.js';
import type { ServerProcess } from '../support/server-process.js';
import { addDevices, connectDevice, startGateway, startReplica, until } from './gateway.js';

const suback = 9;
const unsuback = 11;
/** So many connections, of all clients, between two faults. */
const connectsBetween = 400;

test('subscriptions are what SUBACK and UNSUBACK said, whatever dies while clients move between replicas', async ({
  onTestFinished,
  annotate,
}) => {
  const env = { MAX_CONNECTS_PER_SECOND_PER_ADDRESS: '10000' };
  const gateway = await startGateway(onTestFinished, { env });
  const replicas: (ServerProcess | undefined)[] = [
    gateway.server,
    await startReplica(onTestFinished, gateway, env),
  ];
  const devices = await addDevices(gateway.server.httpPort, 15);
  const problems: string[] = [];
  let connects = 0;
  let over = false;

  /** @returns what the server has acknowledged last of each filter; undefined where it may be either. */
  async function roam(device: Credentials): Promise<Map<string, boolean | undefined>> {
    const known = new Map<string, boolean | undefined>();
    let hasSession = false;
    while (!over) {
      const up = replicas.filter((replica) => replica !== undefined);
      const server = up[Math.floor(Math.random() * up.length)] as ServerProcess;
      try {
        const { client, code, sessionPresent } = await connectDevice(server.mqttPort, device, {
          clean: false,
        });
        onTestFinished(() => client.destroy());
        connects += 1;
        if (code !== 0) continue;
        if (hasSession && !sessionPresent) problems.push(`${device.id} lost its session`);
        hasSession = true;
        for (let packetId = Math.floor(Math.random() * 4); packetId > 0; packetId -= 1) {
          const filter = `cmd/${device.id}/${Math.floor(Math.random() * 6)}`;
          const subscribes = Math.random() < 0.6;
          known.set(filter, undefined);
          client.send(
            subscribes ? subscribePacket(packetId, [[filter, 1]]) : unsubscribePacket(packetId, [filter]),
          );
          const { type, body } = await client.next();
          expect(type).toBe(subscribes ? suback : unsuback);
          if (!subscribes || body[2] === 1) known.set(filter, subscribes);
        }
        // Some stay connected, and are taken over.
        if (Math.random() < 0.3) client.send(disconnectPacket);
        else if (Math.random() < 0.5) client.destroy();
      } catch {
        // Its replica has died, or NATS.
        await delay(20);
      }
    }
    return known;
  }

  const roaming = devices.map(roam);
  const moved = async () => {
    const before = connects;
    await until('clients have moved', () => connects - before > connectsBetween);
  };
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await moved();
    await replicas[1]?.end(signal);
    replicas[1] = undefined;
    replicas[1] = await startReplica(onTestFinished, gateway, env);
    await moved();
    await gateway.nats.kill();
    await gateway.nats.restart();
  }
  await moved();
  over = true;
  const known = await Promise.all(roaming);
  await Promise.all(replicas.map((replica) => replica?.end('SIGTERM')));

  const nats = await connect({ servers: gateway.nats.url });
  onTestFinished(() => nats.close());
  const manager = await nats.jetstreamManager();
  for (const [index, { id }] of devices.entries()) {
    const stored = await manager.streams.getMessage('KV_svc-mqtt-sessions', {
      last_by_subj: `$KV.svc-mqtt-sessions.${id}.c`,
    });
    const record = stored.json<{ subscriptions: { name: string }[]; owner?: string }>();
    if (record.owner !== undefined) problems.push(`${id} is still owned`);
    for (const [filter, subscribed] of known[index] ?? []) {
      const isThere = record.subscriptions.some(({ name }) => name === filter);
      if (subscribed !== undefined && subscribed !== isThere) problems.push(`${filter} is ${isThere}`);
    }
  }
  await annotate(`${connects} connections`);
  expect(problems).toEqual([]);
});
