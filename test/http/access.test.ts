import { networkInterfaces } from 'node:os';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type AccessLevel,
  checkOpenAccess,
  isLocalHost,
  isLoopback,
  isOwnOrigin,
} from '../../src/server/http/auth.js';
import type { HttpConfig } from '../../src/server/http/start.js';
import { call, openConfig, startTestApi, type TestApi } from './support.js';

const token = 'a-token-of-enough-length';
/** An address of this machine from which a connection does not count as local. */
const outside = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find((address) => !address.internal && address.family === 'IPv4')?.address;

let api: TestApi | undefined;
afterEach(async () => {
  await api?.close();
  api = undefined;
});

const start = async (config: Partial<HttpConfig>) => {
  api = await startTestApi({ config });
  return api.port;
};

describe('with API_TOKEN', () => {
  it('answers who shows the token, and nobody else', async () => {
    const port = await start({ apiToken: token });
    for (const authorization of [`Bearer ${token}`, `bearer  ${token} `]) {
      expect((await call(port, 'GET', '/devices', { headers: { authorization } })).status).toBe(200);
    }
    const wrong = [
      '',
      token,
      `Basic ${token}`,
      `Bearer ${token}x`,
      `Bearer ${token.slice(1)}`,
      'Bearer',
      'Bearer ',
    ];
    for (const authorization of wrong) {
      const answer = await call(port, 'GET', '/devices', { headers: { authorization } });
      expect(answer.status).toBe(401);
      expect(answer.json()).toMatchObject({ code: 'UNAUTHENTICATED', status: 401 });
      expect(answer.headers['www-authenticate']).toMatch(/^Bearer realm="svc-mqtt"/);
    }
    expect(JSON.stringify(api?.lines)).not.toContain(token);
  });

  it('refuses before it reads the body or looks at the route', async () => {
    const port = await start({ apiToken: token });
    const requests = [
      ['POST', '/devices', '{'],
      ['POST', '/devices', 'x'.repeat(100_000)],
      ['PUT', '/devices', ''],
      ['GET', '/no/such/route', ''],
      ['DELETE', '/devices/a', ''],
    ] as const;
    for (const [method, path, body] of requests)
      expect((await call(port, method, path, { body })).status).toBe(401);
  });

  it('shows probes and documentation to everyone, and answers other machines and web pages with a token', async () => {
    const port = await start({ apiToken: token, listenAddr: ':0' });
    for (const path of ['/healthz', '/readyz', '/openapi.json', '/docs/index.html']) {
      expect((await call(port, 'GET', path, { host: outside ?? '127.0.0.1' })).status).toBe(200);
    }
    const headers = {
      authorization: `Bearer ${token}`,
      origin: 'https://console.example',
      host: 'api.example',
    };
    expect((await call(port, 'GET', '/devices', { headers, host: outside ?? '127.0.0.1' })).status).toBe(200);
  });

  it('wins over API_ALLOW_UNAUTHENTICATED, and says so', async () => {
    const port = await start({ apiToken: token, apiAllowUnauthenticated: true });
    expect((await call(port, 'GET', '/devices')).status).toBe(401);
    expect(api?.lines.map(({ event }) => event)).toContain('http_unauthenticated_ignored');
  });
});

describe('without API_TOKEN', () => {
  it('answers loopback addresses of both kinds', async () => {
    const port = await start({ listenAddr: ':0' });
    for (const host of ['127.0.0.1', '::1', 'localhost']) {
      expect((await call(port, 'GET', '/devices', { host })).status).toBe(200);
    }
  });

  it.skipIf(outside === undefined)('answers no other address but probes, and says why', async () => {
    const port = await start({ listenAddr: ':0' });
    for (const path of ['/devices', '/openapi.json', '/docs/index.html', '/nothing']) {
      const answer = await call(port, 'GET', path, { host: outside ?? '' });
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="svc-mqtt"');
      expect(answer.json()).toMatchObject({
        code: 'UNAUTHENTICATED',
        detail: expect.stringContaining(outside ?? ''),
      });
      expect(answer.json()).toMatchObject({ detail: expect.stringContaining('API_TOKEN') });
    }
    expect((await call(port, 'GET', '/healthz', { host: outside ?? '' })).status).toBe(200);
  });

  it.skipIf(outside === undefined)(
    'answers everyone with API_ALLOW_UNAUTHENTICATED, with a warning',
    async () => {
      const port = await start({ listenAddr: ':0', apiAllowUnauthenticated: true });
      const headers = { host: 'gateway:9091', 'x-forwarded-for': '192.0.2.1' };
      expect((await call(port, 'GET', '/devices', { host: outside ?? '', headers })).status).toBe(200);
      const rebound = await call(port, 'GET', '/devices', { headers: { host: 'evil.example:9091' } });
      expect(rebound.json()).toMatchObject({ status: 403, code: 'ORIGIN_REFUSED' });
      expect(rebound.json()).toMatchObject({ detail: expect.stringContaining('API_HOSTS') });
      expect(api?.lines.find(({ event }) => event === 'http_unauthenticated')).toMatchObject({ level: 40 });
      const origin = 'https://evil.example';
      expect((await call(port, 'GET', '/devices', { headers: { ...headers, origin } })).status).toBe(403);
    },
  );

  it.each<[string, Record<string, string>, number]>([
    ['a proxy on this machine', { 'x-forwarded-for': '203.0.113.9' }, 401],
    ['one that tells the protocol only', { 'x-forwarded-proto': 'https' }, 401],
    ['one that tells of itself only', { via: '1.1 proxy' }, 401],
    ['a proxy in a container that tells its address only', { 'x-client-ip': '203.0.113.9' }, 401],
    ['a tunnel of a content network', { 'cf-connecting-ip': '203.0.113.9' }, 401],
    ['a proxy that tells the prefix only', { 'x-forwarded-prefix': '/gw' }, 401],
    ['a proxy that says Forwarded', { forwarded: 'for=203.0.113.9' }, 401],
    ['a rebound name', { host: 'evil.example:9091' }, 403],
    ['a rebound name that looks local', { host: 'localhost.evil.example' }, 403],
    ['a name that starts with an address', { host: '127.0.0.1.evil.example' }, 403],
    ['a page of another site', { origin: 'https://evil.example' }, 403],
    ['a page without origin', { origin: 'null' }, 403],
    ['a page of another port', { origin: 'http://localhost:3000', host: 'localhost:9091' }, 403],
    ['what the browser calls cross-site', { 'sec-fetch-site': 'cross-site' }, 403],
    ['what the browser calls same-site', { 'sec-fetch-site': 'same-site' }, 403],
    ['its own page', { 'sec-fetch-site': 'same-origin', origin: 'http://localhost', host: 'localhost' }, 200],
    ['the address bar', { 'sec-fetch-site': 'none' }, 200],
    ['its own page in an old browser', { origin: 'http://localhost:9091', host: 'localhost:9091' }, 200],
    ['an address as host', { host: '192.0.2.1:9091' }, 200],
    ['an IPv6 address as host', { host: '[::1]:9091' }, 200],
    ['a name below localhost', { host: 'svc.localhost:80' }, 200],
  ])('meets %s as it should, and stores nothing it refuses', async (_name, headers, status) => {
    const port = await start({});
    for (const path of ['/devices', '/devices/a']) {
      const answer = await call(port, 'DELETE', path, { headers });
      // Past the rules there is no DELETE on /devices and no device "a".
      expect(answer.status).toBe(status === 200 ? (path === '/devices' ? 405 : 404) : status);
    }
    const body = '{"type":"sensor"}';
    const answer = await call(port, 'POST', '/devices', {
      headers: { 'content-type': 'text/plain', ...headers },
      body,
    });
    expect(answer.json().code).toBe(
      status === 200 ? undefined : status === 401 ? 'UNAUTHENTICATED' : 'ORIGIN_REFUSED',
    );
    expect(api?.rows.size).toBe(status === 200 ? 1 : 0);
  });
});

describe('the rules', () => {
  it('know loopback addresses', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.boolean(), (address, mapped) => {
        expect(isLoopback(mapped ? `::ffff:${address}` : address)).toBe(address.split('.')[0] === '127');
      }),
    );
    for (const address of ['::1', '127.255.255.255', '::ffff:127.0.0.9'])
      expect(isLoopback(address)).toBe(true);
    for (const address of [undefined, '', '::', '::2', '128.0.0.1', 'fe80::1%lo', '::127.0.0.1', '0.0.0.0']) {
      expect(isLoopback(address)).toBe(false);
    }
  });

  it('take no name for local that somebody can register', () => {
    fc.assert(
      fc.property(fc.domain(), fc.option(fc.nat(65_535)), (name, port) => {
        expect(isLocalHost(port === null ? name : `${name}:${port}`)).toBe(false);
      }),
    );
    for (const host of ['localhost', 'LOCALHOST:1', 'localhost.', '[fe80::1]', '10.0.0.1:80', undefined]) {
      expect(isLocalHost(host)).toBe(true);
    }
    for (const host of [
      '',
      'mylocalhost',
      'localhost@evil.example',
      '[evil.example]',
      'localhost:80:80',
      '::1',
    ]) {
      expect(isLocalHost(host)).toBe(false);
    }
  });

  it('take an origin for their own only when it is the host', () => {
    fc.assert(
      fc.property(fc.domain(), fc.domain(), fc.constantFrom('http', 'https'), (site, host, scheme) => {
        expect(isOwnOrigin(`${scheme}://${site}`, host)).toBe(site.toLowerCase() === host.toLowerCase());
      }),
    );
    expect(isOwnOrigin('https://a.example', 'a.example:443')).toBe(true);
    expect(isOwnOrigin('http://a.example:81', 'a.example')).toBe(false);
    expect(isOwnOrigin('file:///etc', 'a.example')).toBe(false);
    expect(isOwnOrigin('http://a.example', undefined)).toBe(false);
  });

  it('ask nothing of a probe, and of documentation only where it comes from', () => {
    const request = { remoteAddress: '127.0.0.1', headers: { 'sec-fetch-site': 'cross-site' } };
    const refused = (level: AccessLevel, remoteAddress = request.remoteAddress) =>
      checkOpenAccess(openConfig, level, { ...request, remoteAddress }) !== undefined;
    expect([refused('public'), refused('documentation'), refused('protected')]).toEqual([false, false, true]);
    expect([refused('public', '192.0.2.1'), refused('documentation', '192.0.2.1')]).toEqual([false, true]);
  });

  it('let everyone in by names only that nobody else can own', () => {
    const open: HttpConfig = {
      ...openConfig,
      apiAllowUnauthenticated: true,
      apiHosts: 'gateway.example, API.example',
    };
    const refused = (host: string | undefined, settings = open) =>
      checkOpenAccess(settings, 'protected', { remoteAddress: '192.0.2.1', headers: { host } })?.code;
    for (const host of [
      undefined,
      'localhost:9091',
      '192.0.2.7:9091',
      '[2001:db8::1]:9091',
      'svc-mqtt:9091',
      'svc_mqtt',
      'gateway.example:9091',
      'Gateway.Example',
      'api.example',
    ]) {
      expect([host, refused(host)]).toEqual([host, undefined]);
    }
    for (const host of ['evil.example', 'x.gateway.example', 'svc-mqtt.', '', ',', 'a b', '-a']) {
      expect([host, refused(host)]).toEqual([host, 'ORIGIN_REFUSED']);
    }
    fc.assert(
      fc.property(fc.domain(), (name) => {
        expect(refused(name, { ...open, apiHosts: undefined })).toBe('ORIGIN_REFUSED');
      }),
    );
  });
});
