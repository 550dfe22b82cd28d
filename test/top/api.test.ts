import { once } from 'node:events';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { sendOverHttp } from '../../src/cli/store/api-send.js';
import { openLiveApi } from '../../src/cli/store/live-api.js';
import { toSnapshotText } from '../../src/cli/top/snapshot.js';
import { createAuthority } from '../support/certificates.js';
import { pageOf, stats } from './data.js';

test('a certificate that cannot be trusted is told as such', async () => {
  const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway.example' });
  const server = createServer({ cert, key }, (_request, response) => response.end('{}'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  await expect(openLiveApi(sendOverHttp(`https://127.0.0.1:${port}`, 'a-key')).stats()).rejects.toMatchObject(
    {
      code: 'API_UNREACHABLE',
      suggestion: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    },
  );
});

test('a port without TLS is told as such', async () => {
  const server = createPlainServer((_request, response) => response.end('{}'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const url = `https://127.0.0.1:${port}`;
  await expect(openLiveApi(sendOverHttp(url, 'a-key')).stats()).rejects.toMatchObject({
    code: 'API_UNREACHABLE',
    message: `${url} does not answer: what listens there does not speak TLS`,
    suggestion: expect.stringContaining('http://'),
  });
});

test('a snapshot with nothing that the filter matches tells of no key', () => {
  const request = { filter: 'nobody', sort: 'rate', descending: true, offset: 0, limit: 50 } as const;
  const text = toSnapshotText({ stats, page: pageOf(request, 0) }, request, 120);
  expect(text).toMatch(/No connection matches “nobody”\.\n/);
});

test.each([
  [0, 'No device is connected.'],
  [1, 'device0000'],
])('a snapshot of %i connections shows that', (count, shown) => {
  const request = { filter: '', sort: 'rate', descending: true, offset: 0, limit: 50 } as const;
  expect(toSnapshotText({ stats, page: pageOf(request, count) }, request, 120)).toContain(shown);
});
