import { expect, test } from 'vitest';
import { publishPacket } from '../support/raw-client.js';
import { addDevices, connected, mebibyte, startGateway, until } from './gateway.js';

const maxInFlightBytes = 16 * mebibyte;
const toleratedBytes = 96 * mebibyte;
const clients = 20;
const perClient = 500;

test('small messages that wait for NATS do not keep the large ones that came along with them', {
  timeout: 90_000,
}, async ({ onTestFinished }) => {
  const { server, nats } = await startGateway(onTestFinished, {
    env: { MAX_IN_FLIGHT_BYTES: String(maxInFlightBytes) },
  });
  const devices = await addDevices(server.httpPort, clients);
  const raw = await Promise.all(devices.map((device) => connected(onTestFinished, server.mqttPort, device)));
  await nats.halt();
  await until('the server knows that NATS is away', async () => (await server.readiness()).nats === 'failed');
  const before = server.residentBytes();
  await Promise.all(
    raw.map(async (client, index) => {
      const topic = `raw/${devices[index]?.id}`;
      const large = publishPacket({ topic, payload: Buffer.alloc(60_000, 'x') });
      for (let packetId = 1; packetId <= perClient; packetId += 1) {
        const small = publishPacket({ topic, payload: 'x', qos: 1, packetId });
        if (!client.socket.write(Buffer.concat([small, large])))
          await new Promise((resolve) => client.socket.once('drain', resolve));
      }
      // Answered behind everything else.
      client.send(Buffer.from([0xc0, 0]));
      expect((await client.next(60_000)).type).toBe(13);
    }),
  );
  expect((server.residentBytes() - before) / mebibyte).toBeLessThan(
    (maxInFlightBytes + toleratedBytes) / mebibyte,
  );
  await nats.restart();
});
