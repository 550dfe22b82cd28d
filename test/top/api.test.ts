import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { openTopApi, sendOverHttp } from '../../src/cli/top/api.js';
import { toSnapshotText } from '../../src/cli/top/snapshot.js';
import { createAuthority } from '../support/certificates.js';
import { pageOf, stats } from './data.js';

test('a certificate that cannot be trusted is told as such', async () => {
  const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway.example' });
  const server = createServer({ cert, key }, (_request, response) => response.end('{}'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  await expect(openTopApi(sendOverHttp(`https://127.0.0.1:${port}`, 'a-key')).stats()).rejects.toMatchObject({
    code: 'API_UNREACHABLE',
    suggestion: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
  });
});

test.each([
  [0, 'No device is connected.'],
  [1, 'device0000'],
])('a snapshot of %i connections shows that', (count, shown) => {
  const request = { filter: '', sort: 'rate', descending: true, offset: 0, limit: 50 } as const;
  expect(toSnapshotText({ stats, page: pageOf(request, count) }, request, 120)).toContain(shown);
});
