import { connect } from 'nats';
import { expect, test } from 'vitest';
import { pingreqPacket, publishPacket, type RawClient, subscribePacket } from '../support/raw-client.js';
import {
  addDevice,
  addDevices,
  connectDevice,
  connected,
  type Gateway,
  startGateway,
  until,
} from './gateway.js';

const pingresp = 13;

async function observe(
  onFinished: (undo: () => Promise<void>) => void,
  gateway: Gateway,
  credentials: { user?: string; pass?: string } = {},
) {
  const observer = await connect({ servers: gateway.nats.url, ...credentials });
  onFinished(() => observer.close());
  return observer;
}

/** Sends a PINGREQ and requires that it is the next to be answered. */
async function expectPing(client: RawClient): Promise<void> {
  client.send(pingreqPacket);
  expect((await client.next()).type).toBe(pingresp);
}

test('a command published on SUBACK, or on the CONNACK of a session, by another connection is never lost', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { server, nats } = gateway;
  const observer = await observe(onTestFinished, gateway);
  const devices = await addDevices(server.httpPort, 300);
  for (const device of devices) {
    const client = await connected(onTestFinished, server.mqttPort, device);
    client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
    expect([...(await client.next()).body]).toEqual([0, 1, 1]);
    observer.publish(`cmd.${device.id}.go`, 'now');
    await observer.flush();
    expect((await client.next()).body.toString()).toContain('now');
    client.destroy();
  }

  // The subscriptions are made again on a new connection to NATS; a client that comes back has its own by then.
  const [device] = devices;
  if (device === undefined) throw new Error('no device');
  const first = await connected(onTestFinished, server.mqttPort, device, { clean: false });
  first.send(subscribePacket(1, [[`cmd/${device.id}/#`, 0]]));
  expect([...(await first.next()).body]).toEqual([0, 1, 0]);
  for (let round = 0; round < 5; round += 1) {
    await nats.halt();
    await until('NATS is away', async () => (await server.readiness()).nats === 'failed');
    // NATS is away: the session goes on all the same.
    const meanwhile = await connectDevice(server.mqttPort, device, { clean: false });
    expect([meanwhile.code, meanwhile.sessionPresent]).toEqual([0, true]);
    await nats.restart();
    const other = await observe(onTestFinished, gateway);
    await until('NATS is back', async () => (await server.readiness()).nats === 'ok');
    const { client, code, sessionPresent } = await connectDevice(server.mqttPort, device, { clean: false });
    expect([code, sessionPresent]).toEqual([0, true]);
    other.publish(`cmd.${device.id}.go`, `round ${round}`);
    await other.flush();
    expect((await client.next()).body.toString()).toContain(`round ${round}`);
    client.destroy();
  }
});

const users = (allowed: readonly string[]) => `
  authorization { users = [
    { user: admin, password: admin }
    { user: gateway, password: gateway, permissions: { subscribe: { allow: ${JSON.stringify(allowed)} } } }
  ] }`;

test('without the permission to subscribe to cmd.> a subscription is refused, and with it said why', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, {
    nats: { configExtra: users(['_INBOX.>']) },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway', ACL: 'open', ENABLE_JETSTREAM: 'false' },
  });
  const { server, nats } = gateway;
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device, { clean: false });
  // Others than those for commands are granted; the message behind is processed after the answer.
  client.send(
    subscribePacket(1, [
      [`cmd/${device.id}/#`, 1],
      ['news/#', 0],
      ['+/+/x', 0],
    ]),
    publishPacket({ topic: 'news/a', payload: 'n' }),
  );
  expect([...(await client.next()).body]).toEqual([0, 1, 0x80, 0, 0x80]);
  expect((await client.next()).body.toString()).toContain('news/a');
  expect(await server.waitFor('downlink_refused')).toMatchObject({
    device: device.id,
    reason: expect.stringContaining('Permissions Violation'),
  });
  expect(await server.waitFor('subscribe_denied')).toMatchObject({
    filter: `cmd/${device.id}/#`,
    reason: expect.stringContaining('Permissions Violation'),
  });

  await nats.reconfigure(users(['>']));
  client.send(subscribePacket(2, [[`cmd/${device.id}/#`, 1]]));
  expect([...(await client.next()).body]).toEqual([0, 2, 1]);
  client.destroy();

  // Taken back while the client is away: its session is not gone on with, and it learns so.
  await nats.reconfigure(users(['_INBOX.>']));
  await until('NATS has refused', () => server.count('downlink_refused') === 2);
  const {
    client: again,
    code,
    sessionPresent,
  } = await connectDevice(server.mqttPort, device, { clean: false });
  onTestFinished(() => again.destroy());
  expect([code, sessionPresent]).toEqual([0, false]);
});

test('while NATS is frozen or away a subscription is not granted, and the device stays connected', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { server, nats } = gateway;
  const [device, other] = await addDevices(server.httpPort, 2);
  if (device === undefined || other === undefined) throw new Error('no device');
  const client = await connected(onTestFinished, server.mqttPort, device);
  await nats.pause();
  client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
  await expectPing(client);
  await expectPing(client);
  nats.resume();
  expect([...(await client.next()).body]).toEqual([0, 1, 1]);

  // Not for good: a client is told in the end, and nothing is left of what it asked for.
  await nats.halt();
  const late = await connected(onTestFinished, server.mqttPort, other);
  late.send(subscribePacket(1, [[`cmd/${other.id}/#`, 1]]));
  await expectPing(late);
  expect([...(await late.next()).body]).toEqual([0, 1, 0x80]);
  expect(await server.waitFor('subscribe_denied')).toMatchObject({ reason: 'NATS is away' });
  await expectPing(late);
  await nats.restart();
  late.send(subscribePacket(2, [[`cmd/${other.id}/#`, 1]]));
  expect([...(await late.next()).body]).toEqual([0, 2, 1]);
  expect(late.closed).toBe(false);
});
