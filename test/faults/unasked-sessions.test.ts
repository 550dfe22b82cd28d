import { expect, test } from 'vitest';
import { type Credentials, readStored } from '../support/load.js';
import { startNetwork } from '../support/network.js';
import { disconnectPacket, publishPacket, pubrelPacket, type RawClient } from '../support/raw-client.js';
import { addDevice, connectDevice, startGateway, startReplica, until } from './gateway.js';

const [pubrec, pubcomp] = [5, 7] as const;

/** A message of QoS 2, always with the same packet identifier. */
const message = ({ id }: Credentials, payload: string) =>
  publishPacket({ topic: `raw/${id}`, payload, qos: 2, packetId: 7 });

async function answersOf(client: RawClient): Promise<number[]> {
  const types: number[] = [];
  try {
    for (;;) types.push((await client.next()).type);
  } catch {
    return types;
  }
}

test.for([
  ['another one had the session meanwhile', false],
  ['another one ended meanwhile what it had answered', true],
] as const)(
  'PUBREC is sent for what is stored by a replica that goes on with a session while NATS is away, though %s',
  async ([, begun], { onTestFinished }) => {
    const gateway = await startGateway(onTestFinished);
    const network = await startNetwork(Number(new URL(gateway.nats.url).port));
    onTestFinished(() => network.close());
    const far = await startReplica(onTestFinished, gateway, { NATS_URL: `nats://127.0.0.1:${network.port}` });
    const device = await addDevice(gateway.server.httpPort);
    const join = async (port: number, present: boolean) => {
      const { client, code, sessionPresent } = await connectDevice(port, device, { clean: false });
      onTestFinished(() => client.destroy());
      expect([code, sessionPresent]).toEqual([0, present]);
      return client;
    };
    const before = await join(far.mqttPort, false);
    if (begun) {
      before.send(message(device, 'first'));
      expect((await before.next()).type).toBe(pubrec);
    }
    before.send(disconnectPacket);
    network.swallow(true);
    await until('NATS is away', async () => {
      const answer = await fetch(`http://127.0.0.1:${far.httpPort}/readyz`);
      return ((await answer.json()) as { nats: { status: string } }).nats.status !== 'ok';
    });

    const between = await join(gateway.server.mqttPort, true);
    if (begun) {
      between.send(pubrelPacket(7));
      expect((await between.next()).type).toBe(pubcomp);
    }
    between.send(message(device, 'second'));
    expect((await between.next()).type).toBe(pubrec);
    between.send(pubrelPacket(7));
    expect((await between.next()).type).toBe(pubcomp);
    between.send(disconnectPacket);

    const back = await join(far.mqttPort, true);
    back.send(message(device, 'third'));
    const answers = answersOf(back);
    network.swallow(false);
    const isAnswered = (await answers).includes(pubrec);
    const stored = (await readStored(gateway.nats.url)).map(({ payload }) => payload);
    expect(stored.includes('third')).toBe(isAnswered);

    // The session is the one of the other replica, and the message is taken when it is sent again.
    const again = await join(far.mqttPort, true);
    again.send(message(device, 'third'));
    expect((await again.next()).type).toBe(pubrec);
    const then = (await readStored(gateway.nats.url)).map(({ payload }) => payload);
    expect(then).toEqual([...(begun ? ['first'] : []), 'second', 'third']);
  },
);

test('a replica that goes on with a session while NATS is away takes QoS 2 when NATS is back', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const device = await addDevice(gateway.server.httpPort);
  const first = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  first.client.send(disconnectPacket);
  await gateway.nats.kill();
  const { client, sessionPresent } = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  onTestFinished(() => client.destroy());
  expect(sessionPresent).toBe(true);
  client.send(message(device, 'waits'));
  await gateway.nats.restart();
  expect((await client.next()).type).toBe(pubrec);
  expect((await readStored(gateway.nats.url)).map(({ payload }) => payload)).toEqual(['waits']);
});
