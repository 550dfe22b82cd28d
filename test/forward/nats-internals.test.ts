import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, headers, type Msg, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findHeader, headerTextOf } from '../../src/server/forward/connection/nats-headers.js';
import {
  type NatsErrorReport,
  openNatsInternals,
  subjectBytesOf,
  writeChunk,
} from '../../src/server/forward/connection/nats-internals.js';
import { until } from '../support/forwarding.js';
import { createCertificates } from '../support/nats-credentials.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

/** What the gateway uses of the NATS library beyond its public interface; another version must have it, or all of this is rewritten. */
describe('the nats library has inside', () => {
  let server: TestNatsServer;
  let connection: NatsConnection;
  beforeAll(async () => {
    server = await startNatsServer({
      configExtra: 'authorization { users = [{ user: u, password: p, permissions: { publish: ["ok"] } }] }',
    });
    connection = await connect({
      servers: server.url,
      user: 'u',
      pass: 'p',
      reconnect: false,
      ...writeChunk(12_345),
    });
  });
  afterAll(async () => {
    await connection.close();
    await server.stop();
  });

  it('a way to write commands, in order with its own', async () => {
    const received: string[] = [];
    connection.subscribe('ok', { callback: (_error, message) => void received.push(message.string()) });
    connection.publish('ok', '1');
    await connection.flush();
    const { send, socket } = openNatsInternals(connection);
    socket.cork();
    send(Buffer.from('PUB ok 1\r\n2\r\n'));
    socket.uncork();
    connection.publish('ok', '3');
    await connection.flush();
    expect(received).toEqual(['1', '2', '3']);
    expect(socket.writableLength).toBe(0);
  });

  it('errors and answers to PINGs, in the order in which the server says them', async () => {
    const internals = openNatsInternals(connection);
    const said: unknown[] = [];
    internals.onError(({ data, permissionContext }: NatsErrorReport) =>
      said.push([data, permissionContext?.operation, permissionContext?.subject]),
    );
    const ping = (name: string) => internals.ping({ resolve: () => said.push(name), reject: () => {} });
    ping('first');
    internals.send(Buffer.from('PUB denied 0\r\n\r\n'));
    ping('second');
    await until(() => said.includes('second'));
    expect(said).toEqual(['first', ['PERMISSIONS_VIOLATION', 'publish', 'denied'], 'second']);
    expect(internals.lastError).toBeUndefined();
  });

  it.each(['plain', 'TLS'])('an end at which what waits is dropped, also with %s', async (kind) => {
    const directory = await mkdtemp(join(tmpdir(), 'svc-mqtt-reset-'));
    const { ca, server: own } = createCertificates(directory);
    const [cert, key] = [own.cert, own.key].map((file) => JSON.stringify(file));
    const configExtra = kind === 'TLS' ? `tls { cert_file: ${cert}, key_file: ${key} }` : '';
    const frozen = await startNatsServer({ configExtra });
    const tls = kind === 'TLS' ? { tls: { caFile: ca } } : {};
    const held = await connect({ servers: frozen.url, reconnect: false, ...tls });
    const { send, socket, reset } = openNatsInternals(held);
    await frozen.pause();
    const more = Buffer.from(`PUB ok 60000\r\n${'x'.repeat(60_000)}\r\n`);
    for (let given = 0; given < 400; given += 1) send(more);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(socket.writableLength).toBeGreaterThan(1_000_000);
    reset();
    // Neither this nor what waited may fail where nobody listens: that would end the process.
    send(Buffer.from('PING\r\n'));
    await held.closed();
    frozen.resume();
    await frozen.stop();
    await rm(directory, { recursive: true, force: true });
  });

  it('the bytes of a subject', async () => {
    const received: Msg[] = [];
    connection.subscribe('ok', { callback: (_error, message) => void received.push(message) });
    connection.publish('ok');
    await connection.flush();
    await until(() => received.length === 1);
    expect(Buffer.from(subjectBytesOf(received[0] as Msg) ?? []).toString()).toBe('ok');
  });

  it('the text of a header block', async () => {
    const received: Msg[] = [];
    connection.subscribe('ok', { callback: (_error, message) => void received.push(message) });
    const fields = headers();
    fields.set('One', ' 1 ');
    fields.append('Zwei', 'zwö:lf');
    connection.publish('ok', 'payload', { headers: fields });
    connection.publish('ok');
    await connection.flush();
    await until(() => received.length === 2);
    const [text = '', none] = received.map(headerTextOf);
    expect(['One', 'Zwei', 'Two', 'zwö'].map((name) => findHeader(text, name))).toEqual([
      '1',
      'zwö:lf',
      '',
      '',
    ]);
    expect(none).toBe('');
  });

  it('a way to go on behind what a callback throws', async () => {
    const own = await connect({ servers: server.url, user: 'u', pass: 'p', reconnect: false });
    const thrown: unknown[] = [];
    openNatsInternals(own).onThrow((error) => thrown.push(error));
    const received: string[] = [];
    own.subscribe('ok', {
      callback(_error, message) {
        received.push(message.string());
        if (received.length === 1) throw new Error('a defect');
      },
    });
    for (const text of ['1', '2']) own.publish('ok', text);
    await own.flush();
    expect(received).toEqual(['1', '2']);
    expect(thrown).toEqual([new Error('a defect')]);
    await own.close();
  });

  it('the size of a write', () => {
    expect((connection as unknown as { protocol: { pendingLimit: number } }).protocol.pendingLimit).toBe(
      12_345,
    );
  });
});
