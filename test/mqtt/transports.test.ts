import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createAuthority,
  openTestCertificates,
  type TestAuthority,
  type TestCertificates,
} from '../support/certificates.js';
import { allConnections, type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { connectPacket, openRawClient, publishPacket } from '../support/raw-client.js';

let deviceAuthority: TestAuthority;
let certificates: TestCertificates;
let controlled: ControlledBroker;
let clients: MqttClient[];

beforeEach(async () => {
  clients = [];
  deviceAuthority = await createAuthority('Devices');
  certificates = await openTestCertificates({ clientCa: deviceAuthority.cert });
  controlled = await openControlledBroker(
    { acl: 'open', wsPort: 0, wssPort: 0, maxOutgoingBytes: 16 * 1_048_576, maxQueuedMessages: 20_000 },
    { certificates: certificates.store },
  );
});

afterEach(async () => {
  await Promise.all(clients.map((client) => client.endAsync(true)));
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
  await certificates.close();
});

describe.each([
  ['mqtt', 'tcp', ''],
  ['mqtts', 'tls', ''],
  ['ws', 'ws', '/mqtt'],
  ['wss', 'wss', '/mqtt'],
] as const)('MQTT.js over %s', (scheme, transport, path) => {
  async function connected(options: IClientOptions = {}): Promise<MqttClient> {
    const { id, password } = controlled.device;
    const ca = certificates.authority.cert;
    const client = await mqtt.connectAsync(
      `${scheme}://localhost:${controlled.broker.ports[transport]}${path}`,
      { username: id, password, reconnectPeriod: 0, ca, wsOptions: { ca }, ...options },
    );
    clients.push(client);
    return client;
  }

  it.skipIf(process.platform !== 'linux')(
    'has TCP probe a silent client whose keep alive is 0, each after a time of its own, and no other',
    async () => {
      const port = controlled.broker.ports[transport] as number;
      for (const keepalive of [0, 0, 30]) await connected({ keepalive });
      await vi.waitFor(() => {
        const delays = readProbeDelays(port);
        expect(delays).toHaveLength(3);
        const probed = delays.filter((sec) => sec !== undefined);
        expect(probed).toHaveLength(2);
        for (const sec of probed) expect(sec > 50 && sec <= 240, `${sec} s`).toBe(true);
        expect(probed[0]).not.toBe(probed[1]);
      });
    },
  );

  it('publishes with every QoS and gets what it subscribed to, large messages included', async () => {
    const client = await connected();
    const payloads: Buffer[] = [];
    client.on('message', (_topic, payload) => payloads.push(payload));
    await client.subscribeAsync('echo/#', { qos: 2 });
    for (const qos of [0, 1, 2] as const) await client.publishAsync(`echo/${qos}`, `payload ${qos}`, { qos });
    const large = Buffer.alloc(700_000, 'large');
    await client.publishAsync('echo/large', large, { qos: 1 });
    await vi.waitFor(() => expect(payloads).toHaveLength(4));
    expect(payloads.slice(0, 3).map(String)).toEqual(['payload 0', 'payload 1', 'payload 2']);
    expect(payloads[3]?.equals(large)).toBe(true);
    await client.endAsync();
    await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
    expect(controlled.broker.counters.closed['client-disconnect']).toBe(1);
  });

  it('sends and gets thousands of messages, in order', async () => {
    const count = 3_000;
    const subscriber = await connected();
    const numbers: number[] = [];
    subscriber.on('message', (_topic, payload) => numbers.push(Number(payload)));
    await subscriber.subscribeAsync('many', { qos: 1 });
    const publisher = await connected();
    await Promise.all(
      Array.from({ length: count }, (_, index) => publisher.publishAsync('many', `${index}`, { qos: 1 })),
    );
    await vi.waitFor(() => expect(numbers).toHaveLength(count), 120_000);
    expect(numbers).toEqual(Array.from({ length: count }, (_, index) => index));
  });

  it('is told of a wrong password with code 4', async () => {
    await expect(connected({ password: 'wrong' })).rejects.toMatchObject({ code: 4 });
  });

  it('is listed with transport and address', async () => {
    const client = await connected({ clientId: 'listed' });
    expect(client.connected).toBe(true);
    const { connections } = controlled.core.live.list(allConnections);
    expect(connections).toMatchObject([
      { transport, address: expect.stringMatching(/^127\.0\.0\.1:\d+$/), client: 'listed' },
    ]);
  });
});

const mosquittoMissing = spawnSync('mosquitto_pub', ['--help']).error !== undefined;
const inCi = process.env.CI === 'true';

it('mosquitto_pub is installed', ({ skip }) => {
  if (!inCi) skip(mosquittoMissing, 'not installed');
  expect(mosquittoMissing).toBe(false);
});

describe.skipIf(mosquittoMissing && !inCi)('mosquitto_pub over TLS', () => {
  async function publish(...login: string[]): Promise<{ status: number | null; stderr: string }> {
    const ca = await certificates.files.write('server-ca.pem', certificates.authority.cert);
    const port = String(controlled.broker.ports.tls);
    const target = [
      '-h',
      'localhost',
      '-p',
      port,
      '--cafile',
      ca,
      '-q',
      '1',
      '-t',
      'raw/dev1',
      '-m',
      'from mosquitto',
    ];
    const child = spawn('mosquitto_pub', [...target, ...login], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, stderr }));
    });
  }

  const taken = () => controlled.taken.map(({ payload }) => String(payload));

  it('logs in with a password', async () => {
    const { id, password } = controlled.device;
    expect(await publish('-u', id, '-P', password)).toEqual({ status: 0, stderr: '' });
    expect(taken()).toEqual(['from mosquitto']);
  });

  it('logs in with a certificate alone', async () => {
    const { cert, key } = await deviceAuthority.issue({ commonName: 'dev1', use: 'client' });
    const files = [
      '--cert',
      await certificates.files.write('dev1.pem', cert),
      '--key',
      await certificates.files.write('dev1.key', key),
    ];
    expect(await publish(...files)).toEqual({ status: 0, stderr: '' });
    expect(taken()).toEqual(['from mosquitto']);
    expect((await publish(...files, '-u', 'dev2')).status).not.toBe(0);
    expect(controlled.broker.counters.refused['certificate-mismatch']).toBe(1);
  });

  it('does not trust a server of another authority', async () => {
    await certificates.files.write('other.pem', (await createAuthority()).cert);
    const { id, password } = controlled.device;
    const { status } = await publish(
      '-u',
      id,
      '-P',
      password,
      '--cafile',
      certificates.files.path('other.pem'),
    );
    expect(status).not.toBe(0);
    expect(controlled.broker.counters.accepted).toBe(0);
  });
});

it.skipIf(process.platform !== 'linux')(
  'has TCP probe a client that is not read for longer than its keep alive, and no longer when it is read',
  async () => {
    const { broker, device, port } = controlled;
    const client = await openRawClient(port);
    client.send(connectPacket({ userName: device.id, password: device.password, keepaliveSec: 2 }));
    await client.next();
    controlled.setFull(true);
    client.send(publishPacket({ topic: `raw/${device.id}`, qos: 1, payload: 'x'.repeat(100_000) }));
    const probed = () => readProbeDelays(broker.ports.tcp as number).map((sec) => sec !== undefined);
    expect(probed()).toEqual([false]);
    await vi.waitFor(() => expect(probed()).toEqual([true]));
    controlled.setFull(false);
    await vi.waitFor(() => expect(probed()).toEqual([false]));
    client.destroy();
  },
);

/**
 * Seconds until the system probes each connection that a port has, undefined: it does not. See proc(5), `/proc/net/tcp`:
 * timer 2 is the one of keep-alive, and its time is in hundredths of a second.
 */
function readProbeDelays(port: number): (number | undefined)[] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const established = '01';
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && state === established)
    .map(([, , , , , timer = '']) => {
      const [kind, when = ''] = timer.split(':');
      return kind === '02' ? Number.parseInt(when, 16) / 100 : undefined;
    });
}
