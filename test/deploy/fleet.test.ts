import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'nats';
import { expect, test } from 'vitest';
import { addDevice, connected, openDatabase, publishAndWait, until } from '../faults/gateway.js';
import { askAgain, readStored } from '../support/load.js';
import { openRawClient } from '../support/raw-client.js';
import { connectPacket } from '../support/raw-packets.js';
import { startServerProcess } from '../support/server-process.js';
import { type ComposeFile, environmentOf } from './support/compose.js';
import { parseYaml, readText } from './support/files.js';
import { answersOk, findPlaces, runOnce, startFleetNats, startProgram } from './support/fleet.js';
import { works } from './support/programs.js';

const haproxy = 'haproxy';
const missing = !works(haproxy, ['-v']) && process.env.CI === undefined;
const file = parseYaml(readText('docker-compose.yml'))[0] as ComposeFile;

test('the fleet of docker-compose.yml, as processes of this machine', async ({ skip, onTestFinished }) => {
  skip(missing, 'haproxy is not installed: the fleet is not started');
  const servers = ['nats-1', 'nats-2', 'nats-3'];
  const places = await findPlaces([
    ...servers.flatMap((name) => [`${name}:4222`, `${name}:6222`, `${name}:8222`]),
    ...['gateway-1', 'gateway-2'].flatMap((name) => [`${name}:1883`, `${name}:9091`]),
    '127.0.0.1:8404',
  ]);
  const front = await findPlaces(['mqtt', 'api']);

  const natsServers = await startFleetNats(onTestFinished, file, places);
  const nats = await connect({ port: places.portOf('nats-1:4222') });
  onTestFinished(() => nats.close());
  const { streams } = await askAgain(() => nats.jetstreamManager());

  // Its stream has three copies, and is made once: what its owner has changed stays.
  expect(await runOnce(file, 'fleet-stream', places)).toBe(0);
  const { config } = await askAgain(() => streams.info('RAW'));
  expect(config).toMatchObject({ num_replicas: 3, storage: 'file', discard: 'new', allow_atomic: true });
  await askAgain(() => streams.update('RAW', { max_msgs: 1_000_000 }));
  expect(await runOnce(file, 'fleet-stream', places)).toBe(0);
  expect((await askAgain(() => streams.info('RAW'))).config).toMatchObject({
    num_replicas: 3,
    max_msgs: 1_000_000,
  });

  const databaseUrl = await openDatabase(onTestFinished);
  const gateways = await Promise.all(
    ['gateway-1', 'gateway-2'].map(async (name) => {
      const { DATABASE_URL_FILE, ...env } = environmentOf(file.services[name] ?? {});
      const given = Object.entries(env).map(([variable, value]) => [variable, places.replace(value)]);
      const server = await startServerProcess({
        ...Object.fromEntries(given),
        DATABASE_URL: databaseUrl,
        MQTT_HOST: '127.0.0.1',
        MQTT_PORT: String(places.portOf(`${name}:1883`)),
        LISTEN_ADDR: `127.0.0.1:${places.portOf(`${name}:9091`)}`,
      });
      onTestFinished(async () => {
        await server.end('SIGKILL');
      });
      return server;
    }),
  );

  const directory = await mkdtemp(join(tmpdir(), 'svc-mqtt-haproxy-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const checked = (text: string) =>
    ['gateway-1', 'gateway-2'].reduce(
      (all, name) =>
        all.replace(
          `${name} ${name}:1883`,
          `${name} ${name}:1883 check port ${places.portOf(`${name}:9091`)}`,
        ),
      text,
    );
  await writeFile(
    join(directory, 'haproxy.cfg'),
    places
      .replace(checked(readText('deploy/haproxy.cfg')))
      .replace('bind :1883', `bind 127.0.0.1:${front.portOf('mqtt')}`)
      .replace('bind :9091', `bind 127.0.0.1:${front.portOf('api')}`)
      // A machine of tests has fewer open files.
      .replace('maxconn 20000', 'maxconn 200'),
  );
  const health = `http://127.0.0.1:${places.portOf('127.0.0.1:8404')}/healthz`;
  await startProgram(onTestFinished, haproxy, ['-db', '-f', join(directory, 'haproxy.cfg')], () =>
    answersOk(health),
  );

  // The API answers behind the balancer, for all replicas, and each of them takes a device, with the address that is the device's own.
  const device = await addDevice(front.portOf('api'));
  const hello = { userName: device.id, password: device.password };
  for (const [index, address] of ['127.0.0.2', '127.0.0.3'].entries()) {
    const client = await openRawClient(front.portOf('mqtt'), address);
    onTestFinished(() => client.destroy());
    client.send(connectPacket({ ...hello, clientId: `c${index}` }));
    expect((await client.next()).body[1]).toBe(0);
  }
  const connections = async () => {
    const answer = await fetch(`http://127.0.0.1:${front.portOf('api')}/connections`);
    return ((await answer.json()) as { connections: { replica: string; address: string }[] }).connections;
  };
  const list = await connections();
  expect(list.map(({ address }) => address.replace(/:\d+$/, '')).sort()).toEqual(['127.0.0.2', '127.0.0.3']);
  expect(new Set(list.map(({ replica }) => replica)).size).toBe(2);

  // One replica and one NATS server go: the device comes in again, and what it sends is stored by the two servers that are left.
  await gateways[0]?.end('SIGKILL');
  natsServers[2]?.kill('SIGKILL');
  // What is asked of the replica that goes has no answer.
  const isSeen = async () => (await connections().catch(() => [])).length === 1;
  await until('the balancer has seen it', isSeen);
  const client = await connected(onTestFinished, front.portOf('mqtt'), device, { clientId: 'again' });
  await publishAndWait(client, device, 'after the loss');
  expect(await readStored(`nats://127.0.0.1:${places.portOf('nats-2:4222')}`)).toEqual([
    { subject: `raw.${device.id}`, payload: 'after the loss' },
  ]);
});
