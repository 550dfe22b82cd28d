import { connect } from 'node:net';
import { expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { connectPacket, openRawClient, pingreqPacket, publishPacket } from '../support/raw-client.js';
import { inCi } from '../support/rounds.js';
import {
  addDevices,
  connected,
  type Gateway,
  mebibyte,
  type OnFinished,
  startGateway,
  until,
} from './gateway.js';

/** What a process may grow by beside the bound of what waits for NATS. */
const toleratedBytes = 192 * mebibyte;
const maxInFlightBytes = 16 * mebibyte;

/** A server without NATS, and what it grows by from now on, MiB. */
async function startWithoutNats(
  onFinished: OnFinished,
  env: Record<string, string> = {},
): Promise<{ gateway: Gateway; devices: Credentials[]; growth(): number; away(): Promise<void> }> {
  const gateway = await startGateway(onFinished, {
    env: { MAX_IN_FLIGHT_BYTES: String(maxInFlightBytes), ...env },
  });
  const { server, nats } = gateway;
  const devices = await addDevices(server.httpPort, 20);
  let before = 0;
  return {
    gateway,
    devices,
    growth: () => (server.residentBytes() - before) / mebibyte,
    async away() {
      await nats.halt();
      await until(
        'the server knows that NATS is away',
        async () => (await server.readiness()).nats === 'failed',
      );
      before = server.residentBytes();
    },
  };
}

const bound = (maxInFlightBytes + toleratedBytes) / mebibyte;

test('small messages that wait for NATS do not keep the large ones that came along with them', {
  timeout: 300_000,
}, async ({ onTestFinished, annotate }) => {
  const { gateway, devices, growth, away } = await startWithoutNats(onTestFinished, {
    MAX_IN_FLIGHT: '65536',
  });
  const { server } = gateway;
  const owners = [...devices, ...devices];
  const clients = await Promise.all(
    owners.map((device, index) =>
      connected(onTestFinished, server.mqttPort, device, { clientId: `c${index}` }),
    ),
  );
  await away();
  await Promise.all(
    clients.map(async (client, index) => {
      const topic = `raw/${owners[index]?.id}`;
      const large = publishPacket({ topic, payload: Buffer.alloc(60_000, 'x') });
      for (let packetId = 1; packetId <= 500; packetId += 1) {
        const small = publishPacket({ topic, payload: 'x', qos: 1, packetId });
        if (!client.socket.write(Buffer.concat([small, large])))
          await new Promise((resolve) => client.socket.once('drain', resolve));
      }
      client.send(pingreqPacket);
      // The answer says that everything before it was taken.
      expect((await client.next(60_000)).type).toBe(13);
    }),
  );
  await annotate(`grew by ${Math.round(growth())} MiB`);
  // What came within a moment is let go a moment later, so there is more of it than of what waits.
  expect(growth()).toBeLessThan(2 * bound);
});

test('clients that come, send and go while NATS is away, over and over, leave nothing behind at the bound', {
  timeout: 300_000,
}, async ({ onTestFinished, annotate }) => {
  const { gateway, devices, growth, away } = await startWithoutNats(onTestFinished, { MAX_IN_FLIGHT: '100' });
  const { server } = gateway;
  await away();
  await Promise.all(
    devices.map(async ({ id, password }, index) => {
      for (let round = 0; round < inCi(400, 100); round += 1) {
        const clientId = `c${index}-${round}`;
        const messages = Array.from({ length: 10 }, (_, number) =>
          publishPacket({ topic: `raw/${id}`, payload: Buffer.alloc(6_000), qos: 1, packetId: number + 1 }),
        );
        await comeAndGo(
          server.mqttPort,
          Buffer.concat([connectPacket({ userName: id, password, clientId }), ...messages]),
        );
      }
    }),
  );
  await annotate(`grew by ${Math.round(growth())} MiB`);
  expect(growth()).toBeLessThan(bound);
});

test('wills of clients that come and go while NATS is away are bounded like other messages', {
  timeout: 300_000,
}, async ({ onTestFinished, annotate }) => {
  const { gateway, devices, growth, away } = await startWithoutNats(onTestFinished, {
    MAX_IN_FLIGHT: '100',
    MAX_WILL_BYTES: '65536',
  });
  const { server } = gateway;
  await away();
  await Promise.all(
    devices.map(async ({ id, password }, index) => {
      const will = { topic: `raw/${id}`, payload: Buffer.alloc(16_000, 'w'), qos: 1 };
      for (let round = 0; round < inCi(1_000, 250); round += 1) {
        const clientId = `c${index}-${round}`;
        await comeAndGo(server.mqttPort, connectPacket({ userName: id, password, clientId, will }));
      }
    }),
  );
  await annotate(`grew by ${Math.round(growth())} MiB`);
  expect(growth()).toBeLessThan(bound);
  // None of this is in the way when NATS comes back.
  await gateway.nats.restart();
  const [device] = devices;
  if (device === undefined) throw new Error('no device');
  const client = await openRawClient(server.mqttPort);
  onTestFinished(() => client.destroy());
  client.send(
    connectPacket({ userName: device.id, password: device.password, clientId: 'after' }),
    publishPacket({ topic: `raw/${device.id}`, payload: 'after', qos: 1, packetId: 1 }),
  );
  expect((await client.next()).type).toBe(2);
  expect((await client.next(30_000)).type).toBe(4);
});

/** Connects, sends, waits for the CONNACK, and is gone without a word. */
async function comeAndGo(port: number, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(bytes));
    socket.once('data', (answer: Buffer) => {
      socket.resetAndDestroy();
      if (answer[3] === 0) resolve();
      else reject(new Error(`CONNACK ${answer[3]}`));
    });
    socket.once('error', reject);
  });
}
