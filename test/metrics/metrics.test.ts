import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import mqtt from 'mqtt';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { addDevice } from '../faults/gateway.js';
import { createAuthority, openTestFiles } from '../support/certificates.js';
import { readMetricsPage, startReplica } from './replica.js';

describe('GET /metrics', () => {
  it('counts what a real client did', async () => {
    const { server } = await startReplica(onTestFinished, { ACL: 'open' });
    const { http, mqtt: port } = server.ports;
    const device = await addDevice(http);
    const credentials = { username: device.id, password: device.password, reconnectPeriod: 0 };
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, credentials);
    onTestFinished(() => client.endAsync(true));
    await expect(
      mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { ...credentials, password: 'wrong' }),
    ).rejects.toThrow();
    await client.subscribeAsync('t/#', { qos: 1 });
    await client.publishAsync('t/0', 'abc', { qos: 0 });
    await client.publishAsync('t/1', 'defgh', { qos: 1 });
    await client.publishAsync('t/1', 'ijklm', { qos: 1 });
    await client.publishAsync('t/2', '1234567', { qos: 2 });

    const page = await vi.waitFor(async () => {
      const read = await readMetricsPage(http);
      expect(read.value('svc_mqtt_messages_total', { direction: 'out', qos: '1' })).toBe(3);
      return read;
    });
    const messages = (direction: string, qos: string) =>
      page.value('svc_mqtt_messages_total', { direction, qos });
    expect([messages('in', '0'), messages('in', '1'), messages('in', '2')]).toEqual([1, 2, 1]);
    expect([messages('out', '0'), messages('out', '2')]).toEqual([1, 0]);
    expect(page.value('svc_mqtt_payload_bytes_total', { direction: 'in', qos: '1' })).toBe(10);
    expect(page.value('svc_mqtt_connections', { transport: 'tcp' })).toBe(1);
    expect(page.value('svc_mqtt_connects_total', { result: 'accepted' })).toBe(1);
    expect(page.value('svc_mqtt_connects_total', { result: 'bad-credentials' })).toBe(1);
    expect(page.value('svc_mqtt_closes_total', { reason: 'bad-credentials' })).toBe(1);
    expect(page.value('svc_mqtt_messages_stored_total')).toBe(3);
    expect(page.value('svc_mqtt_messages_unconfirmed_total')).toBe(1);
    expect(page.value('svc_mqtt_in_flight_messages')).toBe(0);
    expect(page.value('svc_mqtt_database_up')).toBe(1);
    expect(page.value('svc_mqtt_nats_up')).toBe(1);
    expect(page.value('svc_mqtt_device_cache_size')).toBe(1);
    expect(page.value('svc_mqtt_device_lookups_total', { result: 'hit' })).toBe(1);
    expect(page.value('svc_mqtt_device_lookups_total', { result: 'miss' })).toBe(1);
    expect(page.value('svc_mqtt_build_info')).toBe(1);
    expect(page.value('process_resident_memory_bytes')).toBeGreaterThan(1_000_000);
    expect(page.names).toContain('nodejs_eventloop_lag_p99_seconds');
    if (process.platform === 'linux') expect(page.value('process_open_fds')).toBeGreaterThan(10);
    // They would list every connection at each scrape.
    expect([...page.names].filter((name) => name.startsWith('nodejs_active'))).toEqual([]);

    const latency = page.histogram('svc_mqtt_ack_latency_seconds');
    expect(latency.count).toBe(3);
    expect(latency.sum).toBeGreaterThan(0);
    expect(latency.sum).toBeLessThan(3 * 33);
    const counts = Object.entries(latency.buckets)
      .toSorted(([one], [other]) => Number(one.replace('+', '')) - Number(other.replace('+', '')))
      .map(([, count]) => count);
    expect(counts.at(-1)).toBe(3);
    expect(counts).toEqual(counts.toSorted((one, other) => one - other));

    expect(page.text).not.toContain(device.id);
    expect(page.text).not.toContain(device.password);
  });

  it('counts connections by version of MQTT, and messages that a client of MQTT 5 was told are refused', async () => {
    const { server } = await startReplica(onTestFinished);
    const { http, mqtt: port } = server.ports;
    const device = await addDevice(http);
    for (const protocolVersion of [4, 5, 5] as const) {
      const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
        username: device.id,
        password: device.password,
        protocolVersion,
        reconnectPeriod: 0,
      });
      onTestFinished(() => client.endAsync(true));
      if (protocolVersion === 5)
        await expect(client.publishAsync('raw/another', 'x', { qos: 1 })).rejects.toMatchObject({
          code: 0x87,
        });
    }
    const page = await readMetricsPage(http);
    const connections = ['3.1', '3.1.1', '5.0'].map((protocol) =>
      page.value('svc_mqtt_protocol_connections', { protocol }),
    );
    expect(connections).toEqual([0, 1, 2]);
    expect(page.value('svc_mqtt_refusals_told_total', { reason: 'publish-denied' })).toBe(2);
    expect(page.value('svc_mqtt_messages_refused_total', { reason: 'policy' })).toBe(2);
    expect(page.value('svc_mqtt_closes_total', { reason: 'publish-denied' })).toBe(0);
  });

  it('types and explains every metric, and says what is dropped and held while NATS is away', async () => {
    const { server, nats } = await startReplica(onTestFinished);
    const { http, mqtt: port } = server.ports;
    const device = await addDevice(http);
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
      username: device.id,
      password: device.password,
    });
    onTestFinished(() => client.endAsync(true));
    await nats.kill();
    await vi.waitFor(async () => {
      expect((await readMetricsPage(http)).value('svc_mqtt_nats_up')).toBe(0);
    });
    client.publish(`raw/${device.id}`, 'waits', { qos: 1 }, () => {});
    await client.publishAsync(`raw/${device.id}`, 'lost', { qos: 0 });
    const page = await vi.waitFor(async () => {
      const read = await readMetricsPage(http);
      expect(read.value('svc_mqtt_messages_dropped_total', { reason: 'nats-away' })).toBe(1);
      return read;
    });
    expect(page.value('svc_mqtt_in_flight_messages')).toBe(1);
    expect(page.value('svc_mqtt_in_flight_bytes')).toBeGreaterThan(5);
    expect(page.histogram('svc_mqtt_ack_latency_seconds').count).toBe(0);
    const named = [...page.text.matchAll(/^# TYPE (svc_mqtt_\w+) (\w+)$/gm)];
    expect(named.length).toBeGreaterThan(20);
    for (const [, name, type] of named) {
      expect(page.text, name).toMatch(new RegExp(`^# HELP ${name} \\S.*\\S$`, 'm'));
      expect(name?.endsWith('_total'), name).toBe(type === 'counter');
    }
  });

  it('says when certificates expire, and nothing of certificates where there are none', async () => {
    const files = await openTestFiles();
    onTestFinished(() => files.remove());
    const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway', expiresInDays: 3 });
    const TLS_CERT = await files.write('cert.pem', cert);
    const { server } = await startReplica(onTestFinished, {
      TLS_CERT,
      TLS_KEY: await files.write('key.pem', key),
      MQTTS_PORT: '0',
    });
    const name = 'svc_mqtt_certificate_expiry_timestamp_seconds';
    const expires = (await readMetricsPage(server.ports.http)).value(name, { file: TLS_CERT });
    expect(expires).toBe(Date.parse(new X509Certificate(cert).validTo) / 1_000);
    const without = await startReplica(onTestFinished);
    const page = await readMetricsPage(without.server.ports.http);
    expect(page.text).toContain(`# TYPE ${name} gauge`);
    expect(page.value(name)).toBeUndefined();
  });

  it('counts a packet that is too large as a message when its client had logged in, and only then', async () => {
    const { server } = await startReplica(onTestFinished, { MAX_PACKET_BYTES: '1024' });
    const { http, mqtt: port } = server.ports;
    const stranger = connect(Number(port), '127.0.0.1');
    onTestFinished(() => void stranger.destroy());
    // A CONNECT that says to be of 2 MiB.
    stranger.write(Buffer.from([0x10, 0x80, 0x80, 0x80, 0x01]));
    stranger.resume();
    await once(stranger, 'close');
    const before = await readMetricsPage(http);
    expect(before.value('svc_mqtt_connects_total', { result: 'packet-too-large' })).toBe(1);
    expect(before.value('svc_mqtt_messages_refused_total', { reason: 'too-large' })).toBe(0);

    const device = await addDevice(http);
    const credentials = { username: device.id, password: device.password, reconnectPeriod: 0 };
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, credentials);
    onTestFinished(() => client.endAsync(true));
    const closed = new Promise<void>((resolve) => client.once('close', resolve));
    client.publish(`raw/${device.id}`, Buffer.alloc(4_096), { qos: 1 }, () => {});
    await closed;
    const after = await readMetricsPage(http);
    expect(after.value('svc_mqtt_messages_refused_total', { reason: 'too-large' })).toBe(1);
  });

  it('asks for the token, as the other routes do', async () => {
    const token = 'a-token-of-enough-length';
    const { server } = await startReplica(onTestFinished, { API_TOKEN: token });
    const url = `http://127.0.0.1:${server.ports.http}/metrics`;
    expect((await fetch(url)).status).toBe(401);
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  });
});
