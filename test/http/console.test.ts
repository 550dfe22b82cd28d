import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, startTestApi, type TestApi } from './support.js';

let api: TestApi;
beforeAll(async () => {
  api = await startTestApi();
});
afterAll(() => api.close());

test.each(['', '/gw'])(
  'the console is at /console/, and / and /console lead there, behind %j',
  async (prefix) => {
    const seen = (path: string) => `http://gateway.example${prefix}${path}`;
    for (const path of ['/', '/console']) {
      const answer = await call(api.port, 'GET', path);
      expect(answer.status).toBe(302);
      expect(new URL(String(answer.headers.location), seen(path)).href).toBe(seen('/console/'));
    }
  },
);

test('its page loads nothing but files of this server, whose names change with them', async () => {
  const page = await call(api.port, 'GET', '/console/');
  expect(page.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-cache',
    'x-frame-options': 'DENY',
  });
  const policy = String(page.headers['content-security-policy']);
  for (const part of [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "frame-ancestors 'none'",
  ])
    expect(policy.split('; ')).toContain(part);
  expect(policy).not.toMatch(/https?:|\*|unsafe|data:/);
  expect(page.text).not.toMatch(/<script(?! type="module" src=)|\son\w+=|<style|style=/);
  const links = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, link = '']) => link);
  expect(links.length).toBe(3);
  for (const link of links) {
    expect(link).toMatch(/^\w+-[0-9a-f]{16}\.\w+$/);
    const file = await call(api.port, 'GET', `/console/${link}`);
    expect(file.status).toBe(200);
    expect(file.headers['cache-control']).toBe('public, max-age=31536000, immutable');
  }
  expect((await call(api.port, 'GET', '/console/licences.txt')).text).toContain('preact');
  const missing = await call(api.port, 'GET', '/console/main-0000000000000000.js');
  expect(missing.status).toBe(404);
  expect(missing.json().code).toBe('ROUTE_NOT_FOUND');
});

test('its files come compressed to who takes that, and not at all to who has them', async () => {
  const plain = await call(api.port, 'GET', '/console/', { headers: { 'accept-encoding': 'gzip;q=0' } });
  const zipped = await call(api.port, 'GET', '/console/', { headers: { 'accept-encoding': 'br, gzip' } });
  expect(plain.headers['content-encoding']).toBeUndefined();
  expect(zipped.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'accept-encoding' });
  expect(Number(zipped.headers['content-length'])).toBe(zipped.bytes.length);
  expect(gunzipSync(zipped.bytes).toString()).toBe(plain.text);
  const again = await call(api.port, 'GET', '/console/', {
    headers: { 'if-none-match': String(plain.headers.etag) },
  });
  expect([again.status, again.text]).toEqual([304, '']);
});

test('GET /me tells who one is', async () => {
  expect((await call(api.port, 'GET', '/me')).json()).toEqual({
    kind: 'local',
    name: 'local',
    role: 'operator',
    may: ['enroller', 'viewer', 'provisioner', 'operator'],
  });
  const strict = await startTestApi({ config: { apiToken: 'x'.repeat(32) } });
  expect((await call(strict.port, 'GET', '/console/')).status).toBe(200);
  expect((await call(strict.port, 'GET', '/me')).status).toBe(401);
  const headers = { authorization: `Bearer ${'x'.repeat(32)}` };
  expect((await call(strict.port, 'GET', '/me', { headers })).json()).toMatchObject({ name: 'API_TOKEN' });
  await strict.close();
});
