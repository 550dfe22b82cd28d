import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { type Credentials, readStored } from '../support/load.js';
import { pingreqPacket, type RawClient } from '../support/raw-client.js';
import { Id, property } from '../support/raw-mqtt5.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import {
  addDevice,
  addDevices,
  connectDevice,
  connected,
  type Gateway,
  startGateway,
  startReplica,
  until,
} from './gateway.js';

/** A client has one connection in the fleet, with a session that outlives it or without. */

const memory = { ENABLE_JETSTREAM: 'false' };
const variants = [
  ['a clean session', { clean: true }],
  ['a session', { clean: false }],
] as const;

const later = undoAfterAll();
let gateway: Gateway;
let other: ServerProcess;
beforeAll(async () => {
  gateway = await startGateway(later);
  other = await startReplica(later, gateway);
});

test.for(variants)(
  '%s: the replica that has the older connection closes it',
  async ([, options], context) => {
    const { onTestFinished } = context;
    const ports = [gateway.server.mqttPort, other.mqttPort] as const;
    const device = await addDevice(gateway.server.httpPort);
    let last: RawClient | undefined;
    const tookMs: number[] = [];
    for (let round = 0; round < 300; round += 1) {
      const { client, code } = await connectDevice(ports[round % 2 === 0 ? 0 : 1], device, options);
      onTestFinished(() => client.destroy());
      expect(code).toBe(0);
      const startMs = performance.now();
      await last?.waitClosed();
      tookMs.push(performance.now() - startMs);
      last = client;
    }
    if (last === undefined) throw new Error('no connection');
    last.send(pingreqPacket);
    expect((await last.next()).type).toBe(13);
    const sorted = tookMs.toSorted((a, b) => a - b);
    process.stdout.write(`closed after ${sorted[150]?.toFixed(1)} ms, p99 ${sorted[296]?.toFixed(1)} ms\n`);
    const level5 = { level: 5, properties: Buffer.alloc(0), ...options };
    const before = await connected(onTestFinished, ports[0], device, level5);
    // The other replica has heard of it: of two that come at the same moment either one can be closed.
    await last.waitClosed();
    await connected(onTestFinished, ports[1], device, level5);
    const packet = await before.next();
    expect([packet.type, packet.body[0]]).toEqual([14, 0x8e]);
  },
);

test.for(variants)(
  '%s: of connections made at the same time on two replicas, at most one is left',
  async ([, options], context) => {
    const { onTestFinished } = context;
    const ports = [gateway.server.mqttPort, other.mqttPort];
    const devices = await addDevices(gateway.server.httpPort, 20);
    for (let round = 0; round < 10; round += 1) {
      const open: { client: RawClient; device: Credentials }[] = [];
      await Promise.all(
        [...devices, ...devices].map(async (device, index) => {
          const attempt = connectDevice(ports[(index + round) % 2] as number, device, options);
          const { client } = await attempt.catch(() => ({ client: undefined }));
          if (client === undefined) return;
          onTestFinished(() => client.destroy());
          open.push({ client, device });
        }),
      );
      await until('at most one of each is left', () => {
        const left = open.filter(({ client }) => !client.closed).map(({ device }) => device.id);
        return new Set(left).size === left.length;
      });
      for (const { client } of open) client.destroy();
    }
  },
);

test.for(variants)(
  '%s: what was connected twice while NATS was away is told apart when it is back',
  async ([, options], context) => {
    const { onTestFinished } = context;
    const device = await addDevice(gateway.server.httpPort);
    const servers = [gateway.server, other];
    const older = await connected(onTestFinished, gateway.server.mqttPort, device, options);
    await gateway.nats.halt();
    for (const server of servers)
      await until('it knows', async () => (await server.readiness()).nats === 'failed');
    const younger = await connectDevice(other.mqttPort, device, options);
    onTestFinished(() => younger.client.destroy());
    await gateway.nats.restart();
    for (const server of servers)
      onTestFinished(() => until('it is back', async () => (await server.readiness()).nats === 'ok'));
    if (options.clean) {
      expect(younger.code).toBe(0);
      await older.waitClosed();
      younger.client.send(pingreqPacket);
      expect((await younger.client.next()).type).toBe(13);
    } else {
      // Its session is with the other replica, which cannot be asked.
      expect(younger.code).toBe(3);
      older.send(pingreqPacket);
      expect((await older.next()).type).toBe(13);
    }
  },
);

test.for(['away', 'connected'])(
  'a client that is %s begins anew on another replica: its will comes, since the session has ended that it waited with',
  async (where, { onTestFinished }) => {
    const device = await addDevice(gateway.server.httpPort);
    const level5 = { level: 5, properties: property(Id.sessionExpiry, 600) };
    const topic = `raw/${device.id}`;
    const will = { topic, payload: 'will', qos: 1, properties: property(Id.willDelay, 600) };
    const isStored = async () =>
      (await readStored(gateway.nats.url)).some(({ subject }) => subject === topic.replace('/', '.'));
    const first = await connected(onTestFinished, gateway.server.mqttPort, device, { ...level5, will });
    // The other replica has heard of it.
    const moved = await connected(onTestFinished, other.mqttPort, device, { ...level5, clean: false, will });
    await first.waitClosed();
    if (where === 'away') moved.destroy();
    await delay(500);
    expect(await isStored()).toBe(false);
    await connected(onTestFinished, gateway.server.mqttPort, device, { ...level5, clean: true });
    await until('the will is stored', isStored);
  },
);

test('with sessions in the memory of each replica the older connection is closed too, and its session kept there', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, { env: memory });
  const other = await startReplica(onTestFinished, gateway);
  const device = await addDevice(gateway.server.httpPort);
  const heard = { clean: true, clientId: 'heard' };
  const earlier = await connected(onTestFinished, other.mqttPort, device, heard);
  const first = await connected(onTestFinished, gateway.server.mqttPort, device, { clean: false });
  // The other replica has heard of the first one: of two that come at the same moment either one can be closed.
  await connected(onTestFinished, gateway.server.mqttPort, device, heard);
  await earlier.waitClosed();
  const second = await connectDevice(other.mqttPort, device, { clean: false });
  expect([second.code, second.sessionPresent]).toEqual([0, false]);
  await first.waitClosed();
  const third = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  onTestFinished(() => third.client.destroy());
  expect([third.code, third.sessionPresent]).toEqual([0, true]);
  await second.client.waitClosed();
});
