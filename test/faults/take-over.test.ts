import { expect, test } from 'vitest';
import { readStored } from '../support/load.js';
import { pingreqPacket, publishPacket, type RawClient } from '../support/raw-client.js';
import { addDevice, connected, startGateway, until } from './gateway.js';

async function taken(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  expect((await client.next()).type).toBe(13);
}

test.for([
  [1, true],
  [1, false],
  [2, true],
] as const)(
  'a client that comes back while NATS is away and uses its packet ids again: each acknowledgement is of its own message (QoS %i, clean session %s)',
  async ([qos, clean], { onTestFinished }) => {
    const { server, nats } = await startGateway(onTestFinished);
    const device = await addDevice(server.httpPort);
    const open = () => connected(onTestFinished, server.mqttPort, device, { clean });
    const publish = (client: RawClient, payload: string) =>
      client.send(publishPacket({ topic: `raw/${device.id}`, payload, qos, packetId: 1 }));
    // The server has its session by then: one that it had to ask NATS for would be refused.
    const first = await open();
    await nats.halt();
    await until('the server knows', async () => (await server.readiness()).nats === 'failed');
    publish(first, 'one');
    await taken(first);
    const second = await open();
    await first.waitClosed();
    publish(second, 'two');
    await taken(second);
    const third = await open();
    await second.waitClosed();
    await taken(third);

    await nats.restart();
    await until('both are stored', async () => (await readStored(nats.url).catch(() => [])).length === 2);
    expect((await readStored(nats.url)).map(({ payload }) => payload)).toEqual(['one', 'two']);
    // The third connection has published nothing: an acknowledgement of the others' messages is not for it.
    await taken(third);
    publish(third, 'three');
    expect((await third.next()).type).toBe(qos === 1 ? 4 : 5);
    expect((await readStored(nats.url)).map(({ payload }) => payload)).toEqual(['one', 'two', 'three']);
    expect(third.received.map(({ type }) => type)).toEqual([2, 13, 13, qos === 1 ? 4 : 5]);
  },
);
