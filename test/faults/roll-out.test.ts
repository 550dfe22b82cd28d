import { connect, headers } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket, subscribePacket } from '../support/raw-client.js';
import { addDevices, connectDevice, type OnFinished, startGateway, startReplica, until } from './gateway.js';

/** Replicas of two versions side by side: what one wrote that the other does not know. */

async function openBucket(onFinished: OnFinished, url: string) {
  const nats = await connect({ servers: url });
  onFinished(() => nats.close());
  const manager = await nats.jetstreamManager();
  const subjectOf = ({ id }: { id: string }) => `$KV.svc-mqtt-sessions.${id}.c`;
  return {
    async read(device: { id: string }) {
      const found = await manager.streams.getMessage('KV_svc-mqtt-sessions', {
        last_by_subj: subjectOf(device),
      });
      return { record: found.json<Record<string, unknown>>(), revision: found.seq };
    },
    async write(device: { id: string }, record: unknown, epoch = 1): Promise<void> {
      const fields = headers();
      fields.set('Svc-Mqtt-Epoch', String(epoch));
      await nats.request(subjectOf(device), JSON.stringify(record), { headers: fields, timeout: 5_000 });
    },
  };
}

test('a session of a later version is refused and left as it is, or begun anew as the setting says; no other is concerned', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const renewing = await startReplica(onTestFinished, gateway, { ON_UNREADABLE_SESSION: 'renew' });
  const [device, other] = await addDevices(gateway.server.httpPort, 2);
  if (device === undefined || other === undefined) throw new Error('no devices');
  const bucket = await openBucket(onTestFinished, gateway.nats.url);
  const later = { v: 2, id: 'of-a-later-version', epoch: 7 };
  await bucket.write(device, later, 7);
  const { revision } = await bucket.read(device);

  const refused = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  expect(refused.code).toBe(3);
  const line = await gateway.server.waitFor('session_unreadable');
  expect(line).toMatchObject({ session: `${device.id}.c`, reason: expect.stringContaining('version 2') });
  expect(await bucket.read(device)).toEqual({ record: later, revision });
  for (const { mqttPort } of [gateway.server, renewing]) {
    const { client, code } = await connectDevice(mqttPort, other, { clean: false });
    onTestFinished(() => client.destroy());
    expect(code).toBe(0);
  }

  const renewed = await connectDevice(renewing.mqttPort, device, { clean: false });
  onTestFinished(() => renewed.client.destroy());
  expect([renewed.code, renewed.sessionPresent]).toEqual([0, false]);
  expect(await renewing.waitFor('session_unreadable')).toMatchObject({ session: `${device.id}.c` });
  expect((await bucket.read(device)).record).toMatchObject({ v: 1, epoch: 8, subscriptions: [] });
});

test('what a later version has added to a session is kept by one that does not know it', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const other = await startReplica(onTestFinished, gateway);
  const [device] = await addDevices(gateway.server.httpPort, 1);
  if (device === undefined) throw new Error('no device');
  const bucket = await openBucket(onTestFinished, gateway.nats.url);
  const first = await connectDevice(gateway.server.mqttPort, device, { clean: false });
  first.client.send(subscribePacket(1, [[`cmd/${device.id}/a`, 1]]));
  expect((await first.client.next()).type).toBe(9);
  first.client.send(disconnectPacket);
  await first.client.waitClosed();
  await until('it is away', async () => (await bucket.read(device)).record.owner === undefined);
  const { record } = await bucket.read(device);
  await bucket.write(device, { ...record, later: { kept: [1, 'x'] } });

  const back = await connectDevice(other.mqttPort, device, { clean: false });
  onTestFinished(() => back.client.destroy());
  expect([back.code, back.sessionPresent]).toEqual([0, true]);
  back.client.send(subscribePacket(2, [[`cmd/${device.id}/b`, 1]]));
  expect((await back.client.next()).type).toBe(9);
  expect((await bucket.read(device)).record).toMatchObject({ later: { kept: [1, 'x'] }, epoch: 2 });
  // Marked as away by the others, too.
  await other.end('SIGKILL');
  await until('it is marked as away', async () => (await bucket.read(device)).record.owner === undefined);
  expect((await bucket.read(device)).record).toMatchObject({ later: { kept: [1, 'x'] } });
  expect((await bucket.read(device)).record.subscriptions).toHaveLength(2);
});
