import { once } from 'node:events';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { sumStats } from '../../src/api/sum-stats.js';
import { sendOverHttp } from '../../src/cli/store/api-send.js';
import { openLiveApi } from '../../src/cli/store/live-api.js';
import { toSnapshotText } from '../../src/cli/top/snapshot.js';
import { toTopStats } from '../../src/cli/top/top-stats.js';
import { createAuthority } from '../support/certificates.js';
import { fleet, pageOf, stats } from './data.js';

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

test('several replicas are shown together, each connection with its own, and who does not answer', () => {
  const request = { filter: '', sort: 'rate', descending: true, offset: 0, limit: 50 } as const;
  const [one] = fleet.replicas;
  if (one === undefined) throw new Error('no replica');
  const two = {
    ...one,
    replica: 'r2',
    stats: { ...stats, replica: 'r2', database: { ok: false, detail: 'is away' } },
  };
  const three = { ...one, replica: 'r3', ok: false, detail: 'did not answer within 500 ms', stats: null };
  const replicas = [one, two, three];
  const total = sumStats([stats, two.stats]);
  expect(total).toMatchObject({
    connections: { connected: 24_690 },
    ack_latency_ms: { p50: 0.42, p99: 12.3 },
    failures: { connects_refused: 24 },
    history: { messages_in: [2, 4, 6, 8], bytes_out: [] },
  });
  expect(total.recent_events.map(({ replica }) => replica)).toContain('r2');
  const together = toTopStats({ at: fleet.at, replicas, total });
  const page = { ...pageOf(request, 2), replicas };
  const text = toSnapshotText({ stats: together, page }, request, 200);
  expect(text).toContain('replicas 2 of 3 answer');
  expect(text).toContain('connections 24,690');
  expect(text).toContain('gateway-1: is away');
  expect(text).toMatch(/^ DEVICE +TYPE +REPLICA +CLIENT ID/m);
  expect(text).toMatch(/^ device0000 +sensor +r1 +client-0/m);
});

test('histories of different length end at the same second', () => {
  const history = (messages_in: number[]) => ({ ...stats, history: { ...stats.history, messages_in } });
  expect(sumStats([history([1, 2, 3]), history([10])]).history.messages_in).toEqual([1, 2, 13]);
  expect(sumStats([]).history.messages_in).toEqual([]);
});
