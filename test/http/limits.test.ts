import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { HttpLimits } from '../../src/server/http/limits.js';
import type { DeviceQueries } from '../../src/server/http/resources/device-queries.js';
import { call, sendBytes, startTestApi, type TestApi } from './support.js';

let api: TestApi | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await api?.close();
  api = undefined;
});

const start = async (limits: Partial<HttpLimits>, devices: Partial<DeviceQueries> = {}) => {
  api = await startTestApi({ limits: { timeoutCheckMs: 20, ...limits }, devices });
  return api;
};

const open = async (port: number, localAddress = '127.0.0.1') => {
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => undefined);
  sockets.push(socket);
  await once(socket, 'connect');
  return socket;
};

const healthRequest = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

/** Asks from an address for something, on a connection that stays; the text is empty when it is closed instead. */
const ask = async (port: number, localAddress: string) => {
  const socket = await open(port, localAddress);
  const answered = once(socket, 'data').then(([data]) => String(data));
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const text = await Promise.race([answered, once(socket, 'close').then(() => '')]);
  return { socket, text };
};

/** The server has accepted a connection once it has answered on it. */
const hold = async (port: number, localAddress: string) => {
  const { socket, text } = await ask(port, localAddress);
  expect(text).toMatch(/^HTTP\/1\.1 200 /);
  return socket;
};

/** The problem in a response read off the wire. */
const problemIn = (response: string) => JSON.parse(response.slice(response.indexOf('\r\n\r\n') + 4));

describe('a peer', () => {
  it('that sends nothing, or only part of a header, is cut off with 408', async () => {
    const { port } = await start({ headersTimeoutMs: 100, requestTimeoutMs: 5_000 });
    for (const bytes of ['', 'GET /healthz HT', 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n']) {
      const response = await sendBytes(port, bytes);
      expect(response).toMatch(/^HTTP\/1\.1 408 /);
      expect(problemIn(response)).toMatchObject({ status: 408, code: 'INPUT_INVALID' });
    }
  });

  it('that sends its header byte by byte is cut off all the same', async () => {
    const { port } = await start({ headersTimeoutMs: 200, requestTimeoutMs: 5_000 });
    let dripping: NodeJS.Timeout | undefined;
    const response = await sendBytes(port, 'GET /healthz HTTP/1.1\r\nX-A: ', {
      onOpen: (write) => {
        dripping = setInterval(() => write('a'), 10);
      },
    });
    clearInterval(dripping);
    expect(response).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('that sends its body byte by byte is cut off, before or after its answer', async () => {
    const { port, rows } = await start({ headersTimeoutMs: 1_000, requestTimeoutMs: 1_500 });
    for (const [path, host] of [
      ['/devices', 'localhost'],
      ['/devices', 'evil.example'],
    ]) {
      let dripping: NodeJS.Timeout | undefined;
      const head = `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n`;
      const response = await sendBytes(port, head, {
        onOpen: (write) => {
          dripping = setInterval(() => write('1\r\n \r\n'), 10);
        },
      });
      clearInterval(dripping);
      expect(response).toMatch(host === 'localhost' ? /^HTTP\/1\.1 408 / : /^HTTP\/1\.1 403 /);
    }
    expect(rows.size).toBe(0);
  });

  it('that sends no HTTP gets 400 and is closed', async () => {
    const { port } = await start({});
    for (const bytes of [
      '\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x00',
      'GET\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
    ]) {
      const response = await sendBytes(port, bytes);
      expect(response).toMatch(/^HTTP\/1\.1 400 /);
      expect(problemIn(response)).toMatchObject({ status: 400, code: 'INPUT_INVALID' });
    }
    // HTTP/1.1 requires Host, and two lengths are a way to smuggle a request past a proxy.
    for (const header of ['', 'Host: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n']) {
      expect(await sendBytes(port, `POST /devices HTTP/1.1\r\n${header}\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
    }
  });

  it('with too long an address or header gets 414 or 431', async () => {
    const { port } = await start({});
    for (const path of [`/healthz?${'x'.repeat(5_000)}`, `/devices/${'x'.repeat(5_000)}`]) {
      const answer = await call(port, 'GET', path);
      expect(answer.status).toBe(414);
      expect(answer.json()).toMatchObject({ status: 414, code: 'INPUT_INVALID' });
    }
    const answer = await call(port, 'GET', '/healthz', { headers: { 'x-a': 'x'.repeat(20_000) } });
    expect(answer.status).toBe(431);
    expect(answer.json()).toMatchObject({ status: 431, code: 'INPUT_INVALID' });
  });

  it('that sends too much reads its answer, and may go on', async () => {
    const { port } = await start({});
    const bytes = 300_000;
    const response = await sendBytes(
      port,
      `POST /devices HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\n${'x'.repeat(bytes)}` +
        'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    expect(response).toMatch(/^HTTP\/1\.1 413 .*HTTP\/1\.1 200 /s);
  });

  it('that comes when the connections are used up is closed, and welcome when one is free', async () => {
    let asked = 0;
    const find = () => {
      asked += 1;
      return new Promise<undefined>(() => undefined);
    };
    const { port } = await start({ maxConnections: 3, closeTimeoutMs: 0 }, { find });
    const held = [await open(port), await open(port), await open(port)];
    for (const socket of held) socket.write('GET /devices/a HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await expect.poll(() => asked).toBe(3);
    expect(await sendBytes(port, healthRequest)).toBe('');
    held[0]?.destroy();
    await expect.poll(() => sendBytes(port, healthRequest)).toMatch(/^HTTP\/1\.1 200 /);
    expect(held.slice(1).map(({ closed }) => closed)).toEqual([false, false]);
  });

  it('that only holds connections makes room for others when they are used up', async () => {
    const { port } = await start({ maxConnections: 3 });
    for (let count = 0; count < 3; count += 1) await hold(port, '127.0.0.1');
    await expect.poll(() => sendBytes(port, healthRequest)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('that has as many connections as one address may gets no more, and shuts nobody else out', async () => {
    const { port } = await start({ maxConnectionsPerAddress: 2 });
    const [first] = [await hold(port, '127.0.0.2'), await hold(port, '127.0.0.2')];
    const refused = await open(port, '127.0.0.2');
    await once(refused, 'close');
    expect(await sendBytes(port, healthRequest)).toMatch(/^HTTP\/1\.1 200 /);
    first?.destroy();
    await expect.poll(async () => (await ask(port, '127.0.0.2')).text).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('that stays idle after an answer is closed', async () => {
    const { port } = await start({ keepAliveTimeoutMs: 50 });
    expect(await sendBytes(port, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 200 /,
    );
  });
});

describe('close()', () => {
  it('answers what is under way, ends idle and silent connections, and takes no new ones', async () => {
    let finish: (() => void) | undefined;
    const find = () =>
      new Promise<undefined>((resolve) => {
        finish = () => resolve(undefined);
      });
    const { port, close } = await start({ closeTimeoutMs: 60_000 }, { find });
    const idle = await open(port);
    idle.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(idle, 'data');
    await open(port);
    const begun = await open(port);
    begun.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
    const underWay = call(port, 'GET', '/devices/a');
    await expect.poll(() => finish).toBeDefined();

    const closing = close();
    await once(idle, 'close');
    expect(await sendBytes(port, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n')).toBe('');
    begun.write('\r\n');
    const [response] = await once(begun, 'data');
    expect(String(response)).toMatch(/^HTTP\/1\.1 200 .*connection: close/is);
    finish?.();
    expect((await underWay).status).toBe(404);
    await closing;
  });

  it('cuts off what does not end in time', async () => {
    let asked = false;
    const find = () => {
      asked = true;
      return new Promise<undefined>(() => undefined);
    };
    const { port, close } = await start({ closeTimeoutMs: 100 }, { find });
    const underWay = call(port, 'GET', '/devices/a').catch((error: NodeJS.ErrnoException) => error.code);
    await expect.poll(() => asked).toBe(true);
    const closing = close();
    expect(close()).toBe(closing);
    await closing;
    expect(await underWay).toBe('ECONNRESET');
  });
});
