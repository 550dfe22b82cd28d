import { connect } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket } from '../support/raw-client.js';
import { nextCommand, openSubscriber, subscribeToCommands } from './command-client.js';
import { addDevices, startGateway, startReplica, until } from './gateway.js';

/** What could not be used at the start is taken up by itself, with what clients have meanwhile. */

const denied = [
  '$JS.API.STREAM.CREATE.KV_svc-mqtt-sessions',
  '$JS.API.STREAM.CREATE.KV_svc-mqtt-replicas',
  '$JS.API.STREAM.CREATE.CMD',
  '$JS.API.STREAM.CREATE.SVC_MQTT_RETAINED',
  '$JS.API.STREAM.CREATE.SVC_MQTT_MESSAGES',
];
const streams = denied.map((subject) => subject.slice('$JS.API.STREAM.CREATE.'.length));
const users = (permissions: string) =>
  `authorization { users = [ { user: admin, password: admin },
    { user: gateway, password: gateway${permissions} } ] }`;

test('streams and buckets that could not be made at the start are taken up when they can, with the sessions of then', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished, {
    nats: { configExtra: users(`, permissions: { publish: { deny: ${JSON.stringify(denied)} } }`) },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway', ACL: 'open' },
  });
  const { server, nats } = gateway;
  const unusable = () => server.log.filter(({ event }) => event === 'state_stream_unusable');
  expect(
    unusable()
      .map(({ stream }) => stream)
      .sort(),
  ).toEqual(streams.filter((name) => name !== 'CMD').sort());
  expect(server.count('commands_not_stored')).toBe(1);
  const [here, away] = await addDevices(server.httpPort, 2);
  if (here === undefined || away === undefined) throw new Error('no devices');
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, here);
  await subscribeToCommands(client, here);
  const { client: leaving } = await openSubscriber(onTestFinished, server.mqttPort, away);
  await subscribeToCommands(leaving, away);
  leaving.send(disconnectPacket);
  await leaving.waitClosed();
  const observer = await connect({ servers: nats.url, user: 'admin', pass: 'admin' });
  onTestFinished(() => observer.close());
  observer.publish(`cmd.${here.id}.go`, 'passed on');
  expect((await nextCommand(client)).payload).toBe('passed on');

  await nats.reconfigure(users(''));
  const ready = async () => await (await fetch(`http://127.0.0.1:${server.httpPort}/readyz`)).text();
  await until('all can be used', async () => !/cannot be used|in memory|not stored/.test(await ready()));
  for (const name of streams.filter((each) => each !== 'CMD')) {
    expect(unusable().filter(({ stream }) => stream === name)).toHaveLength(1);
    await server.waitFor('state_stream_usable', ({ stream }) => stream === name);
  }
  const metrics = await (await fetch(`http://127.0.0.1:${server.httpPort}/metrics`)).text();
  for (const name of streams.filter((each) => each !== 'CMD'))
    expect(metrics).toContain(`svc_mqtt_state_stream_up{stream="${name}"} 1`);
  const manager = await observer.jetstreamManager();
  await until('the sessions are stored', async () => {
    const { state } = await manager.streams.info('KV_svc-mqtt-sessions');
    return state.messages === 2;
  });

  const stream = observer.jetstream();
  await stream.publish(`cmd.${here.id}.go`, 'stored');
  expect((await nextCommand(client)).payload).toBe('stored');
  await stream.publish(`cmd.${away.id}.go`, 'kept');
  await server.end('SIGKILL');
  await stream.publish(`cmd.${here.id}.go`, 'kept');
  const other = await startReplica(onTestFinished, gateway);
  for (const device of [here, away]) {
    const back = await openSubscriber(onTestFinished, other.mqttPort, device);
    expect(back.sessionPresent).toBe(true);
    let { payload, dup } = await nextCommand(back.client);
    // What was acknowledged just before the kill may come again.
    while (dup && payload === 'stored') ({ payload, dup } = await nextCommand(back.client));
    expect(payload).toBe('kept');
  }
});

test('of a session in memory and one that is stored, that of the connection stays, else the stored one', async ({
  onTestFinished,
}) => {
  const deny = `, permissions: { publish: { deny: ["$JS.API.STREAM.INFO.KV_svc-mqtt-sessions"] } }`;
  const gateway = await startGateway(onTestFinished, {
    nats: { configExtra: users(deny) },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway' },
  });
  const { server, nats } = gateway;
  const admin = { NATS_USER: 'admin', NATS_PASSWORD: 'admin' };
  const beside = await startReplica(onTestFinished, gateway, admin);
  const [here, away] = await addDevices(server.httpPort, 2);
  if (here === undefined || away === undefined) throw new Error('no devices');
  for (const device of [here, away]) {
    const { client } = await openSubscriber(onTestFinished, beside.mqttPort, device);
    await subscribeToCommands(client, device, 1);
    client.send(disconnectPacket);
    await client.waitClosed();
  }
  const { client, sessionPresent } = await openSubscriber(onTestFinished, server.mqttPort, here);
  expect(sessionPresent).toBe(false);
  await subscribeToCommands(client, here, 0);
  const { client: leaving } = await openSubscriber(onTestFinished, server.mqttPort, away);
  await subscribeToCommands(leaving, away, 0);
  leaving.send(disconnectPacket);
  await leaving.waitClosed();

  await nats.reconfigure(users(''));
  await server.waitFor('state_stream_usable', ({ stream }) => stream === 'KV_svc-mqtt-sessions');
  const observer = await connect({ servers: nats.url, user: 'admin', pass: 'admin' });
  onTestFinished(() => observer.close());
  const manager = await observer.jetstreamManager();
  const read = async ({ id }: { id: string }) =>
    (
      await manager.streams.getMessage('KV_svc-mqtt-sessions', {
        last_by_subj: `$KV.svc-mqtt-sessions.${id}.c`,
      })
    ).json<{ epoch: number; owner?: string; subscriptions: { qos: number }[] }>();
  await until('the one that is connected is stored', async () => (await read(here)).owner !== undefined);
  expect(await read(here)).toMatchObject({ epoch: 2, subscriptions: [{ qos: 0 }] });
  expect(await read(away)).toMatchObject({ epoch: 1, subscriptions: [{ qos: 1 }] });
  await observer.jetstream().publish(`cmd.${here.id}.go`, 'still here');
  expect((await nextCommand(client)).payload).toBe('still here');
});

test('the bucket of the replicas is made again when it is deleted, and sessions of those that live stay theirs', async ({
  onTestFinished,
}) => {
  const gateway = await startGateway(onTestFinished);
  const { server } = gateway;
  const other = await startReplica(onTestFinished, gateway);
  const [mine, others] = await addDevices(server.httpPort, 2);
  if (mine === undefined || others === undefined) throw new Error('no devices');
  await openSubscriber(onTestFinished, server.mqttPort, mine);
  await openSubscriber(onTestFinished, other.mqttPort, others);
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams: manager } = await observer.jetstreamManager();
  const count = async () =>
    (await manager.info('KV_svc-mqtt-replicas').catch(() => undefined))?.state.messages ?? 0;
  await until('both are there', async () => (await count()) === 2);
  await manager.delete('KV_svc-mqtt-replicas');
  await server.waitFor('state_stream_anew', ({ stream }) => stream === 'KV_svc-mqtt-replicas');
  await until('both are there again', async () => (await count()) === 2);
  await other.end('SIGKILL');
  const ownerOf = async ({ id }: { id: string }) =>
    (
      await manager.getMessage('KV_svc-mqtt-sessions', { last_by_subj: `$KV.svc-mqtt-sessions.${id}.c` })
    ).json<{ owner?: string }>().owner;
  await until('the session of the dead one is away', async () => (await ownerOf(others)) === undefined);
  expect(await ownerOf(mine)).toBeDefined();
  expect((await server.waitFor('sessions_parted')).sessions).toBe(1);
});

test("the user's own stream of commands is missed when it is deleted, not made, and taken up when it is back", async ({
  onTestFinished,
}) => {
  const mine = { name: 'MINE', subjects: ['cmd.>'], allow_direct: true };
  const gateway = await startGateway(onTestFinished, {
    async beforeServer(url) {
      const early = await connect({ servers: url });
      await (await early.jetstreamManager()).streams.add(mine);
      await early.close();
    },
  });
  const { server } = gateway;
  const [here, away] = await addDevices(server.httpPort, 2);
  if (here === undefined || away === undefined) throw new Error('no devices');
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, here);
  await subscribeToCommands(client, here);
  const { client: leaving } = await openSubscriber(onTestFinished, server.mqttPort, away);
  await subscribeToCommands(leaving, away);
  leaving.send(disconnectPacket);
  await leaving.waitClosed();
  const observer = await connect({ servers: gateway.nats.url });
  onTestFinished(() => observer.close());
  const { streams: manager } = await observer.jetstreamManager();
  await manager.delete('MINE');
  expect(await server.waitFor('command_stream_unusable')).toMatchObject({
    reason: 'no stream takes cmd.*.>',
  });
  expect(await (await fetch(`http://127.0.0.1:${server.httpPort}/readyz`)).text()).toContain(
    'commands are not delivered',
  );
  expect(await manager.info('CMD').catch(() => 'none')).toBe('none');
  await manager.add(mine);
  await server.waitFor('command_stream_usable');
  const stream = observer.jetstream();
  for (const device of [here, away]) await stream.publish(`cmd.${device.id}.go`, 'of the new one');
  expect((await nextCommand(client)).payload).toBe('of the new one');
  const back = await openSubscriber(onTestFinished, server.mqttPort, away);
  expect((await nextCommand(back.client)).payload).toBe('of the new one');
});
