import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { hashSecret } from '../../src/db/secrets.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { call, startTestApi, type TestApi } from './support.js';

const open: (TestApi | Socket)[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) {
    if ('destroy' in each) each.destroy();
    else await each.close();
  }
});

async function start(
  limits: Parameters<typeof startTestApi>[0] = {},
): Promise<{ api: TestApi; fleet: ReturnType<typeof openIdleFleet> }> {
  const fleet = openIdleFleet();
  const api = await startTestApi({ ...limits, view: fleet });
  open.push(api);
  return { api, fleet };
}

/** Asks for the events on a bare socket, whose reading the test decides. */
async function follow(port: number, header = ''): Promise<{ socket: Socket; text(): string }> {
  const socket = connect(port, '127.0.0.1');
  open.push(socket);
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  socket.on('error', () => {});
  socket.write(`GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n${header}\r\n`);
  await vi.waitFor(() => expect(text).toMatch(/: svc-mqtt|^HTTP\/1\.1 4/));
  return { socket, text: () => text };
}

describe('a stream of events', () => {
  test('lives on heartbeats, and ends with the server', async () => {
    const { api } = await start({ limits: { eventHeartbeatMs: 20, closeTimeoutMs: 600_000 } });
    const { socket, text } = await follow(api.port);
    await vi.waitFor(() => expect(text().split(': alive').length).toBeGreaterThan(3));
    const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    await api.close();
    await ended;
  });

  test('is cut off when its reader does not keep up, and counted', async () => {
    const { api, fleet } = await start({ limits: { maxEventStreamBytes: 1_048_576 } });
    const { socket } = await follow(api.port);
    const { socket: reading, text } = await follow(api.port);
    socket.pause();
    const client = 'c'.repeat(4_000);
    for (let round = 0; fleet.feed.droppedListeners === 0; round += 1) {
      for (let count = 0; count < 100; count += 1) fleet.feed.emit({ kind: 'connected', client });
      fleet.feed.emit({ kind: 'connected', client: `round ${round}.` });
      // The other reader keeps up.
      await vi.waitFor(() => expect(text()).toContain(`round ${round}.`), { interval: 5 });
    }
    expect(fleet.feed.droppedListeners).toBe(1);
    expect(api.lines.filter(({ event }) => event === 'event_listener_dropped')).toHaveLength(1);
    fleet.feed.emit({ kind: 'dropped', reason: 'the last one', count: 1 });
    await vi.waitFor(() => expect(text()).toContain('the last one'));
    expect(reading.destroyed).toBe(false);
  });

  test('is counted once however much happens before it is closed', async () => {
    const { api, fleet } = await start({ limits: { maxEventStreamBytes: 16_384 } });
    const { socket } = await follow(api.port);
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    const client = 'c'.repeat(200);
    for (let count = 0; count < 1_000; count += 1) fleet.feed.emit({ kind: 'connected', client });
    await closed;
    expect(fleet.feed.droppedListeners).toBe(1);
  });

  test('goes on after Last-Event-ID and tells of a gap', async () => {
    const { api, fleet } = await start();
    for (let at = 0; at < 1_100; at += 1) fleet.feed.emit({ kind: 'connected', device: `d${at}` });
    const { text } = await follow(api.port, 'Last-Event-ID: r1.10\r\n');
    await vi.waitFor(() => expect(text()).toContain('"d1099"'));
    expect(text()).toContain('event: missed\ndata: {"count":66}');
    expect(text().split('event: connected')).toHaveLength(1_025);
  });

  test.each(['r2.10', 'r1.', 'r1.-1', 'nonsense'])('takes no notice of the foreign id %s', async (id) => {
    const { api, fleet } = await start();
    fleet.feed.emit({ kind: 'connected', device: 'before' });
    const { text } = await follow(api.port, `Last-Event-ID: ${id}\r\n`);
    fleet.feed.emit({ kind: 'connected', device: 'after' });
    await vi.waitFor(() => expect(text()).toContain('"after"'));
    expect(text()).not.toContain('before');
  });

  test('is refused beyond the limit', async () => {
    const { api } = await start({ limits: { maxEventStreams: 1 } });
    const first = await follow(api.port);
    const answer = await call(api.port, 'GET', '/events');
    expect([answer.status, answer.json().code]).toEqual([429, 'TOO_MANY_REQUESTS']);
    first.socket.destroy();
    await vi.waitFor(async () => {
      const { text } = await follow(api.port);
      expect(text()).toContain('200 OK');
    });
  });
});

test('streams that were asked for one behind another end with their connection', async () => {
  const { api, fleet } = await start({ limits: { maxEventStreams: 4, eventHeartbeatMs: 20 } });
  const listen = vi.spyOn(fleet.events, 'listen');
  const socket = connect(api.port, '127.0.0.1');
  open.push(socket);
  socket.write('GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(4));
  await vi.waitFor(() => expect(listen).toHaveBeenCalledTimes(4));
  expect((await call(api.port, 'GET', '/events')).status).toBe(429);
  socket.destroy();
  await vi.waitFor(async () => expect((await follow(api.port)).text()).toContain('200 OK'));
  for (let count = 1; count < 4; count += 1) expect((await follow(api.port)).text()).toContain('200 OK');
});

test('a stream behind another one is cut off with its connection when it grows too large', async () => {
  const { api, fleet } = await start({ limits: { maxEventStreamBytes: 16_384 } });
  const listen = vi.spyOn(fleet.events, 'listen');
  const socket = connect(api.port, '127.0.0.1').resume();
  open.push(socket);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  for (const kind of ['connected', 'revoked'])
    socket.write(`GET /events?kind=${kind} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
  await vi.waitFor(() => expect(listen).toHaveBeenCalledTimes(2));
  const client = 'c'.repeat(200);
  for (let count = 0; count < 200; count += 1) {
    fleet.feed.emit({ kind: 'revoked', client });
  }
  await closed;
  expect(fleet.feed.droppedListeners).toBe(1);
});

test('one caller cannot take all streams of events', async () => {
  const apiToken = 'a-token-of-at-least-16-characters';
  const secretSalt = Buffer.alloc(16);
  const secret = 'b'.repeat(32);
  const secretHash = hashSecret(secretSalt, Buffer.from(secret));
  const { api } = await start({
    config: { apiToken },
    limits: { maxEventStreamsPerCaller: 2 },
    keys: {
      exist: async () => true,
      load: async (ids) =>
        ids.map((id) => ({
          ...{ id, name: `key ${id}`, role: 'viewer', secretSalt, secretHash },
          ...{ expiresAt: null, revoked: false },
        })),
    },
  });
  const show = (credential: string) => `Authorization: Bearer ${credential}\r\n`;
  const keys = ['a', 'c'].map((letter) => show(`svcmqtt_${letter.repeat(16)}_${secret}`));
  for (const header of [...keys, show(apiToken)]) {
    const first = await follow(api.port, header);
    expect((await follow(api.port, header)).text()).toContain('200 OK');
    const refused = (await follow(api.port, header)).text();
    expect(refused).toMatch(/^HTTP\/1\.1 429 .*retry-after: 10/is);
    expect(refused).toMatch(/2 streams of events are open with (this key|API_TOKEN), which is the limit/);
    first.socket.destroy();
    await vi.waitFor(async () => expect((await follow(api.port, header)).text()).toContain('200 OK'));
  }
});

test('nobody is kept as a reader of events who left while the key was looked up', async () => {
  const secretSalt = Buffer.alloc(16);
  const secret = 'b'.repeat(32);
  const key = {
    id: 'a'.repeat(16),
    name: 'slow',
    role: 'viewer',
    secretSalt,
    secretHash: hashSecret(secretSalt, Buffer.from(secret)),
    expiresAt: null,
    revoked: false,
  } as const;
  let asked = false;
  let answer = () => {};
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const { api, fleet } = await start({
    limits: { maxEventStreams: 1 },
    keys: {
      exist: async () => true,
      async load() {
        asked = true;
        await answered;
        return [key];
      },
    },
  });
  const listen = vi.spyOn(fleet.events, 'listen');
  const authorization = `Authorization: Bearer svcmqtt_${key.id}_${secret}\r\n`;
  const socket = connect(api.port, '127.0.0.1');
  open.push(socket);
  socket.write(`GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n${authorization}\r\n`);
  await vi.waitFor(() => expect(asked).toBe(true));
  // The server's side is closed when it has answered with its own end.
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.end();
  await closed;
  answer();
  const { text } = await follow(api.port, authorization);
  expect(text()).toContain('200 OK');
  expect(listen).toHaveBeenCalledTimes(1);
});

test('HEAD is not answered by a stream of events that never ends', async () => {
  const { api } = await start();
  expect((await call(api.port, 'HEAD', '/events')).status).toBe(405);
});

test('/stats shows no credentials', async () => {
  const { api } = await start();
  const { nats } = (await call(api.port, 'GET', '/stats')).json<{ nats: { detail: string } }>();
  expect(nats.detail).toBe('nats://127.0.0.1:4222');
});
