import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { fileURLToPath } from 'node:url';
import fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type ApiKeyCredentials, type Role, roles } from '../../src/db/api-keys.js';
import { hashSecret } from '../../src/db/secrets.js';
import { openRouteTable, requireRoles } from '../../src/server/http/routes.js';
import { call, startTestApi, type TestApi } from './support.js';

const document = readFileSync(fileURLToPath(new URL('../../docs/access.md', import.meta.url)), 'utf8');
const table = document.split('<!-- roles:start -->')[1]?.split('<!-- roles:end -->')[0] ?? '';
/** The routes that the document lists, each with its role. */
const documented = [
  ...table.matchAll(/^\| `([A-Z]+) (\S+)` \| `(\w+)`(?:; `(\w+)` for what it made)? \|$/gm),
].map(([, method = '', path = '', role = '', own]) => ({
  method,
  path,
  role: role as Role | 'any',
  own: own as Role,
}));

/** One key of each role; the secret is the same letter throughout. */
const secrets: Record<Role, string> = { enroller: 'e', viewer: 'v', provisioner: 'p', operator: 'o' };
const keyOf = (role: Role) => `svcmqtt_${secrets[role].repeat(16)}_${secrets[role].repeat(32)}`;
const stored = new Map<string, ApiKeyCredentials>(
  roles.map((role) => {
    const id = secrets[role].repeat(16);
    const secretSalt = Buffer.alloc(16, role);
    const secretHash = hashSecret(secretSalt, Buffer.from(secrets[role].repeat(32)));
    return [id, { id, name: `the-${role}`, role, secretSalt, secretHash, expiresAt: null, revoked: false }];
  }),
);

/** What each role may do besides its own, as the document says. */
const includes: Record<Role, readonly Role[]> = {
  enroller: [],
  viewer: [],
  provisioner: ['enroller', 'viewer'],
  operator: ['enroller', 'viewer', 'provisioner'],
};

let api: TestApi;
let specified: { method: string; path: string; role: string }[];
beforeAll(async () => {
  api = await startTestApi({
    keys: { load: async (ids) => ids.flatMap((id) => stored.get(id) ?? []), exist: async () => true },
  });
  const { paths } = (await call(api.port, 'GET', '/openapi.json')).json<{
    paths: Record<string, Record<string, { description: string; security?: unknown[] }>>;
  }>();
  specified = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { security }]) => security === undefined)
      .map(([method, { description }]) => ({
        method: method.toUpperCase(),
        path,
        role: /Role: (`\w+`(?:; `\w+` for what it made)?)\.$/.exec(description)?.[1] ?? 'none',
      })),
  );
});
afterAll(() => api.close());

/** The status and the code of an answer, without waiting for the end of one that never ends. */
function ask(method: string, path: string, key: string | undefined) {
  return new Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: string }>(
    (resolve, reject) => {
      const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
      const outgoing = request(
        { port: api.port, host: '127.0.0.1', method, path, headers, agent: false },
        (incoming) => {
          const status = incoming.statusCode ?? 0;
          if (status < 400) {
            incoming.destroy();
            resolve({ status, headers: incoming.headers, body: '' });
            return;
          }
          let body = '';
          incoming.on('data', (chunk) => {
            body += chunk;
          });
          incoming.on('end', () => resolve({ status, headers: incoming.headers, body }));
        },
      );
      outgoing.on('error', reject);
      outgoing.end();
    },
  );
}

/** By path, then by method as they are usually told. */
function order(row: string): string {
  const [, method = '', path = ''] = /^\| `(\w+) (\S+)`/.exec(row) ?? [];
  return `${path} ${['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].indexOf(method)}`;
}

describe('docs/access.md', () => {
  it('lists every protected route with its role, and none besides', () => {
    const rows = specified.map(({ method, path, role }) => `| \`${method} ${path}\` | ${role} |`);
    expect(table.split('\n').filter((line) => /^\| `[A-Z]/.test(line))).toEqual(
      rows.sort((one, other) => order(one).localeCompare(order(other))),
    );
    expect(documented.length).toBeGreaterThan(10);
  });
});

describe.each(documented)('$method $path, for $role,', ({ method, path, role: need, own }) => {
  const url = path.replace(/\{\w+\}/g, 'a');

  it.each(roles)('treats a %s as it should', async (role) => {
    const answer = await ask(method, url, keyOf(role));
    if ([role, ...includes[role]].some((held) => held === need || held === own || need === 'any')) {
      expect([401, 403, 429]).not.toContain(answer.status);
      return;
    }
    expect(answer.status).toBe(403);
    expect(answer.headers['www-authenticate']).toBe(
      `Bearer realm="svc-mqtt", error="insufficient_scope", scope="${need}"`,
    );
    expect(JSON.parse(answer.body)).toMatchObject({
      code: 'FORBIDDEN',
      title: 'The role is too low',
      detail: `This needs the role ${need}, and the key "the-${role}" has the role ${role}`,
    });
  });

  it('answers 401 to no key', async () => {
    expect((await ask(method, url, undefined)).status).toBe(401);
  });
});

it('a GET is a HEAD of the same role', async () => {
  const status = async (role: Role) => (await ask('HEAD', '/audit', keyOf(role))).status;
  expect([await status('viewer'), await status('operator')]).toEqual([403, 200]);
});

it('a route that does not exist is 404 to any key, and 401 to none', async () => {
  for (const role of roles) expect((await ask('GET', '/nothing', keyOf(role))).status).toBe(404);
  expect((await ask('PUT', '/devices', keyOf('viewer'))).status).toBe(405);
  expect((await ask('GET', '/nothing', undefined)).status).toBe(401);
});

describe('an app with a protected route', () => {
  const build = async (config: object) => {
    const app = fastify();
    const routes = openRouteTable(app as never);
    app.get('/secret', { config }, async () => 'told');
    await app.ready();
    const check = () => requireRoles(routes.list());
    await app.close();
    return check;
  };

  it('that declares no role does not start', async () => {
    expect(await build({})).toThrow('config.role is missing of GET /secret');
    expect(await build({ access: 'protected' })).toThrow('/secret');
    expect(await build({ role: 'viewer' })).not.toThrow();
    expect(await build({ access: 'public' })).not.toThrow();
  });
});

it('goes by the key that is shown, also before the server knows that there are keys', async () => {
  // What the database said before the first key was made.
  const early = await startTestApi({
    keys: { load: async (ids) => ids.flatMap((id) => stored.get(id) ?? []), exist: async () => false },
  });
  onTestFinished(() => early.close());
  const add = (headers: Record<string, string>) =>
    call(early.port, 'POST', '/devices', { headers, body: '{"type":"sensor"}' });
  const shown = (key: string) => ({ authorization: `Bearer ${key}` });
  expect((await add(shown(keyOf('viewer')))).status).toBe(403);
  expect((await add(shown(keyOf('provisioner')))).status).toBe(200);
  // Without keys, one that nobody has made says nothing.
  expect((await add(shown(`svcmqtt_${'x'.repeat(16)}_${'x'.repeat(32)}`))).status).toBe(200);
  expect((await add({})).status).toBe(200);
});
