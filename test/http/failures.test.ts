import { afterEach, describe, expect, it } from 'vitest';
import { SvcMqttError } from '../../src/errors.js';
import { allReady, call, startTestApi, type TestApi } from './support.js';

let api: TestApi | undefined;
afterEach(async () => {
  await api?.close();
  api = undefined;
});

const failing = async (error: unknown) => {
  const fail = () => Promise.reject(error);
  api = await startTestApi({ devices: { add: fail, list: fail, find: fail, revoke: fail } });
  return api;
};

const requests = [
  ['POST', '/devices', '{"type":"sensor"}'],
  ['GET', '/devices', ''],
  ['GET', '/devices/a', ''],
  ['DELETE', '/devices/a', ''],
] as const;

describe('a request', () => {
  it('that finds the database away is answered 503 with the time to wait, without its address', async () => {
    const cause = new Error('connect ECONNREFUSED 10.9.8.7:5432');
    const { port, lines } = await failing(
      new SvcMqttError('DATABASE_UNREACHABLE', 'postgres://10.9.8.7:5432/x does not answer', { cause }),
    );
    for (const [method, path, body] of requests) {
      const answer = await call(port, method, path, { body });
      expect(answer.status).toBe(503);
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      expect(answer.json()).toMatchObject({ code: 'DATABASE_UNREACHABLE', status: 503 });
      expect(answer.text).not.toContain('10.9.8.7');
    }
    const failed = lines.filter(({ event }) => event === 'http_request_failed');
    expect(failed.length).toBe(requests.length);
    expect(failed[0]).toMatchObject({ level: 50, code: 'DATABASE_UNREACHABLE', reason: cause.message });
  });

  it.each<[string, unknown]>([
    ['an error', new TypeError('x is not a function')],
    ['an error around another', new Error('insert ... params: hash,salt', { cause: new Error('broken') })],
    ['no error at all', 'broken'],
    ['a status of its own', Object.assign(new Error('teapot'), { statusCode: 599 })],
    ['a server-side code', new SvcMqttError('CONFIG_INVALID', 'internal words')],
  ])('that meets a defect is answered 500 and says nothing of it: %s', async (_name, error) => {
    const { port, lines } = await failing(error);
    for (const [method, path, body] of requests) {
      const answer = await call(port, method, path, { body });
      expect(answer.status).toBe(500);
      expect(answer.json()).toEqual({
        type: 'urn:svc-mqtt:error:INTERNAL',
        title: 'The server failed',
        status: 500,
        detail: 'The server failed to answer; its log says why',
        code: 'INTERNAL',
      });
    }
    const failed = lines.find(({ event }) => event === 'http_request_failed');
    expect(failed).toMatchObject({
      level: 50,
      code: 'INTERNAL',
      path: '/devices',
      reason: expect.any(String),
    });
    expect(JSON.stringify(lines)).not.toContain('hash,salt');
  });

  it('that meets a rule of the database is answered with its code and words', async () => {
    const { port } = await failing(new SvcMqttError('INPUT_INVALID', 'type is odd'));
    const answer = await call(port, 'POST', '/devices', { body: '{"type":"sensor"}' });
    expect(answer.json()).toMatchObject({ status: 400, code: 'INPUT_INVALID', detail: 'type is odd' });
  });

  it('leaves one line at debug, with neither query nor headers', async () => {
    api = await startTestApi();
    await call(api.port, 'GET', '/devices?type=hush', {
      headers: { authorization: 'Bearer hush', cookie: 'hush' },
    });
    const written = () => api?.lines.filter(({ event }) => event === 'http_request');
    await expect.poll(() => written()?.length).toBe(1);
    expect(written()?.[0]).toMatchObject({ level: 20, method: 'GET', path: '/devices', status: 200 });
    expect(written()?.[0]).toMatchObject({ remoteAddress: '127.0.0.1', durationMs: expect.any(Number) });
    expect(JSON.stringify(api.lines)).not.toContain('hush');
  });

  it('for a wrong path gets 404, with a wrong method 405 and the right ones', async () => {
    api = await startTestApi();
    const { port } = api;
    for (const path of ['/device', '/devices/a/b', '//devices', '/docs/../devices', '/docs/static/x']) {
      const answer = await call(port, 'GET', path);
      expect([path, answer.status, answer.json().code]).toEqual([path, 404, 'ROUTE_NOT_FOUND']);
    }
    for (const [method, path, allow] of [
      ['PUT', '/devices', 'GET, HEAD, POST'],
      ['PROPFIND', '/devices', 'GET, HEAD, POST'],
      ['OPTIONS', '/devices', 'GET, HEAD, POST'],
      ['POST', '/devices/a', 'DELETE, GET, HEAD, PATCH'],
      ['GET', '/devices/a/rotate', 'POST'],
      ['POST', '/healthz', 'GET, HEAD'],
      ['PATCH', '/docs/index.html', 'GET, HEAD'],
      ['DELETE', '/docs/static/index.css', 'GET, HEAD'],
    ] as const) {
      const answer = await call(port, method, path, { body: 'no JSON' });
      expect(answer.status).toBe(405);
      expect(answer.headers.allow).toBe(allow);
      expect(answer.json()).toMatchObject({ code: 'METHOD_NOT_ALLOWED', status: 405 });
    }
    expect((await call(port, 'GET', '/devices/%zz')).json()).toMatchObject({
      status: 400,
      code: 'INPUT_INVALID',
    });
    expect((await call(port, 'GET', '/devices/')).json()).toMatchObject({
      code: 'INPUT_INVALID',
      errors: [{ field: 'id', problem: 'must not be empty' }],
    });
    expect((await call(port, 'HEAD', '/devices')).status).toBe(200);
  });

  it('does not get back a key or claim that was put in a wrong place', async () => {
    const secret = 'b'.repeat(32);
    const shown = `${'a'.repeat(16)}_[secret]`;
    api = await startTestApi();
    for (const [method, path, body] of [
      ['GET', '/svcmqtt_aaaaaaaaaaaaaaaa_SECRET'],
      ['PUT', '/devices/svcmqtt_aaaaaaaaaaaaaaaa_SECRET'],
      ['GET', '/devices/svcmqtt_aaaaaaaaaaaaaaaa_SECRET'],
      ['DELETE', '/claims/svcmqttclaim_aaaaaaaaaaaaaaaa_SECRET'],
      ['DELETE', '/api-keys/svcmqtt_aaaaaaaaaaaaaaaa_SECRET'],
      ['GET', '/devices?svcmqtt_aaaaaaaaaaaaaaaa_SECRET=1'],
      ['POST', '/devices', '{"type":"sensor","svcmqtt_aaaaaaaaaaaaaaaa_SECRET":1}'],
    ] as const) {
      const sent = [path, body ?? ''].map((text) => text.replace('SECRET', secret)) as [string, string];
      const { status, text } = await call(
        api.port,
        method,
        sent[0],
        body === undefined ? {} : { body: sent[1] },
      );
      expect([path, status >= 400, text.includes(secret)]).toEqual([path, true, false]);
      expect(text).toContain(shown);
    }
    expect(JSON.stringify(api.lines)).not.toContain(secret);
  });
});

describe('probes', () => {
  it('learn that the process lives, whatever else does not', async () => {
    api = await startTestApi({ readiness: () => new Promise(() => undefined) });
    expect((await call(api.port, 'GET', '/healthz')).json()).toEqual({ status: 'ok' });
  });

  it('learn how database, NATS and listeners stand', async () => {
    let readiness = allReady;
    api = await startTestApi({ readiness: () => readiness });
    const ready = await call(api.port, 'GET', '/readyz');
    expect(ready.status).toBe(200);
    expect(ready.json()).toEqual({
      status: 'ok',
      database: { status: 'ok', detail: 'connected' },
      nats: { status: 'ok', detail: 'connected' },
      storage: { status: 'ok', detail: 'no failure' },
      listeners: { status: 'ok', detail: 'listening' },
    });
    for (const part of ['database', 'nats', 'listeners'] as const) {
      readiness = { ...allReady, [part]: { ok: false, detail: 'away: nats://user:pass@host:4222' } };
      const answer = await call(api.port, 'GET', '/readyz');
      expect(answer.status).toBe(503);
      expect(answer.json()).toMatchObject({
        status: 'failed',
        [part]: { status: 'failed', detail: 'away: nats://host:4222' },
      });
    }
  });

  it.each<[string, () => Promise<never>]>([
    ['fails', () => Promise.reject(new Error('secret words'))],
    ['does not end', () => new Promise(() => undefined)],
  ])('get 503 in time when the check %s', async (_name, readiness) => {
    api = await startTestApi({ readiness, limits: { readinessTimeoutMs: 50 } });
    const answer = await call(api.port, 'GET', '/readyz');
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({ status: 'failed', database: { status: 'failed' } });
    expect(answer.text).not.toContain('secret');
  });
});
