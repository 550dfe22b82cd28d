import { once } from 'node:events';
import { request } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import type { HttpLimits } from '../../src/server/http/limits.js';
import { openTestCertificates, type TestCertificates } from '../support/certificates.js';
import { call, startTestApi, type TestApi } from './support.js';

async function openSecureApi(
  limits: Partial<HttpLimits> = {},
): Promise<{ api: TestApi; certificates: TestCertificates }> {
  const certificates = await openTestCertificates();
  onTestFinished(() => certificates.close());
  const api = await startTestApi({ certificates: certificates.store, limits });
  onTestFinished(() => api.close());
  return { api, certificates };
}

function callSecurely(port: number, path: string, ca: string, method = 'GET', body?: string) {
  return new Promise<{ status: number; fingerprint: string; text: string }>((resolve, reject) => {
    const outgoing = request(
      { host: 'localhost', family: 4, port, path, method, ca, agent: false },
      (incoming) => {
        const { fingerprint256 } = (incoming.socket as ReturnType<typeof connect>).getPeerCertificate();
        let text = '';
        incoming.on('data', (chunk) => {
          text += chunk;
        });
        incoming.on('end', () =>
          resolve({ status: incoming.statusCode ?? 0, fingerprint: fingerprint256, text }),
        );
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

test('with a certificate the API is answered over HTTPS, local access included', async () => {
  const { api, certificates } = await openSecureApi();
  const { cert } = certificates.authority;
  expect(await callSecurely(api.port, '/readyz', cert)).toMatchObject({ status: 200 });
  expect(await callSecurely(api.port, '/devices', cert, 'POST', '{"type":"sensor"}')).toMatchObject({
    status: 200,
  });
  expect(api.rows.size).toBe(1);
});

test('plain HTTP is not answered', async () => {
  const { api } = await openSecureApi();
  await expect(call(api.port, 'GET', '/readyz')).rejects.toThrow();
});

test('TLS 1.1 is refused', async () => {
  const { api, certificates } = await openSecureApi();
  const socket = connect({
    port: api.port,
    ca: certificates.authority.cert,
    servername: 'localhost',
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  });
  const error = await new Promise<Error>((resolve, reject) => {
    socket.once('error', resolve);
    socket.once('secureConnect', () => reject(new Error('accepted')));
  });
  expect((error as NodeJS.ErrnoException).code).toMatch(/PROTOCOL_VERSION/);
});

test('TLS 1.2 cannot be negotiated again: the connection ends', async () => {
  // So that nothing else ends it.
  const never = 3_600_000;
  const { api, certificates } = await openSecureApi({
    headersTimeoutMs: never,
    requestTimeoutMs: never,
    inactivityTimeoutMs: never,
  });
  const socket = connect({
    port: api.port,
    host: '127.0.0.1',
    ca: certificates.authority.cert,
    servername: 'localhost',
    maxVersion: 'TLSv1.2',
  });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  const closed = once(socket, 'close');
  socket.resume();
  socket.renegotiate({}, () => {});
  await closed;
});

test('a changed certificate is used for new connections', async () => {
  const { api, certificates } = await openSecureApi();
  const { cert } = certificates.authority;
  const before = await callSecurely(api.port, '/readyz', cert);
  await certificates.renew();
  const after = await callSecurely(api.port, '/readyz', cert);
  expect(after.fingerprint).not.toBe(before.fingerprint);
  expect(after.fingerprint).toBe(certificates.store.info.fingerprint);
});

test('close() does not wait for a handshake that nobody ends', async () => {
  const { api } = await openSecureApi();
  const socket = connectTcp(api.port, '127.0.0.1');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  // The server has accepted it once it has answered a later one.
  await expect(call(api.port, 'GET', '/readyz')).rejects.toThrow();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await api.close();
  await closed;
});
