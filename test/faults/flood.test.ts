import { readdir, readlink } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { connect as connectNats } from 'nats';
import { beforeAll, expect, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import {
  connectPacket,
  pingreqPacket,
  publishPacket,
  type RawClient,
  remainingLength,
  subscribePacket,
} from '../support/raw-client.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import {
  addDevice,
  connected,
  type Gateway,
  mebibyte,
  publishAndWait,
  startGateway,
  tryConnect,
  until,
} from './gateway.js';

/** What the process may grow by beside the bounds of its settings. */
const toleratedBytes = 64 * mebibyte;
/** The default. */
const maxOutgoingBytes = 4 * mebibyte;
const maxConnections = 3_000;

const later = undoAfterAll();
let gateway: Gateway;
let good: { device: Credentials; client: RawClient };
let served = 0;

beforeAll(async () => {
  gateway = await startGateway(later, {
    env: {
      CONNECT_TIMEOUT_SEC: '2',
      MAX_OUTGOING_BYTES: String(maxOutgoingBytes),
      MAX_CONNECTIONS: String(maxConnections),
    },
  });
  const device = await addDevice(gateway.server.httpPort);
  good = { device, client: await connected(later, gateway.server.mqttPort, device) };
});

/** The client that was there before is served, and a new one too. */
async function expectServing(): Promise<void> {
  served += 1;
  await publishAndWait(good.client, good.device, `served ${served}`, served);
  expect(await tryConnect(gateway.server.mqttPort, good.device)).toBe(0);
}

async function expectGrowthWithin(before: number, bytes: number): Promise<void> {
  expect((gateway.server.residentBytes() - before) / mebibyte).toBeLessThan(bytes / mebibyte);
}

/** Opens sockets a few hundred at a time. */
async function openSockets(count: number): Promise<{ sockets: Socket[]; open(): number; destroy(): void }> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const batch = Array.from({ length: Math.min(250, count - sockets.length) }, () => {
      const socket = connect({ host: '127.0.0.1', port: gateway.server.mqttPort });
      socket.on('error', () => {});
      socket.resume();
      return socket;
    });
    sockets.push(...batch);
    await Promise.all(batch.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
  }
  return {
    sockets,
    open: () => sockets.filter((socket) => !socket.closed).length,
    destroy: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

test('2,000 sockets that send nothing are closed, and others are served meanwhile', async ({
  onTestFinished,
}) => {
  const before = gateway.server.residentBytes();
  const idle = await openSockets(2_000);
  onTestFinished(idle.destroy);
  await expectServing();
  await expectGrowthWithin(before, toleratedBytes);
  await until('they are closed', () => idle.open() === 0);
  await expectServing();
});

test('a CONNECT that comes byte by byte does not get more time than another', async ({ onTestFinished }) => {
  const slow = await openSockets(200);
  onTestFinished(slow.destroy);
  const bytes = connectPacket({ userName: good.device.id, password: good.device.password, clientId: 'slow' });
  let at = 0;
  const drip = setInterval(() => {
    for (const socket of slow.sockets) if (socket.writable) socket.write(bytes.subarray(at, at + 1));
    at += 1;
  }, 200);
  onTestFinished(() => clearInterval(drip));
  await until('they are closed', () => slow.open() === 0);
  expect(at).toBeLessThan(bytes.length);
  await expectServing();
});

test('more connections than allowed are closed at once; there is room again when others go', async ({
  onTestFinished,
}) => {
  const crowd = await openSockets(maxConnections + 200);
  onTestFinished(crowd.destroy);
  await until('some are closed', () => crowd.open() < maxConnections);
  expect(gateway.server.count('too_many_connections')).toBeLessThan(50);
  crowd.destroy();
  await until('a device gets in', () =>
    tryConnect(gateway.server.mqttPort, good.device).then(
      (code) => code === 0,
      () => false,
    ),
  );
  await expectServing();
});

test('500 wrong passwords: each is told so, the log is not flooded and tells no password', async () => {
  const linesBefore = gateway.server.log.length;
  const codes = new Map<number | undefined, number>();
  for (let round = 0; round < 5; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        tryConnect(gateway.server.mqttPort, { id: good.device.id, password: `guess-${round}-${n}` }),
      ),
    );
    for (const code of answers) codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  expect(codes).toEqual(new Map([[4, 500]]));
  expect(gateway.server.log.length - linesBefore).toBeLessThan(100);
  expect(gateway.server.stderr.join('\n')).not.toMatch(/guess-\d/);
  await expectServing();
});

test('garbage of every kind ends only its own connection', async ({ onTestFinished }) => {
  const before = gateway.server.residentBytes();
  const crowd = await openSockets(300);
  onTestFinished(crowd.destroy);
  for (const [index, socket] of crowd.sockets.entries()) {
    const noise = Buffer.from(Array.from({ length: 512 }, (_, n) => (index * 31 + n * n * 17) & 0xff));
    const kinds = [
      noise,
      Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      Buffer.concat([Buffer.from([0x10]), remainingLength(268_435_455), Buffer.alloc(10_000)]),
      Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f]),
      Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
    ];
    socket.write(kinds[index % kinds.length] ?? noise);
  }
  await until('they are closed', () => crowd.open() === 0);
  await expectGrowthWithin(before, toleratedBytes);
  await expectServing();
});

test('half-closed sockets do not stay', async ({ onTestFinished }) => {
  const crowd = await openSockets(100);
  onTestFinished(crowd.destroy);
  const { id, password } = good.device;
  for (const [index, socket] of crowd.sockets.entries()) {
    // Half of them say who they are first, with a keep alive that lets them be silent for ever.
    if (index % 2 === 0) socket.write(connectPacket({ userName: id, password, clientId: `half-${index}` }));
    socket.end();
  }
  await until('they are closed', () => crowd.open() === 0);
  await expectServing();
});

/** A client that sends the same bytes over and over and reads nothing; answers when the server has ended it. */
async function sendDeaf(client: RawClient, bytes: Buffer): Promise<void> {
  client.socket.pause();
  const chunk = Buffer.concat(Array.from({ length: Math.ceil(65_536 / bytes.length) }, () => bytes));
  // A paused socket does not tell its end, but writing to it does.
  while (!client.socket.destroyed && client.socket.writable)
    await new Promise<void>((resolve) => {
      client.socket.write(chunk, () => resolve());
    });
}

test('clients that send and do not read the answers are ended, and memory stays bounded', {
  timeout: 300_000,
}, async ({ onTestFinished, annotate }) => {
  const { server } = gateway;
  // All are answered without NATS, so that the many answers that fit into the kernel's buffers take little time.
  const kinds: ((device: Credentials) => Buffer)[] = [
    ({ id }) => publishPacket({ topic: `raw/${id}`, payload: 'x', qos: 2, packetId: 1, dup: true }),
    () => pingreqPacket,
    () => subscribePacket(1, [['cmd/of/another', 0]]),
  ];
  const before = server.residentBytes();
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, server.residentBytes());
  }, 20);
  onTestFinished(() => clearInterval(watch));
  // All are connected first: a flood leaves a busy machine little time for a look-up.
  const senders = [];
  for (const packetOf of kinds) {
    const device = await addDevice(server.httpPort);
    const client = await connected(onTestFinished, server.mqttPort, device);
    senders.push({ device, client, packet: packetOf(device) });
  }
  await Promise.all(
    senders.map(({ device, client, packet }) =>
      Promise.all([
        sendDeaf(client, packet),
        server.waitFor(
          'connection_closed',
          (line) => line.reason === 'slow-reader' && line.device === device.id,
        ),
      ]),
    ),
  );
  await annotate(`grew by ${Math.round((most - before) / mebibyte)} MiB`);
  expect((most - before) / mebibyte).toBeLessThan(
    // Much of it is garbage of a flood of packets, which is collected later.
    (4 * toleratedBytes + 2 * kinds.length * maxOutgoingBytes) / mebibyte,
  );
  await expectServing();
});

test('a client that subscribes and does not read slows nobody and takes no memory: the stream has its commands', async ({
  onTestFinished,
}) => {
  const { server, nats } = gateway;
  const before = server.residentBytes();
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device);
  client.send(subscribePacket(1, [[`cmd/${device.id}/#`, 1]]));
  expect((await client.next()).type).toBe(9);
  client.socket.pause();
  const connection = await connectNats({ servers: nats.url });
  onTestFinished(() => connection.close());
  const payload = Buffer.alloc(1_024, 'c');
  for (let round = 0; round < 150; round += 1) {
    for (let n = 0; n < 200; n += 1) connection.publish(`cmd.${device.id}.go`, payload);
    await connection.flush();
  }
  await connection.jetstream().publish(`cmd.${device.id}.go`, 'last');
  await expectServing();
  await expectGrowthWithin(before, toleratedBytes);
  // It is sent as many as it may have without an acknowledgement, and goes on when it reads.
  client.socket.resume();
  for (let taken = 0; taken < 300; taken += 1) {
    const { type, body } = await client.next();
    expect(type).toBe(3);
    const idAt = 2 + body.readUInt16BE(0);
    client.send(Buffer.from([0x40, 2, ...body.subarray(idAt, idAt + 2)]));
  }
});

test('after all that, no connection is left but the good one, and no defect was met', async () => {
  const { server } = gateway;
  await expectServing();
  expect(server.count('connection_failed')).toBe(0);
  expect(server.log.filter(({ level }) => Number(level) >= 50)).toEqual([]);
  await until('the sockets are gone', async () => {
    const files = await readdir(`/proc/${server.pid}/fd`);
    const targets = await Promise.all(
      files.map((file) => readlink(`/proc/${server.pid}/fd/${file}`).catch(() => '')),
    );
    // Listeners, NATS, PostgreSQL's pool, HTTP's kept-alive clients and the good client.
    return targets.filter((target) => target.startsWith('socket:')).length < 40;
  });
  expect(good.client.closed).toBe(false);
});
