import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type CertificateStore, openCertificateStore } from '../../src/server/tls/certificate-store.js';
import {
  createAuthority,
  openTestFiles,
  type TestAuthority,
  type TestFiles,
} from '../support/certificates.js';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { openTestLog } from '../support/forwarding.js';

const transports = [
  ['mqtt', 'tcp', ''],
  ['mqtts', 'tls', ''],
  ['ws', 'ws', '/mqtt'],
  ['wss', 'wss', '/mqtt'],
] as const;

let controlled: ControlledBroker;
let authority: TestAuthority;
let files: TestFiles;
let certificates: CertificateStore;
const clients: MqttClient[] = [];

async function openBroker(): Promise<void> {
  files = await openTestFiles();
  authority = await createAuthority();
  const { cert, key } = await authority.issue();
  const log = openTestLog();
  certificates = await openCertificateStore({
    files: {
      cert: { setting: 'TLS_CERT', path: await files.write('cert.pem', cert) },
      key: { setting: 'TLS_KEY', path: await files.write('key.pem', key) },
      clientCa: undefined,
    },
    log: log.log,
  });
  controlled = await openControlledBroker(
    { acl: 'open', wsPort: 0, wssPort: 0, maxOutgoingBytes: 16 * 1_048_576, maxQueuedMessages: 20_000 },
    { certificates, log: log.log },
  );
}

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
  certificates.close();
  await files.remove();
});

describe.each(transports)('MQTT.js over %s', (scheme, transport, path) => {
  async function connected(options: IClientOptions = {}): Promise<MqttClient> {
    const { id, password } = controlled.device;
    const url = `${scheme}://localhost:${controlled.broker.ports[transport]}${path}`;
    const client = await mqtt.connectAsync(url, {
      username: id,
      password,
      reconnectPeriod: 0,
      family: 4,
      ca: authority.cert,
      wsOptions: { ca: authority.cert },
      ...options,
    } as IClientOptions);
    clients.push(client);
    return client;
  }

  it('publishes with every QoS and gets what it subscribed to, large messages included', async () => {
    await openBroker();
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
});
