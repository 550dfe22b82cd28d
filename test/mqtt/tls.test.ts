import { connect as connectTcp } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { BrokerConfig } from '../../src/server/mqtt/broker-options.js';
import type { CloseReason } from '../../src/server/mqtt/protocol/close-reason.js';
import { openTestCertificates, type TestCertificates } from '../support/certificates.js';
import { allConnections, type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { connectPacket, openRawClient, publishPacket, speakRaw } from '../support/raw-client.js';

let certificates: TestCertificates;
let controlled: ControlledBroker;
const sockets: { destroy(): void }[] = [];
const clients: MqttClient[] = [];

async function open(
  config: Partial<BrokerConfig> = {},
  options: Parameters<typeof openTestCertificates>[0] = {},
): Promise<void> {
  certificates = await openTestCertificates(options);
  controlled = await openControlledBroker(
    { wssPort: 0, ...config },
    { certificates: certificates.store, log: certificates.log.log },
  );
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
  await certificates.close();
});

const refused = (reason: CloseReason) => controlled.broker.counters.refused[reason];

function dial(options: ConnectionOptions = {}): TLSSocket {
  const socket = connect({
    host: '127.0.0.1',
    port: controlled.broker.ports.tls ?? 0,
    servername: 'localhost',
    ca: certificates.authority.cert,
    ...options,
  });
  socket.on('error', () => {});
  sockets.push(socket);
  return socket;
}

function login(clientId = 'test'): Buffer {
  const { id, password } = controlled.device;
  return connectPacket({ userName: id, password, clientId });
}

describe('TLS', () => {
  it('is spoken from version 1.2 on', async () => {
    await open();
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const client = await speakRaw(dial({ minVersion: version, maxVersion: version }));
      client.send(login());
      expect((await client.next()).body).toEqual(Buffer.from([0, 0]));
    }
    await expect(
      speakRaw(dial({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' })),
    ).rejects.toThrow();
    await vi.waitFor(() => expect(refused('tls-handshake')).toBe(1));
  });

  it.each(['before CONNECT', 'after it'])(
    '1.2 cannot be negotiated again, %s: the connection ends',
    async (when) => {
      // So that nothing else ends it.
      await open({ connectTimeoutSec: 3_600 });
      const client = await speakRaw(dial({ maxVersion: 'TLSv1.2' }));
      if (when === 'after it') {
        client.send(login());
        await client.next();
      }
      (client.socket as TLSSocket).renegotiate({}, () => {});
      await client.waitClosed();
      await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
    },
  );

  it('is needed on its port', async () => {
    await open();
    const client = await openRawClient(controlled.broker.ports.tls ?? 0);
    client.send(login());
    await client.waitClosed();
    expect(refused('tls-handshake')).toBe(1);
    const line = certificates.log.lines.find(({ event }) => event === 'connect_refused');
    expect(line).toMatchObject({
      reason: 'tls-handshake',
      transport: 'tls',
      problem: expect.stringMatching(/^ERR_SSL_/),
    });
  });

  it('is waited for no longer than CONNECT_TIMEOUT_SEC', async () => {
    await open({ connectTimeoutSec: 1 });
    const [silent, halfway] = [
      await openRawClient(controlled.broker.ports.tls ?? 0),
      await openRawClient(controlled.broker.ports.wss ?? 0),
    ];
    halfway.send(Buffer.from([0x16, 3, 1, 2, 0, 1]));
    await Promise.all([silent.waitClosed(), halfway.waitClosed()]);
    expect(refused('handshake-timeout')).toBe(2);
  });

  it('that a client gives up is a lost connection', async () => {
    await open();
    const socket = connectTcp(controlled.broker.ports.tls ?? 0, '127.0.0.1');
    await new Promise((resolve) => socket.once('connect', resolve));
    await vi.waitFor(() => expect(controlled.broker.counters.opened).toBe(1));
    socket.destroy();
    await vi.waitFor(() => expect(refused('connection-lost')).toBe(1));
  });

  it('counts toward MAX_CONNECTIONS from the first byte', async () => {
    await open({ maxConnections: 1 });
    const socket = connectTcp(controlled.broker.ports.tls ?? 0, '127.0.0.1');
    sockets.push(socket);
    await vi.waitFor(() => expect(controlled.broker.counters.opened).toBe(1));
    await expect(speakRaw(dial())).rejects.toThrow();
    expect(refused('too-many-connections')).toBe(1);
  });

  it('is not there without a certificate, and neither are its ports', async () => {
    certificates = await openTestCertificates();
    controlled = await openControlledBroker({ wssPort: 0 });
    expect(controlled.broker.ports).toEqual({ tcp: expect.any(Number) });
  });

  it('is spoken where IPv4 comes mapped into IPv6, whose addresses are shown in their own form', async () => {
    await open({ mqttHost: '::' });
    const client = await speakRaw(dial());
    client.send(login());
    await client.next();
    const address = `127.0.0.1:${client.socket.localPort}`;
    expect([...controlled.core.live.list(allConnections).connections].map((row) => row.address)).toEqual([
      address,
    ]);
  });

  it('may be all there is', async () => {
    await open({ mqttTcp: false });
    expect(Object.keys(controlled.broker.ports)).toEqual(['tls', 'wss']);
    await expect(openControlledBroker({ mqttTcp: false })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('ends handshakes under way when the server stops', async () => {
    await open();
    const client = await openRawClient(controlled.broker.ports.tls ?? 0);
    await vi.waitFor(() => expect(controlled.broker.counters.opened).toBe(1));
    await controlled.broker.stopReading();
    await client.waitClosed();
    expect(refused('server-shutdown')).toBe(1);
  });

  it('a client that sends much and reads late gets every acknowledgement', async () => {
    await open({ maxInFlightPerClient: 8 });
    const client = await speakRaw(dial());
    client.send(login());
    await client.next();
    const payload = Buffer.alloc(40_000);
    const count = 200;
    client.socket.pause();
    for (let packetId = 1; packetId <= count; packetId += 1) {
      client.send(
        publishPacket({ topic: 'raw/dev1', payload: payload as unknown as string, qos: 1, packetId }),
      );
    }
    await vi.waitFor(() => expect(controlled.taken.length).toBe(count), 120_000);
    client.socket.resume();
    await vi.waitFor(() => expect(client.received).toHaveLength(1 + count), 120_000);
  });
});

it('what a client sent before it ended its side is still taken', async () => {
  await open();
  const client = await speakRaw(dial({ allowHalfOpen: true } as ConnectionOptions));
  client.send(login());
  await client.next();
  controlled.setFull(true);
  client.socket.end(publishPacket({ topic: 'raw/dev1', payload: 'last', qos: 1, packetId: 9 }));
  await vi.waitFor(() => expect(controlled.broker.waiting().packets).toBe(1));
  controlled.setFull(false);
  await vi.waitFor(() => expect(controlled.taken).toHaveLength(1));
});

describe('a certificate', () => {
  it('is replaced under load, time and again, without a lost connection or message', async () => {
    await open();
    let lost = 0;
    const { id, password } = controlled.device;
    const publishers = await Promise.all(
      (['mqtts', 'wss'] as const).flatMap((scheme) =>
        Array.from({ length: 4 }, async () => {
          const { tls, wss } = controlled.broker.ports;
          const ca = certificates.authority.cert;
          const url = scheme === 'wss' ? `wss://localhost:${wss}/mqtt` : `mqtts://localhost:${tls}`;
          const options = { username: id, password, reconnectPeriod: 0, family: 4, ca, wsOptions: { ca } };
          const client = await mqtt.connectAsync(url, options);
          clients.push(client);
          client.on('close', () => {
            lost += 1;
          });
          return client;
        }),
      ),
    );
    let running = true;
    let acknowledged = 0;
    const load = publishers.map(async (client) => {
      while (running) {
        await client.publishAsync('raw/dev1', 'load', { qos: 1 });
        acknowledged += 1;
      }
    });
    const seen = new Set<string>();
    for (let round = 0; round < 5; round += 1) {
      await certificates.renew();
      const before = acknowledged;
      const probe = await speakRaw(dial());
      const { fingerprint256 } = (probe.socket as TLSSocket).getPeerCertificate();
      expect(fingerprint256).toBe(certificates.store.info.fingerprint);
      seen.add(fingerprint256);
      probe.destroy();
      await vi.waitFor(() => expect(acknowledged).toBeGreaterThan(before + 20));
    }
    running = false;
    await Promise.all(load);
    expect(seen.size).toBe(5);
    expect(lost).toBe(0);
    expect(controlled.taken).toHaveLength(acknowledged);
    expect(certificates.log.count('certificate_reloaded')).toBe(5);
  });

  it('that is faulty changes nothing for those who connect', async () => {
    await open();
    const { fingerprint } = certificates.store.info;
    await certificates.files.write('key.pem', 'nonsense');
    await certificates.store.reload();
    const client = await speakRaw(dial());
    expect((client.socket as TLSSocket).getPeerCertificate().fingerprint256).toBe(fingerprint);
    expect(certificates.log.count('certificate_reload_failed')).toBe(1);
  });
});
