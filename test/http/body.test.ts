import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, startTestApi, type TestApi } from './support.js';

describe('POST /devices', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await startTestApi();
  });
  afterAll(() => api.close());

  const post = (body: string | Buffer, headers: Record<string, string> = {}) =>
    call(api.port, 'POST', '/devices', { body, headers });

  it('answers 200 with exactly the five fields, and is not to be cached', async () => {
    const answer = await post('{"type":"sensor"}', { 'content-type': 'application/json' });
    expect(answer.status).toBe(200);
    const device = answer.json();
    expect(Object.keys(device).sort()).toEqual(['created_at', 'id', 'mqtt_password', 'mqtt_user', 'type']);
    expect(device).toMatchObject({ type: 'sensor', mqtt_password: 'shown-once-only' });
    expect(new Date(String(device.created_at)).toISOString()).toBe(device.created_at);
    expect(answer.headers['cache-control']).toBe('no-store');
  });

  it.each([
    ['what curl -d sends', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['text', { 'content-type': 'text/plain;charset=UTF-8' }],
    ['a form with files', { 'content-type': 'multipart/form-data; boundary=x' }],
    ['another character set', { 'content-type': 'application/json; charset=latin1' }],
    ['nonsense', { 'content-type': ';;; not / a type' }],
    ['an empty one', { 'content-type': '' }],
    ['none', {}],
    ['none, in chunks', { 'transfer-encoding': 'chunked' }],
  ])('reads JSON whatever the content type says: %s', async (_name, headers) => {
    const answer = await post('{"type":"sensor"}', headers as Record<string, string>);
    expect(answer.text).toContain('mqtt_password');
    expect(answer.status).toBe(200);
  });

  it.each<[string, string | Buffer, { field: string; problem: string | RegExp }[]]>([
    ['without type', '{}', [{ field: 'type', problem: 'is missing' }]],
    ['an empty type', '{"type":""}', [{ field: 'type', problem: /empty/ }]],
    ['a number', '{"type":5}', [{ field: 'type', problem: 'must be a string' }]],
    ['null', '{"type":null}', [{ field: 'type', problem: 'must be a string' }]],
    ['a list', '{"type":["sensor"]}', [{ field: 'type', problem: 'must be a string' }]],
    ['129 characters', `{"type":"${'x'.repeat(129)}"}`, [{ field: 'type', problem: /128/ }]],
    ['a control character', '{"type":"a\\u0007b"}', [{ field: 'type', problem: /control/ }]],
    ['U+0000', '{"type":"a\\u0000"}', [{ field: 'type', problem: /control/ }]],
    ['half a character', '{"type":"\\ud800"}', [{ field: 'type', problem: /Unicode/i }]],
    ['an unknown field', '{"type":"a","colour":1}', [{ field: 'colour', problem: 'is not a known field' }]],
    ['an id that is none', '{"type":"a","id":"b/c"}', [{ field: 'id', problem: /must not contain/ }]],
    [
      'an id like an option',
      '{"type":"a","id":"--json"}',
      [{ field: 'id', problem: /must not begin with a hyphen/ }],
    ],
    ['a type like an option', '{"type":"-a"}', [{ field: 'type', problem: 'must not begin with a hyphen' }]],
    ['an empty id', '{"type":"a","id":""}', [{ field: 'id', problem: 'must not be empty' }]],
    ['a count', '{"type":"a","count":2}', [{ field: 'count', problem: 'is not a known field' }]],
    ['no time', '{"type":"a","expires_at":"soon"}', [{ field: 'expires_at', problem: /must be a time/ }]],
    [
      'a time without offset',
      '{"type":"a","expires_at":"2099-01-31T12:00:00"}',
      [{ field: 'expires_at', problem: /offset/ }],
    ],
    [
      'a day that is none',
      '{"type":"a","expires_at":"2099-02-30T12:00:00Z"}',
      [{ field: 'expires_at', problem: /must be a time/ }],
    ],
    [
      'a time gone by',
      '{"type":"a","expires_at":"2020-01-31T12:00:00Z"}',
      [{ field: 'expires_at', problem: 'must be in the future' }],
    ],
    ['a list of metadata', '{"type":"a","metadata":[]}', [{ field: 'metadata', problem: /object/ }]],
    ['a number in metadata', '{"type":"a","metadata":{"b":1}}', [{ field: 'metadata.b', problem: /string/ }]],
    [
      'a key with a space',
      '{"type":"a","metadata":{"b c":"d"}}',
      [{ field: 'metadata.b c', problem: /key/ }],
    ],
    [
      'a long value',
      `{"type":"a","metadata":{"b":"${'x'.repeat(257)}"}}`,
      [{ field: 'metadata.b', problem: /256/ }],
    ],
    [
      'too many entries',
      JSON.stringify({
        type: 'a',
        metadata: Object.fromEntries(Array.from({ length: 33 }, (_, at) => [at, ''])),
      }),
      [{ field: 'metadata', problem: /32/ }],
    ],
    ['__proto__', '{"type":"a","__proto__":{}}', [{ field: '__proto__', problem: 'is not a known field' }]],
    [
      'a misspelt field',
      '{"typ":"a"}',
      [
        { field: 'type', problem: 'is missing' },
        { field: 'typ', problem: 'is not a known field' },
      ],
    ],
    ['no body', '', [{ field: 'body', problem: 'must be a JSON object' }]],
    ['a list as body', '[{"type":"a"}]', [{ field: 'body', problem: 'must be a JSON object' }]],
    ['a string as body', '"sensor"', [{ field: 'body', problem: 'must be a JSON object' }]],
    ['null as body', 'null', [{ field: 'body', problem: 'must be a JSON object' }]],
    ['a form', 'type=sensor', [{ field: 'body', problem: /^is not valid JSON/ }]],
    ['cut off', '{"type":"sensor"', [{ field: 'body', problem: /^is not valid JSON/ }]],
    ['not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), [{ field: 'body', problem: /UTF-8/ }]],
    ['deep nesting', '['.repeat(8_000), [{ field: 'body', problem: /^is not valid JSON/ }]],
  ])('answers 400 naming the field and stores nothing: %s', async (_name, body, errors) => {
    const before = api.rows.size;
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
    const problem = answer.json<{ code: string; detail: string; errors: unknown[] }>();
    expect(problem.code).toBe('INPUT_INVALID');
    expect(problem.errors).toEqual(
      errors.map(({ field, problem: text }) => ({
        field,
        problem: typeof text === 'string' ? text : expect.stringMatching(text),
      })),
    );
    for (const { field } of errors) expect(problem.detail).toContain(field);
    expect(api.rows.size).toBe(before);
  });

  it('names at most sixteen faults and shortens long names', async () => {
    const fields = Array.from({ length: 100 }, (_, index) => `"${'x'.repeat(80)}${index}":1`);
    const { errors } = (await post(`{"type":"a",${fields.join()}}`)).json<{ errors: { field: string }[] }>();
    expect(errors.length).toBeLessThanOrEqual(16);
    for (const { field } of errors) expect(field.length).toBeLessThanOrEqual(65);
  });

  it.each([
    ['with its length said', {}],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('answers 413 to a body over 16 KiB and stores nothing: %s', async (_name, headers) => {
    const before = api.rows.size;
    for (const bytes of [16_385, 4_000_000]) {
      const body = `{"type":"sensor"}${' '.repeat(bytes - 17)}`;
      const answer = await post(body, headers as Record<string, string>);
      expect(answer.status).toBe(413);
      expect(answer.json()).toMatchObject({
        code: 'BODY_TOO_LARGE',
        detail: expect.stringContaining('16 KiB'),
      });
    }
    expect(api.rows.size).toBe(before);
    const fitting = await post(
      `{"type":"sensor"}${' '.repeat(16_384 - 17)}`,
      headers as Record<string, string>,
    );
    expect(fitting.status).toBe(200);
  });
});

describe('a body that is no JSON', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await startTestApi();
  });
  afterAll(() => api.close());

  it.each([
    ['POST', '/devices', '; send for example {"type":"sensor"}'],
    ['PATCH', '/devices/a', '; send for example {"metadata":{"site":"lyon"}}'],
    ['POST', '/devices/a/rotate', '; send for example {"grace_seconds":86400}'],
    ['POST', '/claims', '; send for example {"type":"sensor","uses":100}'],
    ['POST', '/api-keys', '; send for example {"name":"ci","role":"provisioner"}'],
    ['POST', '/devices/a/enable', ''],
    [
      'PUT',
      '/policies/a',
      '; send for example {"publish":["raw/{id}/#"],"subscribe":["cmd/{id}/#"],"publish_rate":50}',
    ],
  ])('is answered with the example of its own route: %s %s', async (method, path, advice) => {
    const answer = await call(api.port, method, path, { body: '{"a":' });
    expect(answer.status).toBe(400);
    expect(answer.json()).toMatchObject({ detail: `body is not valid JSON${advice}` });
  });

  it('is never answered with the example of another route', async () => {
    const { detail } = (await call(api.port, 'POST', '/claims/redeem', { body: 'claim=x' })).json<{
      detail: string;
    }>();
    expect(detail).toMatch(/^body is not valid JSON/);
    expect(detail).not.toContain('"type"');
  });
});
