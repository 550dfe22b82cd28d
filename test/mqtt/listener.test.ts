import { readFileSync } from 'node:fs';
import { connect, Server, type Socket } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { limitLog } from '../../src/log.js';
import { openEntrance } from '../../src/server/mqtt/transport/handshakes.js';
import { startListener } from '../../src/server/mqtt/transport/tcp-listener.js';
import { openControlledBroker } from '../support/controlled-broker.js';
import { openTestLog } from '../support/forwarding.js';
import { connectPacket, openRawClient } from '../support/raw-client.js';

/** The server of this process that listens on a port: the system fails to accept too rarely to wait for it. */
function findServer(port: number): Server {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  const found = handles.find((handle): handle is Server => {
    const address = handle instanceof Server ? handle.address() : null;
    return typeof address === 'object' && address?.port === port;
  });
  if (found === undefined) throw new Error(`nothing listens on port ${port}`);
  return found;
}

it('goes on when connections cannot be accepted, and says so, not too often', async () => {
  const log = openTestLog();
  const controlled = await openControlledBroker({}, { log: log.log });
  try {
    const { port, device } = controlled;
    const server = findServer(port);
    for (let count = 0; count < 100; count += 1) {
      server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE', syscall: 'accept' }));
    }
    const client = await openRawClient(port);
    client.send(connectPacket({ userName: device.id, password: device.password }));
    expect((await client.next()).body[1]).toBe(0);
    client.destroy();
    const lines = log.lines.filter(({ event }) => event === 'accept_failed');
    expect(lines).toHaveLength(20);
    expect(lines[0]).toMatchObject({ level: 50, port, reason: 'accept EMFILE' });
  } finally {
    await controlled.close();
  }
});

/** A listener on 127.0.0.1 that counts what it accepts in each turn of the event loop. */
async function listen(acceptsPerTurn: number) {
  const log = openTestLog();
  const sockets: Socket[] = [];
  const perTurn: number[] = [];
  let inTurn = 0;
  const listener = await startListener({
    host: '127.0.0.1',
    port: 0,
    setting: 'MQTT_PORT',
    acceptsPerTurn,
    log: limitLog(log.log),
    onSocket(socket) {
      sockets.push(socket);
      inTurn += 1;
      if (inTurn > 1) return;
      setImmediate(() => {
        perTurn.push(inTurn);
        inTurn = 0;
      });
    },
  });
  const clients: Socket[] = [];
  onTestFinished(async () => {
    await listener.close();
    for (const socket of [...sockets, ...clients]) socket.destroy();
  });
  return {
    ...listener,
    log,
    sockets,
    perTurn,
    /** Connects so many; they are in the system's queue before the event loop turns. */
    async connectAll(count: number): Promise<Socket[]> {
      const opened = Array.from({ length: count }, () =>
        connect({ host: '127.0.0.1', port: listener.port }).on('error', () => {}),
      );
      clients.push(...opened);
      await new Promise<void>((resolve) => process.nextTick(() => process.nextTick(resolve)));
      return opened;
    },
    /** Connects until the listener has all its handles. */
    async widen(): Promise<void> {
      await vi.waitFor(
        async () => {
          const before = sockets.length;
          await this.connectAll(3 * acceptsPerTurn);
          await vi.waitFor(() => expect(sockets.length).toBe(before + 3 * acceptsPerTurn));
          expect(Math.max(...perTurn)).toBe(acceptsPerTurn);
        },
        { timeout: 60_000 },
      );
    },
  };
}

it('accepts several connections in a turn of the event loop, each once', async () => {
  const listener = await listen(16);
  await listener.widen();
  const before = listener.sockets.length;
  await listener.connectAll(200);
  await vi.waitFor(() => expect(listener.sockets).toHaveLength(before + 200));
  expect(new Set(listener.sockets.map(({ remotePort }) => remotePort)).size).toBe(before + 200);
  expect(listener.log.lines).toEqual([]);
});

it.runIf(process.platform === 'linux')(
  'keeps the whole queue of the system with its further handles',
  async () => {
    const listener = await listen(4);
    await listener.widen();
    const before = listener.sockets.length;
    await listener.connectAll(1_000);
    const local = `0100007F:${listener.port.toString(16).toUpperCase().padStart(4, '0')}`;
    const [queue] = readFileSync('/proc/self/net/tcp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, address, , state]) => address === local && state === '0A');
    expect(Number.parseInt(queue?.[4]?.split(':')[1] ?? '', 16)).toBe(1_000);
    await vi.waitFor(() => expect(listener.sockets).toHaveLength(before + 1_000), { timeout: 30_000 });
  },
);

it('accepts nothing once it is closed, with its further handles there or on their way', async () => {
  const wide = await listen(8);
  await wide.widen();
  const early = await listen(8);
  for (const listener of [wide, early]) {
    await listener.close();
    await vi.waitFor(async () => {
      const [client] = (await listener.connectAll(1)) as [Socket];
      const refused = await new Promise<unknown>((resolve) => {
        client.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
        client.once('connect', () => resolve('connected'));
      });
      expect(refused).toBe('ECONNREFUSED');
    });
    expect(listener.log.lines).toEqual([]);
  }
});

it('spends nothing on a connection that was reset before it was accepted', async () => {
  const failed: string[] = [];
  const arrived: string[] = [];
  const entrance = openEntrance({
    keeper: {
      mayEnter: () => true,
      onArrival: ({ remoteAddress }) => arrived.push(remoteAddress),
      onClient: () => {},
      onFailed: (_arrival, reason) => failed.push(reason),
    },
    timeoutMs: 10_000,
    proxies: undefined,
    tls: undefined,
    webSocket: undefined,
  });
  const listener = await listen(1);
  const [gone] = (await listener.connectAll(1)) as [Socket];
  await vi.waitFor(() => expect(listener.sockets).toHaveLength(1));
  gone.resetAndDestroy();
  const [socket] = listener.sockets as [Socket];
  // Without a peer the system has no address of one, which is how it shows.
  await vi.waitFor(() => expect(gone.destroyed).toBe(true));
  await new Promise((resolve) => setImmediate(resolve));
  entrance.enter(socket, 'tcp');
  expect([failed, arrived]).toEqual([['connection-lost'], []]);
  expect(socket.destroyed).toBe(true);
});
