import { spawnSync } from 'node:child_process';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import type { CloseReason } from '../../src/server/mqtt/protocol/close-reason.js';
import { openTestCertificates, type TestCertificates } from '../support/certificates.js';
import { allConnections, type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { openTestLog } from '../support/forwarding.js';
import { binaryProxyHeader } from '../support/proxy-header.js';
import { connectPacket, openRawClient, publishPacket } from '../support/raw-client.js';

const proxy = '127.0.0.2';
const headers = {
  'version 1': Buffer.from('PROXY TCP4 203.0.113.9 192.0.2.1 40001 1883\r\n'),
  'version 2': binaryProxyHeader({
    source: Buffer.from([203, 0, 113, 9]),
    port: 40_001,
    added: Buffer.alloc(20),
  }),
};
const client = '203.0.113.9:40001';

let certificates: TestCertificates;
let controlled: ControlledBroker;
let sockets: Socket[];
let logged: ReturnType<typeof openTestLog>;

beforeEach(async () => {
  sockets = [];
  logged = openTestLog();
  certificates = await openTestCertificates();
  controlled = await openControlledBroker(
    { proxyProtocolFrom: `${proxy},fd00::/8`, wsPort: 0, wssPort: 0, connectTimeoutSec: 4 },
    { certificates: certificates.store, log: logged.log },
  );
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
  await certificates.close();
});

type Transport = 'tcp' | 'tls' | 'ws' | 'wss';

function portOf(transport: Transport): number {
  return controlled.broker.ports[transport] ?? 0;
}

/** A connection from an address of this machine, which has sent bytes. */
async function dial(transport: Transport, from: string, bytes: Uint8Array): Promise<Socket> {
  const socket = connectTcp({ host: '127.0.0.1', port: portOf(transport), localAddress: from });
  sockets.push(socket);
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

function login(): Buffer {
  const { id, password } = controlled.device;
  return connectPacket({ userName: id, password });
}

const addresses = () =>
  controlled.core.live.list(allConnections).connections.map(({ transport, address }) => [transport, address]);

const refused = (reason: CloseReason) => controlled.broker.counters.refused[reason];

/** Logs in over a transport, on a socket that has already sent its header. */
async function logIn(transport: Transport, socket: Socket): Promise<void> {
  if (transport === 'tcp' || transport === 'tls') {
    const spoken =
      transport === 'tcp'
        ? socket
        : connectTls({ socket, ca: certificates.authority.cert, servername: 'localhost' });
    const accepted = new Promise<Buffer>((resolve) => spoken.once('data', resolve));
    spoken.write(login());
    expect([...(await accepted)]).toEqual([0x20, 2, 0, 0]);
    return;
  }
  const secure = transport === 'wss';
  const webSocket = new WebSocket(`${secure ? 'wss' : 'ws'}://localhost:${portOf(transport)}/mqtt`, 'mqtt', {
    createConnection: () =>
      secure ? connectTls({ socket, ca: certificates.authority.cert, servername: 'localhost' }) : socket,
  });
  webSocket.on('open', () => webSocket.send(login()));
  const accepted = await new Promise<Buffer>((resolve, reject) => {
    webSocket.on('message', resolve);
    webSocket.on('error', reject);
  });
  expect([...accepted]).toEqual([0x20, 2, 0, 0]);
}

describe.each(Object.entries(headers))('a header of %s', (_version, header) => {
  it.each(['tcp', 'tls', 'ws', 'wss'] as const)(
    'tells the address of a client over %s',
    async (transport) => {
      await logIn(transport, await dial(transport, proxy, header));
      expect(addresses()).toEqual([[transport, client]]);
    },
  );

  it('may come in pieces, or in one with what follows', async () => {
    const inPieces = await dial('tcp', proxy, Buffer.alloc(0));
    for (const byte of header) {
      inPieces.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await logIn('tcp', inPieces);
    inPieces.destroy();
    await vi.waitFor(() => expect(addresses()).toEqual([]));

    const publish = publishPacket({ topic: 'raw/dev1', payload: 'behind', qos: 1, packetId: 7 });
    const inOne = await dial('tcp', proxy, Buffer.concat([header, login(), publish]));
    let answer = Buffer.alloc(0);
    inOne.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]);
    });
    await vi.waitFor(() => expect([...answer]).toEqual([0x20, 2, 0, 0, 0x40, 2, 0, 7]));
    expect(addresses()).toEqual([['tcp', client]]);
  });

  it('from an address that is not listed is no header', async () => {
    const socket = await dial('tcp', '127.0.0.1', Buffer.concat([header, login()]));
    await new Promise((resolve) => socket.once('close', resolve));
    expect(refused('proxy-header')).toBe(0);
    expect(controlled.broker.counters.accepted).toBe(0);
    expect(JSON.stringify(logged.lines)).not.toContain('203.0.113.9');
    expect(JSON.stringify(logged.lines)).toContain('127.0.0.1');
  });
});

it('is not needed from an address that is not listed', async () => {
  const direct = await openRawClient(controlled.port);
  sockets.push(direct.socket);
  direct.send(login());
  expect(await direct.next()).toMatchObject({ type: 2 });
  expect(addresses()).toEqual([['tcp', `127.0.0.1:${direct.socket.localPort}`]]);
});

it.for(['tcp', 'tls', 'ws', 'wss'] as const)(
  'is not waited for from a client that is gone before it is taken by %s',
  async (transport) => {
    const port = portOf(transport);
    // It connects and resets while this thread does not take connections.
    const script = `const c = require('node:net').connect(${port}, '127.0.0.1', () => c.resetAndDestroy())`;
    expect(spawnSync(process.execPath, ['-e', script]).status).toBe(0);
    await vi.waitFor(() => expect(controlled.broker.counters.opened).toBe(1));
    await vi.waitFor(() => expect(controlled.broker.counters.closed['connection-lost']).toBe(1));
    expect(refused('handshake-timeout')).toBe(0);
  },
);

it('a proxy that speaks for itself has its own address', async () => {
  const local = await dial('tcp', proxy, binaryProxyHeader({ source: Buffer.alloc(4), port: 1, command: 0 }));
  await logIn('tcp', local);
  expect(addresses()).toEqual([['tcp', `${proxy}:${local.localPort}`]]);
});

it.each(['tcp', 'tls', 'ws', 'wss'] as const)(
  'a proxy without a header is closed, over %s',
  async (transport) => {
    const socket = await dial(
      transport,
      proxy,
      transport === 'tcp' ? login() : Buffer.from([0x16, 3, 1, 0, 1]),
    );
    await new Promise((resolve) => socket.once('close', resolve));
    expect(refused('proxy-header')).toBe(1);
    expect(logged.lines.find(({ event }) => event === 'connect_refused')).toMatchObject({
      reason: 'proxy-header',
      transport,
      address: `${proxy}:${portIn(logged.lines)}`,
    });
  },
);

it('a malformed header closes, and so does the end of the stream within one', async () => {
  const malformed = await dial('tcp', proxy, Buffer.from('PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n'));
  await new Promise((resolve) => malformed.once('close', resolve));
  expect(refused('proxy-header')).toBe(1);
  const ended = await dial('tcp', proxy, Buffer.from('PROXY TCP4 '));
  ended.end();
  await new Promise((resolve) => ended.once('close', resolve));
  expect(refused('proxy-header')).toBe(2);
  // What only looks whether the port is open is nothing to speak of.
  const probe = await dial('tcp', proxy, Buffer.alloc(0));
  probe.end();
  await new Promise((resolve) => probe.once('close', resolve));
  expect(refused('proxy-header')).toBe(2);
  expect(refused('connection-lost')).toBe(1);
});

it('half a header is waited for no longer than CONNECT_TIMEOUT_SEC', async () => {
  const socket = await dial('tcp', proxy, Buffer.from('PROXY TCP4 '));
  await new Promise((resolve) => socket.once('close', resolve));
  expect(refused('handshake-timeout')).toBe(1);
});

it('a client behind a proxy is still to speak TLS where TLS is spoken', async () => {
  const socket = await dial('tls', proxy, Buffer.concat([headers['version 1'], login()]));
  await new Promise((resolve) => socket.once('close', resolve));
  expect(refused('tls-handshake')).toBe(1);
  const line = logged.lines.find(({ event }) => event === 'connect_refused');
  expect(line).toMatchObject({ address: client, reason: 'tls-handshake' });
});

it('refuses to start with a list that is none', async () => {
  await expect(openControlledBroker({ proxyProtocolFrom: '10.0.0.0/8,load-balancer' })).rejects.toMatchObject(
    {
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('"load-balancer"'),
    },
  );
});

function portIn(lines: readonly Record<string, unknown>[]): string {
  const address = String(lines.find(({ event }) => event === 'connect_refused')?.address);
  return address.slice(address.lastIndexOf(':') + 1);
}
