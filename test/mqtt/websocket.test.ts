import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import type { BrokerConfig } from '../../src/server/mqtt/broker-options.js';
import type { CloseReason } from '../../src/server/mqtt/protocol/close-reason.js';
import { allConnections, type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  connectPacket,
  disconnectPacket,
  pingreqPacket,
  publishPacket,
  subscribePacket,
} from '../support/raw-client.js';

const connack = [0x20, 2, 0, 0];
let controlled: ControlledBroker;
let opened: { terminate?(): void; destroy?(): void }[];

async function open(config: Partial<BrokerConfig> = {}): Promise<void> {
  controlled = await openControlledBroker({ wsPort: 0, ...config });
}

beforeEach(() => {
  opened = [];
});

afterEach(async () => {
  for (const each of opened) (each.terminate ?? each.destroy)?.call(each);
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
});

interface Client {
  readonly webSocket: WebSocket;
  /** The bytes of every message so far. */
  readonly messages: Buffer[];
  /** Status of the close frame. */
  readonly closed: Promise<number>;
}

async function openClient(path = '/mqtt', protocols: string[] = ['mqtt']): Promise<Client> {
  const webSocket = new WebSocket(`ws://127.0.0.1:${controlled.broker.ports.ws}${path}`, protocols);
  opened.push(webSocket);
  const messages: Buffer[] = [];
  webSocket.on('message', (data: Buffer, isBinary) => {
    expect(isBinary).toBe(true);
    messages.push(data);
  });
  const closed = new Promise<number>((resolve) => webSocket.on('close', resolve));
  await new Promise<void>((resolve, reject) => {
    webSocket.once('open', resolve);
    webSocket.once('error', reject);
  });
  webSocket.on('error', () => {});
  return { webSocket, messages, closed };
}

async function openLoggedIn(clientId = 'test'): Promise<Client> {
  const client = await openClient();
  client.webSocket.send(login(clientId));
  await vi.waitFor(() => expect(client.messages.map((message) => [...message])).toEqual([connack]));
  return client;
}

function login(clientId = 'test'): Buffer {
  const { id, password } = controlled.device;
  return connectPacket({ userName: id, password, clientId });
}

const publish = (packetId: number, payload: string | Buffer = 'x') =>
  publishPacket({ topic: 'raw/dev1', payload: payload as string, qos: 1, packetId });
const puback = (packetId: number) => [0x40, 2, packetId >> 8, packetId & 0xff];
const refused = (reason: CloseReason) => controlled.broker.counters.refused[reason];
const connectionOf = (clientId: string) => {
  const { connections } = controlled.core.live.list(allConnections);
  return controlled.core.live.find(connections.find(({ client }) => client === clientId)?.id ?? '');
};
const bytesReadFrom = (clientId: string) => connectionOf(clientId)?.bytes_in;
const closedFor = (reason: CloseReason) => controlled.broker.counters.closed[reason];

describe('the handshake', () => {
  it('answers with the sub-protocol mqtt [MQTT-6.0.0-4]', async () => {
    await open();
    expect((await openClient('/mqtt', ['other', 'mqtt'])).webSocket.protocol).toBe('mqtt');
    expect((await openClient('/mqtt?token=x', ['mqtt'])).webSocket.protocol).toBe('mqtt');
    expect((await openClient('/mqtt', ['mqttv3.1'])).webSocket.protocol).toBe('mqttv3.1');
  });

  it('agrees on no compression', async () => {
    await open();
    expect((await openClient()).webSocket.extensions).toBe('');
  });

  it.each([
    ['another sub-protocol', '/mqtt', ['amqp'], 400],
    ['no sub-protocol [MQTT-6.0.0-3]', '/mqtt', [], 400],
    ['another path', '/', ['mqtt'], 404],
    ['a longer path', '/mqtt/x', ['mqtt'], 404],
  ] as const)('refuses %s', async (_name, path, protocols, status) => {
    await open();
    await expect(openClient(path, [...protocols])).rejects.toThrow(`Unexpected server response: ${status}`);
    expect(refused('websocket-handshake')).toBe(1);
    expect(controlled.broker.connectionCount()).toBe(0);
  });

  it('tells a browser that opens the page what is spoken here', async () => {
    await open();
    for (const [path, status] of [
      ['/mqtt', 426],
      ['/', 404],
    ] as const) {
      const answered = await new Promise<number | undefined>((resolve, reject) => {
        const asked = request({ host: '127.0.0.1', port: controlled.broker.ports.ws, path }, (answer) => {
          answer.resume();
          answer.on('end', () => resolve(answer.statusCode));
        });
        asked.on('error', reject);
        asked.end();
      });
      expect([path, answered]).toEqual([path, status]);
    }
    expect(refused('websocket-handshake')).toBe(2);
  });

  it('refuses what is no HTTP, and a request that is no right upgrade', async () => {
    await open();
    expect(await sendBytes(login())).toMatch(/^HTTP\/1.1 400 /);
    const head = 'GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n';
    const version =
      'Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n';
    expect(await sendBytes(Buffer.from(head + version))).toMatch(/^HTTP\/1.1 400 /);
    expect(refused('websocket-handshake')).toBe(2);
  });

  it('is waited for no longer than CONNECT_TIMEOUT_SEC, as CONNECT is after it', async () => {
    await open({ connectTimeoutSec: 1 });
    const half = Buffer.from('GET /mqtt HTTP/1.1\r\nHost: x\r\n');
    const silent = openClient().then(({ closed }) => closed);
    expect(await sendBytes(half)).toBe('');
    expect(refused('handshake-timeout')).toBe(1);
    await silent;
    expect(refused('connect-timeout')).toBe(1);
  });

  it('counts toward MAX_CONNECTIONS from the first byte', async () => {
    await open({ maxConnections: 1 });
    const socket = connect(controlled.broker.ports.ws ?? 0, '127.0.0.1');
    opened.push(socket);
    await vi.waitFor(() => expect(controlled.broker.counters.opened).toBe(1));
    await expect(openClient()).rejects.toThrow();
    expect(refused('too-many-connections')).toBe(1);
  });
});

describe('messages', () => {
  it('may hold several packets, or parts of one [MQTT-6.0.0-2]', async () => {
    await open();
    const { webSocket, messages } = await openClient();
    webSocket.send(Buffer.concat([login(), publish(1), publish(2)]));
    for (const byte of publish(3)) webSocket.send(Buffer.from([byte]));
    const [fourth, fifth] = [publish(4), publish(5)];
    webSocket.send(Buffer.concat([fourth, fifth.subarray(0, 5)]));
    webSocket.send(Buffer.alloc(0));
    webSocket.send(fifth.subarray(5));
    await vi.waitFor(() =>
      expect([...Buffer.concat(messages)]).toEqual([...connack, ...[1, 2, 3, 4, 5].flatMap(puback)]),
    );
  });

  it('may come in fragments with pings between them, which are answered', async () => {
    await open();
    const { webSocket, messages } = await openLoggedIn();
    const packet = publish(1, 'x'.repeat(1_000));
    const pong = new Promise<Buffer>((resolve) => webSocket.once('pong', resolve));
    webSocket.send(packet.subarray(0, 300), { fin: false });
    webSocket.ping('are you there');
    webSocket.send(packet.subarray(300), { fin: true });
    expect(String(await pong)).toBe('are you there');
    await vi.waitFor(() => expect([...Buffer.concat(messages)]).toEqual([...connack, ...puback(1)]));
  });

  it('may be many and small', async () => {
    await open();
    const { webSocket, messages } = await openClient();
    const raw = (webSocket as unknown as { _socket: Socket })._socket;
    raw.cork();
    for (const byte of Buffer.concat([login(), publish(1), publish(2)])) webSocket.send(Buffer.from([byte]));
    raw.uncork();
    await vi.waitFor(() =>
      expect([...Buffer.concat(messages)]).toEqual([...connack, ...puback(1), ...puback(2)]),
    );
  });

  it('may be in as many fragments as they have KiB at the most', async () => {
    await open({ maxPacketBytes: 65_536 });
    const { webSocket, messages, closed } = await openClient();
    const packet = login();
    const inFragments = (fragments: number) => {
      for (let at = 1; at < fragments; at += 1)
        webSocket.send(at === 1 ? packet : Buffer.alloc(0), { fin: false });
      webSocket.send(Buffer.alloc(0), { fin: true });
    };
    inFragments(64);
    await vi.waitFor(() => expect([...Buffer.concat(messages)]).toEqual(connack));
    webSocket.send(Buffer.alloc(1), { fin: false });
    for (let at = 0; at < 64; at += 1) webSocket.send(Buffer.alloc(1), { fin: false });
    expect(await closed).toBe(1008);
    expect(closedFor('websocket-protocol')).toBe(1);
  });

  it('may have many pings between them, of which the last of a turn is answered', async () => {
    await open();
    const { webSocket, messages } = await openClient();
    const pongs: string[] = [];
    webSocket.on('pong', (data) => pongs.push(String(data)));
    const raw = (webSocket as unknown as { _socket: Socket })._socket;
    raw.cork();
    for (let ping = 1; ping <= 1_000; ping += 1) webSocket.ping(String(ping));
    raw.uncork();
    webSocket.send(login());
    await vi.waitFor(() => expect(pongs.at(-1)).toBe('1000'));
    expect(pongs.length).toBeLessThan(100);
    await vi.waitFor(() => expect([...Buffer.concat(messages)]).toEqual(connack));
  });

  it('end the connection when they are text [MQTT-6.0.0-1]', async () => {
    await open();
    const { webSocket, closed } = await openLoggedIn();
    webSocket.send('text');
    expect(await closed).toBe(1003);
    expect(closedFor('websocket-text')).toBe(1);
  });

  it('end the connection when they are too large', async () => {
    await open({ maxPacketBytes: 100_000 });
    const { webSocket, closed } = await openLoggedIn();
    webSocket.send(publish(1, Buffer.alloc(100_000)));
    expect(await closed).toBe(1009);
    expect(closedFor('packet-too-large')).toBe(1);
    expect(controlled.taken).toHaveLength(0);
  });

  it('end the connection when they are too large for a client that has not logged in', async () => {
    await open({ maxConnectPacketBytes: 1_024 });
    const { webSocket, closed } = await openClient();
    webSocket.send(Buffer.alloc(200_000));
    expect(await closed).toBe(1009);
    expect(closedFor('packet-too-large')).toBe(1);
    // The same after CONNECT is well.
    const client = await openLoggedIn();
    client.webSocket.send(publish(1, Buffer.alloc(200_000)));
    await vi.waitFor(() => expect([...Buffer.concat(client.messages)]).toEqual([...connack, ...puback(1)]));
  });

  it('end the connection when they are no frames', async () => {
    await open();
    const { webSocket, closed } = await openLoggedIn();
    // Not masked, as every frame of a client has to be.
    (webSocket as unknown as { _socket: Socket })._socket.write(Buffer.from([0x82, 1, 0]));
    expect(await closed).toBe(1002);
    expect(closedFor('websocket-protocol')).toBe(1);
  });
});

describe('the end', () => {
  it('after DISCONNECT is a close frame', async () => {
    await open();
    const { webSocket, closed } = await openLoggedIn();
    webSocket.send(disconnectPacket);
    expect(await closed).toBe(1000);
    expect(closedFor('client-disconnect')).toBe(1);
  });

  it('without DISCONNECT publishes the will, by close frame or without one', async () => {
    await open();
    for (const end of ['close', 'terminate'] as const) {
      const { webSocket, messages } = await openClient();
      const { id, password } = controlled.device;
      const will = { topic: 'raw/dev1/will', payload: end };
      webSocket.send(connectPacket({ userName: id, password, will }));
      await vi.waitFor(() => expect(messages).toHaveLength(1));
      webSocket[end]();
      await vi.waitFor(() => expect(controlled.taken.map(({ payload }) => String(payload))).toContain(end));
    }
    expect(closedFor('connection-lost')).toBe(2);
  });

  it('of a revoked device is at once', async () => {
    await open();
    const { closed } = await openLoggedIn();
    controlled.revoke(controlled.device.id);
    await closed;
    expect(closedFor('revoked')).toBe(1);
  });
});

describe('a client that is slow', () => {
  it('is not read while the server has no room, and loses nothing', async () => {
    await open({ maxInFlightPerClient: 4 });
    controlled.autoStore = false;
    const { webSocket, messages } = await openLoggedIn();
    const payload = Buffer.alloc(60_000);
    const count = 300;
    for (let id = 1; id <= count; id += 1) webSocket.send(publish(id, payload));
    await vi.waitFor(() => expect(controlled.taken).toHaveLength(4));
    // Another client is answered many times meanwhile, in which the server could have read all of it.
    const other = await openLoggedIn('other');
    for (let answers = 2; answers < 300; answers += 1) {
      other.webSocket.send(pingreqPacket);
      await vi.waitFor(() => expect(other.messages).toHaveLength(answers), { interval: 1 });
    }
    expect(bytesReadFrom('test')).toBeLessThan(1_000_000);
    // 18 MB do not fit in the buffers of the system either.
    expect(webSocket.bufferedAmount).toBeGreaterThan(1_000_000);
    expect(controlled.taken).toHaveLength(4);
    controlled.autoStore = true;
    for (const message of controlled.taken.splice(0)) message.onStored();
    await vi.waitFor(() => expect(Buffer.concat(messages).length).toBe(4 + 4 * count), 120_000);
  });

  it('that does not take what is sent to it is not read either, and gets all of it later, in order', async () => {
    await open({ acl: 'open', maxOutgoingBytes: 64 * 1_048_576, maxQueuedMessages: 10_000 });
    const reader = await openLoggedIn();
    reader.webSocket.send(subscribePacket(1, [['to/reader', 0]]));
    await vi.waitFor(() => expect(reader.messages).toHaveLength(2));
    const socket = (reader.webSocket as unknown as { _socket: Socket })._socket;
    socket.pause();
    const writer = await openClient();
    const { id, password } = controlled.otherDevice;
    writer.webSocket.send(connectPacket({ clientId: 'writer', userName: id, password }));
    const payload = Buffer.alloc(30_000, 'p');
    const packet = publishPacket({
      topic: 'to/reader',
      payload: payload as unknown as string,
      qos: 1,
      packetId: 1,
    });
    const count = 800;
    for (let sent = 0; sent < count; sent += 1) writer.webSocket.send(packet);
    await vi.waitFor(() => expect(Buffer.concat(writer.messages).length).toBe(4 + 4 * count), 120_000);
    // 24 MB do not fit in the buffers of the system; what does not waits where it is counted and bounded.
    expect(connectionOf('test')).toMatchObject({ held: true });
    expect(connectionOf('test')?.outgoing.waiting_bytes).toBeGreaterThan(4_000_000);
    socket.resume();
    await vi.waitFor(() => {
      const bytes = reader.messages.reduce((sum, message) => sum + message.length, 0);
      expect(bytes).toBeGreaterThan(count * payload.length);
    }, 120_000);
    expect(closedFor('slow-reader')).toBe(0);
  });
});

/** Writes bytes on a bare socket and answers all that comes until the server closes it. */
async function sendBytes(bytes: Uint8Array): Promise<string> {
  const socket = connect(controlled.broker.ports.ws ?? 0, '127.0.0.1');
  opened.push(socket);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.on('error', () => {});
  socket.write(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return answer;
}
