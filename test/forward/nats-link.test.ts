import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connectNats, type NatsLink } from '../../src/server/forward/connection/nats-link.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import { freePort } from '../support/free-port.js';
import { createCertificates, type TestCertificates } from '../support/nats-credentials.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { startNetwork } from '../support/network.js';

/** A way to a server that can be held up: nothing passes, and nobody is told. */
async function startHeldUp(target: number) {
  const ends: string[] = [];
  let near: net.Socket | undefined;
  const relay = net.createServer((socket) => {
    near = socket;
    const far = net.connect(target, '127.0.0.1');
    socket.pipe(far).pipe(socket);
    socket.on('end', () => ends.push('FIN')).on('error', (error) => ends.push(String(error)));
    far.on('error', () => socket.destroy());
    socket.on('close', () => far.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  return {
    ends,
    port: (relay.address() as net.AddressInfo).port,
    holdUp() {
      // That of who looked whether a server greets there.
      ends.length = 0;
      near?.unpipe().pause();
    },
    letGo: () => near?.resume(),
    close: () => relay.close(() => near?.destroy()),
  };
}

describe('a link to several servers', () => {
  let dir: string;
  let certificates: TestCertificates;
  const undo: (() => unknown)[] = [];
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'svc-mqtt-link-'));
    certificates = createCertificates(dir);
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step();
  });

  async function start(configExtra = ''): Promise<TestNatsServer> {
    const server = await startNatsServer({ jetstream: false, configExtra });
    undo.push(() => server.stop());
    return server;
  }

  async function connect(ports: number[], scheme = 'nats') {
    const log = openTestLog();
    const natsUrl = ports.map((port) => `${scheme}://127.0.0.1:${port}`).join(',');
    const natsTlsCa = scheme === 'tls' ? certificates.ca : undefined;
    const link: NatsLink = await connectNats({ ...noNatsSettings, natsUrl, natsTlsCa }, log.log);
    undo.push(() => link.close());
    return { link, log };
  }

  it('says of a server that is full that it is, and that this may pass', async () => {
    const server = await start('max_connections: 1');
    await connect([server.port]);
    for (let attempt = 0; attempt < 5; attempt += 1)
      await expect(connect([server.port])).rejects.toMatchObject({
        code: 'NATS_UNREACHABLE',
        mayPass: true,
        message: expect.stringContaining('takes no more connections: maximum connections exceeded'),
      });
  });

  it.each(['nats', 'tls'])(
    'leaves one that stands still, and nothing leaves the socket to it (%s)',
    async (scheme) => {
      const { cert, key } = certificates.server;
      const tls = `tls { cert_file: ${JSON.stringify(cert)}, key_file: ${JSON.stringify(key)} }`;
      const [one, other] = await Promise.all([1, 2].map(() => start(scheme === 'tls' ? tls : '')));
      if (one === undefined || other === undefined) throw new Error('no server');
      const way = await startHeldUp(one.port);
      undo.push(way.close);
      const { link, log } = await connect([way.port, other.port], scheme);
      way.holdUp();
      await until(() => log.count('nats_connected') === 2);
      expect(link.detail).toContain(`:${other.port}`);
      expect(log.count('nats_stalled')).toBe(1);
      expect(log.count('nats_silent')).toBe(0);
      way.letGo();
      // Ended with FIN, the socket would first send what lies in it.
      await until(() => way.ends.length > 0);
      expect(way.ends).toEqual([expect.stringContaining('ECONNRESET')]);
    },
  );

  it('is more patient with the next one, and does not go to and fro', async () => {
    const servers = [await start(), await start()];
    const { link, log } = await connect(servers.map(({ port }) => port));
    const freeze = async () => {
      const [left] = servers.filter(({ port }) => link.detail.endsWith(`:${port}`));
      const sinceMs = performance.now();
      const before = log.count('nats_left');
      await left?.pause();
      await until(() => log.count('nats_left') > before);
      const tookMs = performance.now() - sinceMs;
      left?.resume();
      await until(() => link.open);
      return tookMs;
    };
    undo.push(() => {
      for (const server of servers) server.resume();
    });
    await freeze();
    // Silence is counted from a PING, which is sent two seconds after the server was heard last; it is never shorter.
    expect(await freeze()).toBeGreaterThan(2_000);
    expect(await freeze()).toBeGreaterThan(4_000);
  });

  it('stays with one that stands still while no other answers', async () => {
    const server = await start();
    const { link, log } = await connect([server.port, await freePort()]);
    await server.pause();
    undo.push(() => server.resume());
    await until(() => log.count('nats_stalled') === 1);
    await delay(1_500);
    expect(link.stalled).toBe(true);
    server.resume();
    await until(() => link.open);
    expect([log.count('nats_disconnected'), log.count('nats_left')]).toEqual([0, 0]);
  });

  it('stays with one that goes on before the other has answered', async () => {
    const [one, other] = [await start(), await start()];
    const far = await startNetwork(other.port, { delayMs: 1_000 });
    undo.push(() => far.close());
    const { link, log } = await connect([one.port, far.port]);
    await one.pause();
    undo.push(() => one.resume());
    await until(() => far.connections > 0);
    one.resume();
    await until(() => link.open);
    // The greeting, then the handshake over a connection of its own, each a second there and one back.
    await until(() => far.connections === 2);
    await delay(4_500);
    expect([log.count('nats_disconnected'), log.count('nats_left')]).toEqual([0, 0]);
    expect(link.detail).toContain(`:${one.port}`);
  });
});
