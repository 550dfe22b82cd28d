import fc from 'fast-check';
import { Compile } from 'typebox/schema';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openTestDatabase, type TestDatabase } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

interface Operation {
  parameters?: { name: string; in: string; schema: object }[];
  requestBody?: { required?: boolean; content: { 'application/json': { schema: object } } };
}

let database: TestDatabase;
let api: RunningHttp;
let paths: Record<string, Record<string, Operation>>;
beforeAll(async () => {
  database = await openTestDatabase('embedded');
  api = await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: openConfig,
    log: openTestLog().log,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    readiness: () => allReady,
    view: openIdleFleet(),
    version: '1.2.3',
    policyRisks: async () => [],
  });
  await call(api.port, 'POST', '/devices', { body: '{"type":"sensor","id":"d1"}' });
  paths = (await call(api.port, 'GET', '/openapi.json')).json<{ paths: typeof paths }>().paths;
});
afterAll(async () => {
  await api?.close();
  await database?.close();
});

const at = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
const texts = fc.constantFrom(
  ...[
    '',
    'a',
    'A1',
    '-a',
    'a b',
    'a\u0007',
    'a\u0085',
    '\ud800',
    'ä',
    '😀',
    'a.b',
    'a_b',
    '.a',
    'a\nb',
    'a=',
  ],
  ...['x'.repeat(64), 'x'.repeat(65), 'x'.repeat(128), 'x'.repeat(129), 'x'.repeat(257), 'k2v7q4mzt6xw3hba'],
);
const times = fc.constantFrom(
  ...[at(1), at(300), at(1).replace('T', 't').replace('Z', 'z'), at(1).replace('Z', '+14:00')],
  ...['soon', '', '2099-01-31', '2027-01-31T12:00Z', '2027-01-31 12:00:00Z', '2027-01-31T12:00:00'],
  ...['2027-02-30T12:00:00Z', '2027-01-31T24:00:00Z', '2027-01-31T23:59:60Z', '2027-13-01T00:00:00Z'],
  ...['0000-01-01T00:00:00Z', '2027-01-31T12:00:00+24:00', '12027-01-31T12:00:00Z'],
);
const odd = fc.constantFrom<unknown>(null, 5, -1, 1.5, true, [], {}, 'x');
const entries = fc.dictionary(texts, fc.oneof({ weight: 4, arbitrary: texts }, odd), { maxKeys: 3 });
const many = fc.constant(Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`k${index}`, 'v'])));
const metadata = fc.oneof({ weight: 5, arbitrary: entries }, many);
const templates = fc.uniqueArray(
  fc.constantFrom(
    ...['raw/{id}', 'raw.{id}', '#', '+', '+/#', 'a/#/b', 'a+', '{id}{type}', 'a{id}b/{type}', '$SYS/a', '$'],
    ...['', '/', '{x}', 'a}', 'a/\u0001', '\ud800', 'x'.repeat(256), 'x'.repeat(257), '+{id}'],
    ...['/'.repeat(99), '/'.repeat(100), `${'/'.repeat(99)}#`, `${'/'.repeat(100)}#`, 'ä/😀'],
  ),
  { maxLength: 3 },
);
const listed = fc.oneof(
  { weight: 8, arbitrary: templates },
  fc.constantFrom<unknown>(
    ['a', 'a'],
    [5],
    'a',
    Array.from({ length: 17 }, (_, index) => `t${index}`),
  ),
);
const subjects = fc.constantFrom(
  ...[
    'raw.{id}',
    'raw.{type}.{id}',
    'raw.{id}.{topic}',
    'raw.{topic}.x',
    '{id}',
    'raw.\ud800.{id}',
    'raw',
    'cmd',
    'cmd.x',
    'cmdx.y',
  ],
  ...['', '.', 'a..b', 'a.', 'a b', 'a.*', 'a.>', '$JS.a', '_INBOX.a', 'a.{x}', 'a.b{id}', 'a%b', 'ä.b'],
  ...['x'.repeat(256), 'x'.repeat(257)],
);
const numbers = fc.constantFrom(
  ...[0, 1, 127, 128, 5_000, 1_000_000, 1_000_001, 268_435_461, 31_536_000, 31_536_001],
);
const field = (arbitrary: fc.Arbitrary<unknown>) => fc.oneof({ weight: 9, arbitrary }, odd);
const body = (fields: Record<string, fc.Arbitrary<unknown>>) =>
  fc.oneof(
    { weight: 20, arbitrary: fc.record(mapValues(fields), { requiredKeys: [] }) },
    fc.record({ ...mapValues(fields), extra: odd }),
    odd,
  );
const mapValues = (fields: Record<string, fc.Arbitrary<unknown>>) =>
  Object.fromEntries(Object.entries(fields).map(([name, arbitrary]) => [name, field(arbitrary)]));

const bytes = fc.constantFrom(
  'ab'.repeat(16),
  'ab'.repeat(32),
  'AB'.repeat(32),
  'a'.repeat(65),
  'xy'.repeat(32),
);
/** One id twice is refused, which no schema can say. */
const imported = fc.record(
  {
    ...{ id: fc.oneof(texts, fc.uuid()), type: texts, metadata, secret_salt: bytes, secret_hash: bytes },
    ...{ created_at: times, expires_at: fc.option(times), previous_secret_until_used: fc.boolean() },
  },
  { requiredKeys: ['id', 'type', 'secret_salt', 'secret_hash'] },
);

describe('what the specification refuses the route refuses, and nothing else', () => {
  it.each<[string, string, string, Record<string, fc.Arbitrary<unknown>>]>([
    ['post', '/devices', '/devices', { type: texts, id: texts, expires_at: times, metadata }],
    ['patch', '/devices/{id}', '/devices/d1', { expires_at: times, metadata: entries }],
    [
      'post',
      '/devices/{id}/rotate',
      '/devices/d1/rotate',
      { grace_seconds: numbers, until_used: fc.boolean() },
    ],
    ['post', '/devices/export', '/devices/export', { type: texts, metadata, limit: numbers }],
    [
      'post',
      '/devices/import',
      '/devices/import',
      {
        devices: fc.uniqueArray(imported, { selector: ({ id }) => id, maxLength: 2 }),
        skip_existing: fc.boolean(),
      },
    ],
    ['post', '/claims', '/claims', { type: texts, uses: numbers, expires_at: times }],
    ['post', '/claims/redeem', '/claims/redeem', { claim: texts, metadata }],
    [
      'post',
      '/api-keys',
      '/api-keys',
      { name: texts, role: fc.constantFrom('viewer', 'operator', 'king'), expires_at: times },
    ],
    [
      'put',
      '/policies/{type}',
      '/policies/sensor',
      {
        ...{ publish: listed, subscribe: listed, nats_subject: subjects },
        ...{ publish_rate: numbers, max_packet_bytes: numbers },
      },
    ],
    [
      'patch',
      '/policies/{type}',
      '/policies/sensor',
      {
        ...{ publish: listed, subscribe: listed, nats_subject: subjects },
        ...{ publish_rate: numbers, max_packet_bytes: numbers },
      },
    ],
  ])('in the body of %s %s', async (method, path, url, fields) => {
    const stated = paths[path]?.[method]?.requestBody?.content['application/json'].schema;
    const schema = Compile(stated as never);
    await fc.assert(
      fc.asyncProperty(body(fields), async (sent) => {
        // Keys and claims have no part here: with the first key the API would close.
        const allowed = schema.Check(sent);
        if (path === '/api-keys' && allowed) return;
        const answer = await call(api.port, method.toUpperCase(), url, { body: JSON.stringify(sent) });
        // 429: the attempts of /claims/redeem are counted; 409: the id is taken by now.
        const taken = allowed ? [200, 201, 404, 409, 429] : [400, 429];
        expect(taken, `${JSON.stringify(sent)}: ${answer.text}`).toContain(answer.status);
      }),
      { numRuns: 300 },
    );
  });

  it.each<[string, Record<string, fc.Arbitrary<string>>]>([
    [
      '/devices',
      {
        ...{
          type: texts,
          state: fc.constantFrom('all', 'revoked', 'none'),
          order: fc.constantFrom('asc', 'up'),
        },
        ...{
          id_prefix: texts,
          metadata: texts.filter((text) => text.length < 257).map((text) => `a=${text}`),
          limit: fc.constantFrom('1', '0', '1000', '1001', 'x'),
        },
      },
    ],
    ['/audit', { device: fc.constantFrom('', 'd1'), since: times, limit: fc.constantFrom('5', '0') }],
  ])('in the parameters of GET %s', async (path, fields) => {
    const parameters = paths[path]?.get?.parameters ?? [];
    await fc.assert(
      fc.asyncProperty(fc.record(fields, { requiredKeys: [] }), async (query) => {
        const sent = Object.entries(query).map(([name, value]) => [name, String(value)] as const);
        // A pattern does not count characters behind the sign; a query holds no half of a surrogate pair.
        if (sent.some(([, value]) => !value.isWellFormed())) return;
        const allowed = sent.every(([name, value]) => {
          const stated = parameters.find((parameter) => parameter.name === name)?.schema as { type?: string };
          const read = stated.type === 'integer' && /^\d+$/.test(value) ? Number(value) : value;
          return Compile(stated as never).Check(read);
        });
        const answer = await call(
          api.port,
          'GET',
          `${path}?${new URLSearchParams(sent as [string, string][])}`,
        );
        expect(answer.status, `${JSON.stringify(query)}: ${answer.text}`).toBe(allowed ? 200 : 400);
      }),
      { numRuns: 200 },
    );
  });

  it('and says that a body is needed where it is, and only there', async () => {
    const bodies = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { requestBody }]) =>
        requestBody === undefined ? [] : [{ path, method, required: requestBody.required === true }],
      ),
    );
    expect(bodies.length).toBeGreaterThan(5);
    for (const { path, method, required } of bodies) {
      const url = path.replace('{id}', 'd1').replace('{type}', 'sensor');
      const { status } = await call(api.port, method.toUpperCase(), url);
      expect([method, path, status]).toEqual([method, path, required ? 400 : 200]);
    }
    expect(bodies.filter(({ required }) => !required).map(({ path }) => path)).toEqual([
      '/devices/{id}/rotate',
      '/devices/export',
    ]);
  });
});
