import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type Credentials, readStored } from '../support/load.js';
import { packet, publishPacket, type RawClient, uint16 } from '../support/raw-client.js';
import type { ServerProcess } from '../support/server-process.js';
import { addDevices, connectDevice, startGateway, startReplica } from './gateway.js';

/** A client that publishes with QoS 2 as the specification says, over however many connections that takes. */
interface Publisher {
  readonly done: Promise<void>;
  readonly count: number;
}

const window = 4;

/** @param reuses it gives the smallest identifier that is free, and not the next one. */
function publishAll(
  ports: () => number,
  device: Credentials,
  messages: number,
  reuses: boolean,
  onFinished: (undo: () => void) => void,
): Publisher {
  /** In the order in which they began. */
  const open = new Map<number, { payload: string; isReceived: boolean }>();
  let next = 0;
  let lastId = 0;
  let completed = 0;

  function nextId(): number {
    if (!reuses) {
      lastId += 1;
      return lastId;
    }
    let id = 1;
    while (open.has(id)) id += 1;
    return id;
  }

  const publish = (packetId: number, payload: string, dup: boolean) => {
    const bytes = publishPacket({ topic: `raw/${device.id}`, payload, qos: 2, packetId });
    if (dup) bytes[0] = (bytes[0] as number) | 8;
    return bytes;
  };
  const pubrel = (packetId: number) => packet(0x62, uint16(packetId));

  async function run(client: RawClient): Promise<void> {
    for (const [id, { payload, isReceived }] of open)
      client.send(isReceived ? pubrel(id) : publish(id, payload, true));
    while (completed < messages) {
      while (open.size < window && next < messages) {
        const id = nextId();
        const payload = `${device.id} ${next}`;
        next += 1;
        open.set(id, { payload, isReceived: false });
        client.send(publish(id, payload, false));
      }
      const { type, body } = await client.next();
      const id = body.readUInt16BE(0);
      if (type === 5) {
        const exchange = open.get(id);
        if (exchange !== undefined) exchange.isReceived = true;
        client.send(pubrel(id));
      } else if (type === 7 && open.delete(id)) {
        completed += 1;
      }
    }
  }

  async function go(): Promise<void> {
    while (completed < messages) {
      try {
        const { client, code } = await connectDevice(ports(), device, { clean: false });
        onFinished(() => client.destroy());
        if (code === 0) await run(client);
        client.destroy();
      } catch {
        // The connection has ended.
      }
      await delay(20);
    }
  }
  return {
    done: go(),
    get count() {
      return completed;
    },
  };
}

test('QoS 2 messages of clients with sessions are stored once each, through kills of the replicas in turn', async ({
  onTestFinished,
  annotate,
}) => {
  const gateway = await startGateway(onTestFinished);
  const replicas: (ServerProcess | undefined)[] = [
    gateway.server,
    await startReplica(onTestFinished, gateway),
  ];
  const devices = await addDevices(gateway.server.httpPort, 8);
  const messages = 400;
  let turn = 0;
  const port = () => {
    turn += 1;
    const up = replicas.filter((replica) => replica !== undefined);
    return (up[turn % up.length] as ServerProcess).mqttPort;
  };
  const publishers = devices.map((device, index) =>
    publishAll(port, device, messages, index % 2 === 0, onTestFinished),
  );
  const total = () => publishers.reduce((sum, { count }) => sum + count, 0);
  let kills = 0;
  for (let at = 1; at <= 4; at += 1) {
    while (total() < (at * messages * devices.length) / 6) await delay(5);
    const victim = at % 2;
    await replicas[victim]?.end('SIGKILL');
    replicas[victim] = undefined;
    kills += 1;
    replicas[victim] = await startReplica(onTestFinished, gateway);
  }
  await Promise.all(publishers.map(({ done }) => done));
  const stored = (await readStored(gateway.nats.url)).map(({ payload }) => payload);
  await annotate(`${stored.length} messages stored, ${kills} kills`);
  expect(new Set(stored).size).toBe(messages * devices.length);
  expect(stored).toHaveLength(messages * devices.length);
});
