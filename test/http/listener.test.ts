import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { requireListening } from '../../src/server/http/listener.js';
import { call, startTestApi } from './support.js';

describe('LISTEN_ADDR', () => {
  it('that is taken fails with address, setting and remedy', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const start = startTestApi({ config: { listenAddr: `127.0.0.1:${port}` } });
    await expect(start).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: `The HTTP API cannot listen on 127.0.0.1:${port}: another process uses it`,
      suggestion: expect.stringContaining('LISTEN_ADDR'),
    });
    other.close();
  });

  it.each([
    ['192.0.2.77:0', 'this machine does not have it'],
    ['127.0.0.1:70000', 'the port is over 65535'],
  ])('%s fails with its cause', async (listenAddr, cause) => {
    await expect(startTestApi({ config: { listenAddr } })).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: `The HTTP API cannot listen on ${listenAddr}: ${cause}`,
    });
  });

  it.each([
    ['EACCES', 'this user may not use it'],
    ['EWHATEVER', 'listen failed'],
  ])('names %s', async (code, cause) => {
    const listen = () => Promise.reject(Object.assign(new Error('listen failed'), { code }));
    await expect(requireListening(listen, ':80')).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: `The HTTP API cannot listen on :80: ${cause}`,
    });
  });

  it.each([
    [':0', '127.0.0.1'],
    ['localhost:0', 'localhost'],
    ['[::1]:0', '::1'],
  ])('%s answers at %s', async (listenAddr, host) => {
    const api = await startTestApi({ config: { listenAddr } });
    expect((await call(api.port, 'GET', '/healthz', { host })).status).toBe(200);
    await api.close();
  });

  it('without a host means every IPv4 address where there is no IPv6', async () => {
    const tried: string[] = [];
    const listen = async ({ host, port }: { host: string; port: number }) => {
      tried.push(`${host} ${port}`);
      if (host === '::') throw Object.assign(new Error('no IPv6'), { code: 'EAFNOSUPPORT' });
    };
    await requireListening(listen, ':9091');
    expect(tried).toEqual([':: 9091', '0.0.0.0 9091']);
  });
});
