import { connect, type NatsConnection } from 'nats';
import pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { fakeIo } from '../cli/support.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, connected, type Gateway, publishAndWait, startGateway, until } from './gateway.js';

/** What cannot be sent to a device is refused with a code, and nothing of it is stored. */

const later = undoAfterAll();
let gateway: Gateway;
let nats: NatsConnection;

beforeAll(async () => {
  gateway = await startGateway(later, {
    env: { MAX_TOPIC_LEVELS: '8' },
    nats: { configExtra: 'max_payload: 65536' },
  });
  nats = await connect({ servers: gateway.nats.url });
  later(() => nats.close());
});

async function send(id: string, request: object, headers: Record<string, string> = {}) {
  const url = `http://127.0.0.1:${gateway.server.httpPort}/devices/${encodeURIComponent(id)}/commands`;
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(request), headers });
  const { code, detail, suggestion } = (await answer.json()) as Record<string, string | undefined>;
  return { status: answer.status, code, detail, suggestion };
}

async function run(...args: string[]): Promise<unknown> {
  const io = fakeIo({ env: { API_URL: `http://127.0.0.1:${gateway.server.httpPort}` } });
  return await runProgram(['device', 'send', ...args], io).catch((error: SvcMqttError) => error.code);
}

const stored = async () => (await (await nats.jetstreamManager()).streams.info('CMD')).state.last_seq;

describe('nothing is stored, and the answer says why', () => {
  const wide = '\u3000'.repeat(900);
  test.each<[string, object, number, string, RegExp]>([
    [
      'a topic of more levels than there may be',
      { topic: 'a/b/c/d/e/f/g/h' },
      400,
      'INPUT_INVALID',
      /MAX_TOPIC_LEVELS, 8/,
    ],
    ['a topic whose subject NATS would not take', { topic: wide }, 400, 'INPUT_INVALID', /3500 bytes/],
    ['the same of a question', { topic: wide, wait_seconds: 1 }, 400, 'INPUT_INVALID', /3500 bytes/],
    ['a wildcard', { topic: 'a/+' }, 400, 'INPUT_INVALID', /topic/],
    ['a wildcard of a question', { topic: '#', wait_seconds: 1 }, 400, 'INPUT_INVALID', /topic/],
    ...['topic', 'payload'].flatMap((field) =>
      [{}, { wait_seconds: 1 }].map((more): [string, object, number, string, RegExp] => [
        `a half of a surrogate pair in the ${field} ${JSON.stringify(more)}`,
        { topic: 'a', ...more, [field]: 'a\ud800' },
        400,
        'INPUT_INVALID',
        new RegExp(`${field} must be well-formed`),
      ]),
    ),
    [
      'a payload over what NATS takes',
      { topic: 'a', payload: 'x'.repeat(66_000) },
      413,
      'BODY_TOO_LARGE',
      /that NATS takes/,
    ],
    [
      'the same of a question',
      { topic: 'a', payload: 'x'.repeat(66_000), wait_seconds: 1 },
      413,
      'BODY_TOO_LARGE',
      /NATS/,
    ],
    [
      'a payload over the limit',
      { topic: 'a', payload: 'x'.repeat(262_145) },
      413,
      'BODY_TOO_LARGE',
      /262144/,
    ],
    [
      'a question to a device that is nowhere',
      { topic: 'a', wait_seconds: 1 },
      409,
      'DEVICE_UNAVAILABLE',
      /no client/,
    ],
    [
      'a body over the limit',
      { topic: 'a', payload: 'x'.repeat(400_000) },
      413,
      'BODY_TOO_LARGE',
      / 357 KiB;/,
    ],
  ])('%s', async (_name, request, status, code, detail) => {
    const device = await addDevice(gateway.server.httpPort);
    const before = await stored();
    expect(await send(device.id, request)).toMatchObject({
      status,
      code,
      detail: expect.stringMatching(detail),
    });
    expect(await stored()).toBe(before);
    // The connection to NATS is as good as before, for everybody.
    const client = await connected(later, gateway.server.mqttPort, device);
    await publishAndWait(client, device, 'still served');
    expect(gateway.server.log.filter(({ event }) => event === 'nats_disconnected')).toEqual([]);
  });

  test('a device that is unknown, revoked or expired', async () => {
    const before = await stored();
    expect(await send('nobody', { topic: 'a' })).toMatchObject({ status: 404, code: 'DEVICE_NOT_FOUND' });
    expect(await send('\0', { topic: 'a' })).toMatchObject({ status: 404, code: 'DEVICE_NOT_FOUND' });
    const revoked = await addDevice(gateway.server.httpPort);
    await fetch(`http://127.0.0.1:${gateway.server.httpPort}/devices/${revoked.id}`, { method: 'DELETE' });
    const expired = await addDevice(gateway.server.httpPort);
    const sql = new pg.Client({ connectionString: gateway.databaseUrl });
    await sql.connect();
    await sql.query("update devices set expires_at = now() - interval '1 hour' where id = $1", [expired.id]);
    await sql.end();
    for (const [{ id }, why, remedy] of [
      [revoked, 'revoked', /Enable/],
      [expired, 'expired', /expiry/],
    ] as const) {
      for (const request of [{ topic: 'a' }, { topic: 'a', wait_seconds: 1 }])
        expect(await send(id, request)).toMatchObject({
          status: 409,
          code: 'DEVICE_UNAVAILABLE',
          detail: expect.stringContaining(why),
          suggestion: expect.stringMatching(remedy),
        });
      expect(await run(id, 'a')).toBe('DEVICE_UNAVAILABLE');
    }
    expect(await stored()).toBe(before);
  });

  test('a topic to which the policy lets no client subscribe', async () => {
    const api = `http://127.0.0.1:${gateway.server.httpPort}`;
    const { id } = (await (
      await fetch(`${api}/devices`, { method: 'POST', body: '{"type":"narrow"}' })
    ).json()) as { id: string };
    const body = JSON.stringify({ publish: ['raw/{id}/#'], subscribe: ['cmd/{id}/fan/#'] });
    expect((await fetch(`${api}/policies/narrow`, { method: 'PUT', body })).status).toBe(200);
    await until('the policy is known', async () => (await send(id, { topic: 'light' })).status === 400);
    expect(await send(id, { topic: 'light' })).toMatchObject({
      code: 'INPUT_INVALID',
      detail: expect.stringContaining(`no client subscribe to cmd/${id}/light`),
    });
    expect(await run(id, 'light')).toBe('INPUT_INVALID');
    expect(await send(id, { topic: 'fan/speed' })).toMatchObject({ status: 200 });
    expect(await send(id, { topic: 'light', wait_seconds: 1 })).toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
  });

  test('a stream that does not take it', async () => {
    const { id } = await addDevice(gateway.server.httpPort);
    const { streams } = await nats.jetstreamManager();
    const { config } = await streams.info('CMD');
    await streams.update('CMD', { ...config, max_msg_size: 1_000 });
    expect(await send(id, { topic: 'a', payload: 'x'.repeat(2_000) })).toMatchObject({
      status: 413,
      code: 'BODY_TOO_LARGE',
      detail: expect.stringContaining('no command so large'),
    });
    const { state } = await streams.info('CMD');
    await streams.update('CMD', {
      ...config,
      max_msgs: Math.max(1, state.messages),
      discard: 'new' as never,
    });
    if (state.messages === 0) await send(id, { topic: 'a' });
    expect(await send(id, { topic: 'a' })).toMatchObject({
      status: 503,
      code: 'NATS_STREAM',
    });
    // What NATS said is for the operator.
    expect(JSON.stringify(gateway.server.log)).toContain('maximum messages exceeded');
    await streams.update('CMD', config);
    expect(await send(id, { topic: 'a' })).toMatchObject({ status: 200 });
  });
});

test('a key without the role sends nothing', async ({ onTestFinished }) => {
  const own = await startGateway(onTestFinished);
  const { id } = await addDevice(own.server.httpPort);
  const api = `http://127.0.0.1:${own.server.httpPort}`;
  const create = async (role: string, authorization = '') => {
    const answer = await fetch(`${api}/api-keys`, {
      method: 'POST',
      body: JSON.stringify({ name: role, role }),
      headers: authorization === '' ? {} : { authorization },
    });
    return ((await answer.json()) as { key: string }).key;
  };
  const admin = `Bearer ${await create('admin')}`;
  const viewer = await create('viewer', admin);
  const asViewer = async (path: string, body?: string) => {
    const answer = await fetch(`${api}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      ...(body === undefined ? {} : { body }),
      headers: { authorization: `Bearer ${viewer}` },
    });
    return [answer.status, ((await answer.json()) as { code: string }).code];
  };
  for (const body of ['{"topic":"a"}', '{"topic":"a","wait_seconds":1}'])
    expect(await asViewer(`/devices/${id}/commands`, body)).toEqual([403, 'FORBIDDEN']);
  // It may look.
  expect(await asViewer(`/devices/${id}/commands/1`)).toEqual([404, 'COMMAND_NOT_FOUND']);
  const io = fakeIo({ env: { API_URL: api, API_KEY: viewer } });
  await expect(runProgram(['device', 'send', id, 'a'], io)).rejects.toMatchObject({ code: 'FORBIDDEN' });
});
