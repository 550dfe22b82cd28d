import { Compile } from 'typebox/schema';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SvcMqttError } from '../../src/errors.js';
import { type Answer, allReady, call, startTestApi, type TestApi } from './support.js';

type Json = Record<string, unknown>;
interface Operation {
  operationId: string;
  summary: string;
  description: string;
  security?: unknown[];
  parameters?: { name: string; in: string; description: string; schema: Json }[];
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
}
interface Specification {
  openapi: string;
  info: Json;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json>; securitySchemes: Json };
  security: unknown[];
}

let api: TestApi;
let specification: Specification;
beforeAll(async () => {
  api = await startTestApi();
  specification = (await call(api.port, 'GET', '/openapi.json')).json<Specification>();
});
afterAll(() => api.close());

/** A schema of the document with what it refers to put in its place. */
function resolve(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(resolve);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { $ref } = schema as { $ref?: string };
  if ($ref !== undefined) {
    const name = /^#\/components\/schemas\/(\w+)$/.exec($ref)?.[1];
    const target = specification.components.schemas[name ?? ''];
    if (target === undefined) throw new Error(`${$ref} leads nowhere`);
    return resolve(target);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolve(value)]));
}

/** Fails unless an answer is what the document says of its operation, status and media type. */
function expectDocumented(path: string, method: string, answer: Answer): void {
  const response = specification.paths[path]?.[method]?.responses[answer.status];
  expect(response, `${method} ${path} ${answer.status} is documented`).toBeDefined();
  if (answer.text === '') {
    expect(response?.content).toBeUndefined();
    return;
  }
  const mediaType = String(answer.headers['content-type']).split(';')[0] ?? '';
  const schema = response?.content?.[mediaType]?.schema;
  expect(schema, `${method} ${path} ${answer.status} ${mediaType} is documented`).toBeDefined();
  const [matches, faults] = Compile(resolve(schema) as never).Errors(answer.json());
  expect([matches, faults]).toEqual([true, []]);
}

describe('/openapi.json', () => {
  it('describes every route, with what a reader and a generator need', () => {
    expect(specification.openapi).toBe('3.1.0');
    expect(specification.info).toMatchObject({ title: 'svc-mqtt', version: '1.2.3' });
    const operations = Object.entries(specification.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
    );
    expect(operations.map(({ name }) => name).sort()).toEqual([
      'delete /api-keys/{key}',
      'delete /claims/{id}',
      'delete /connections/{id}',
      'delete /devices/{id}',
      'delete /policies/{type}',
      'delete /sessions/{id}',
      'get /api-keys',
      'get /audit',
      'get /claims',
      'get /connections',
      'get /connections/{id}',
      'get /devices',
      'get /devices/{id}',
      'get /devices/{id}/commands/{sequence}',
      'get /devices/{id}/messages',
      'get /events',
      'get /fleet',
      'get /healthz',
      'get /me',
      'get /metrics',
      'get /policies',
      'get /policies/{type}',
      'get /readyz',
      'get /sessions',
      'get /sessions/{id}',
      'get /stats',
      'patch /devices/{id}',
      'patch /policies/{type}',
      'post /api-keys',
      'post /claims',
      'post /claims/redeem',
      'post /devices',
      'post /devices/export',
      'post /devices/import',
      'post /devices/{id}/commands',
      'post /devices/{id}/enable',
      'post /devices/{id}/remove',
      'post /devices/{id}/rotate',
      'put /policies/{type}',
    ]);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(operations.length);
    for (const { name, operation } of operations) {
      expect(operation.summary, name).toBeTruthy();
      expect(operation.description, name).toMatch(/\.$/);
      for (const parameter of operation.parameters ?? []) expect(parameter.description, name).toBeTruthy();
      for (const response of Object.values(operation.responses)) {
        expect(response.description, name).not.toBe('Default Response');
      }
      const isProbe = name.endsWith('z');
      const isForDevices = name === 'post /claims/redeem';
      expect(operation.security, name).toEqual(isProbe || isForDevices ? [] : undefined);
      const everywhere = isForDevices ? ['429', '500', '503'] : ['401', '403', '429', '500', '503'];
      if (!isProbe && !isForDevices) {
        expect(operation.description, name).toMatch(
          /Role: `(any|enroller|viewer|provisioner|operator)`(; `enroller` for what it made)?\.$/,
        );
      }
      for (const status of isProbe ? [] : everywhere) {
        expect(Object.keys(operation.responses[status]?.content ?? {}), name).toEqual([
          'application/problem+json',
        ]);
      }
    }
    expect(specification.components.securitySchemes).toMatchObject({
      bearer: { type: 'http', scheme: 'bearer' },
    });
    expect(specification.security).toEqual([{ bearer: [] }, {}]);
  });

  it('has no reference that leads nowhere, no schema without a use, and examples that fit', () => {
    const text = JSON.stringify(specification);
    for (const [name, schema] of Object.entries(specification.components.schemas)) {
      expect(text).toContain(`"#/components/schemas/${name}"`);
      const { examples = [] } = schema as { examples?: unknown[] };
      for (const example of examples) expect(Compile(resolve(schema) as never).Check(example)).toBe(true);
    }
    expect(() => resolve(specification.paths)).not.toThrow();
  });

  it('tells apart what does not fit, so that the checks below can fail', () => {
    const schema = Compile(resolve({ $ref: '#/components/schemas/NewDevice' }) as never);
    const device = {
      id: 'a',
      type: 'b',
      mqtt_user: 'a',
      mqtt_password: 'c',
      created_at: '2026-01-31T12:00:00Z',
    };
    expect(schema.Check(device)).toBe(true);
    expect(schema.Check({ ...device, secret: 'd' })).toBe(false);
    expect(schema.Check({ ...device, created_at: 5 })).toBe(false);
    expect(schema.Check({ id: 'a' })).toBe(false);
  });
});

describe('every route', () => {
  const routes = [
    ['post', '/devices', '/devices'],
    ['get', '/devices', '/devices'],
    ['get', '/devices/{id}', '/devices/a'],
    ['delete', '/devices/{id}', '/devices/a'],
  ] as const;

  it('answers as documented when all is well', async () => {
    const added = await call(api.port, 'POST', '/devices', { body: '{"type":"sensor"}' });
    const { id } = added.json();
    expectDocumented('/devices', 'post', added);
    expectDocumented('/devices', 'get', await call(api.port, 'GET', '/devices?limit=1'));
    expectDocumented('/devices/{id}', 'get', await call(api.port, 'GET', `/devices/${id}`));
    expectDocumented('/devices/{id}', 'delete', await call(api.port, 'DELETE', `/devices/${id}`));
    expectDocumented('/devices/{id}', 'get', await call(api.port, 'GET', `/devices/${id}`));
    for (const path of ['/healthz', '/readyz'])
      expectDocumented(path, 'get', await call(api.port, 'GET', path));
  });

  it('answers every refusal with documented problem details', async () => {
    const away = () => Promise.reject(new SvcMqttError('DATABASE_UNREACHABLE', 'away'));
    const broken = () => Promise.reject(new Error('broken'));
    const apis = await Promise.all([
      startTestApi({ config: { apiToken: 'a-token-of-enough-length' } }),
      startTestApi({ devices: { add: away, list: away, find: away, revoke: away } }),
      startTestApi({ devices: { add: broken, list: broken, find: broken, revoke: broken } }),
    ]);
    const [locked, unreachable, defective] = apis;
    const good = { body: '{"type":"sensor"}' };
    const answers: [string, string, Answer][] = [];
    for (const [method, path, url] of routes) {
      answers.push([path, method, await call(locked.port, method.toUpperCase(), url, good)]);
      answers.push([path, method, await call(unreachable.port, method.toUpperCase(), url, good)]);
      answers.push([path, method, await call(defective.port, method.toUpperCase(), url, good)]);
      const headers = { origin: 'https://evil.example' };
      answers.push([path, method, await call(api.port, method.toUpperCase(), url, { ...good, headers })]);
    }
    answers.push(['/devices', 'post', await call(api.port, 'POST', '/devices', { body: '{"type":5}' })]);
    answers.push([
      '/devices',
      'post',
      await call(api.port, 'POST', '/devices', { body: 'x'.repeat(20_000) }),
    ]);
    answers.push(['/devices', 'get', await call(api.port, 'GET', '/devices?limit=x')]);
    answers.push(['/devices/{id}', 'get', await call(api.port, 'GET', '/devices/nobody')]);
    answers.push(['/devices/{id}', 'get', await call(api.port, 'GET', '/devices/')]);
    answers.push(['/devices/{id}', 'delete', await call(api.port, 'DELETE', '/devices/nobody')]);
    for (const [path, method, answer] of answers) {
      expectDocumented(path, method, answer);
      expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(answer.headers['cache-control']).toBe('no-store');
      expect(answer.json().status).toBe(answer.status);
    }
    const statuses = new Set(answers.map(([, , { status }]) => status));
    expect([...statuses].sort()).toEqual([400, 401, 403, 404, 413, 500, 503]);
    await Promise.all(apis.map((one) => one.close()));
  });

  it('documents what becomes of keys, and who changed what', async () => {
    const at = new Date();
    const key = {
      id: 'k2v7q4mzt6xw3hba',
      name: 'ci',
      role: 'viewer',
      createdAt: at,
      expiresAt: at,
      revokedAt: null,
      lastUsedAt: null,
    } as const;
    const taken = new SvcMqttError('API_KEY_EXISTS', 'An API key with the name ci is in use');
    const keyed = await startTestApi({
      keys: {
        create: async (_actor, { name }) =>
          name === 'ci' ? Promise.reject(taken) : { ...key, name, key: 'svcmqtt_shown_once' },
        list: async () => [key],
        revoke: async (_actor, name) => (name === 'ci' ? { key, outcome: 'revoked' } : undefined),
      },
      listAudit: async () => [
        {
          id: 1,
          at,
          actorKind: 'cli',
          actor: 'x',
          address: null,
          action: 'device.add',
          target: 'a',
          details: { count: 5, deep: { list: [null] } },
        },
      ],
    });
    const answers: [string, string, number, Answer][] = [];
    const ask = async (method: string, path: string, url: string, status: number, body?: unknown) => {
      const options = body === undefined ? {} : { body: JSON.stringify(body) };
      answers.push([path, method, status, await call(keyed.port, method.toUpperCase(), url, options)]);
    };
    await ask('post', '/api-keys', '/api-keys', 201, { name: 'new', role: 'viewer' });
    await ask('post', '/api-keys', '/api-keys', 409, { name: 'ci', role: 'viewer' });
    await ask('post', '/api-keys', '/api-keys', 400, { name: 'x', role: 'king' });
    await ask('post', '/api-keys', '/api-keys', 400, { name: 'x', role: 'viewer', expires_at: 'soon' });
    await ask('post', '/api-keys', '/api-keys', 400, { name: 'a b', role: 'viewer', extra: 1 });
    await ask('get', '/api-keys', '/api-keys', 200);
    await ask('get', '/api-keys', '/api-keys?cursor=!', 400);
    await ask('delete', '/api-keys/{key}', '/api-keys/ci', 204);
    await ask('delete', '/api-keys/{key}', '/api-keys/nobody', 404);
    await ask('get', '/audit', '/audit?since=2026-01-31T12:00:00Z&device=a', 200);
    await ask('get', '/audit', '/audit?since=yesterday', 400);
    await ask('get', '/audit', '/audit?cursor=YQ', 400);
    for (const [path, method, status, answer] of answers) {
      expect([method, path, answer.status]).toEqual([method, path, status]);
      expectDocumented(path, method, answer);
    }
    const entries = answers.find(([path, , status]) => path === '/audit' && status === 200)?.[3];
    expect(entries?.json()).toMatchObject({ entries: [{ details: { count: 5, deep: { list: [null] } } }] });
    await keyed.close();
  });

  it('documents a replica that is not ready', async () => {
    const nats = { ok: false, detail: 'away' };
    const unready = await startTestApi({ readiness: () => ({ ...allReady, nats }) });
    const answer = await call(unready.port, 'GET', '/readyz');
    expect(answer.status).toBe(503);
    expectDocumented('/readyz', 'get', answer);
    await unready.close();
  });
});

describe('the documentation pages', () => {
  it.each(['', '/gw', '/a/b'])(
    'are at /docs/index.html, and the paths above and beside it lead there, behind %j',
    async (prefix) => {
      // What a proxy does that takes the prefix away: the browser sees addresses with it, the server without.
      const seen = (path: string) => `http://gateway.example${prefix}${path}`;
      for (const path of ['/docs', '/docs/', '/docs/json', '/docs/static/index.html', '/docs/json?a=/b/c']) {
        const answer = await call(api.port, 'GET', path);
        expect(answer.status).toBe(302);
        expect(new URL(String(answer.headers.location), seen(path)).href).toBe(seen('/docs/index.html'));
      }
      const { servers } = (await call(api.port, 'GET', '/openapi.json')).json<{
        servers: { url: string }[];
      }>();
      expect(new URL(servers[0]?.url ?? '', seen('/openapi.json')).href).toBe(seen('/'));
      expect((await call(api.port, 'GET', '/docs/index.html')).headers['content-type']).toMatch(
        /^text\/html/,
      );
    },
  );

  it('load nothing but files of this server, and run no script from the page itself', async () => {
    const page = await call(api.port, 'GET', '/docs/index.html');
    const links = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, link]) => link ?? '');
    expect(links.length).toBeGreaterThan(3);
    const base = `http://127.0.0.1:${api.port}`;
    for (const link of links) {
      const url = new URL(link, `${base}/docs/index.html`);
      expect(url.origin).toBe(base);
      expect((await call(api.port, 'GET', url.pathname)).status).toBe(200);
    }
    expect(page.text).not.toMatch(/<script>|\son\w+=|<style/);
    const policy = String(page.headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self';");
    expect(policy).not.toMatch(/https?:|\*|unsafe/);
    const script = await call(api.port, 'GET', '/docs/start.js');
    const specificationUrl = /url: '([^']*)'/.exec(script.text)?.[1] ?? '';
    expect(new URL(specificationUrl, `${base}/docs/index.html`).pathname).toBe('/openapi.json');
  });

  it('and all answers tell the browser not to guess types and not to be framed', async () => {
    for (const path of ['/devices', '/docs/index.html', '/docs/static/swagger-ui.css', '/nothing']) {
      const { headers } = await call(api.port, 'GET', path);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
    }
  });
});
