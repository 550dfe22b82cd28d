import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { PacketType } from '../../src/server/mqtt/protocol/packet-type.js';
import type { AcceptedSocket, ByteSocket } from '../../src/server/mqtt/transport/accepted-socket.js';
import { ClientSocket, type PacketProcessor } from '../../src/server/mqtt/transport/client-socket.js';
import { openTurnQueue } from '../../src/server/mqtt/transport/turn-queue.js';

const nothing = () => undefined;

/** A client's socket, with what it was given, write by write. */
function openSocket() {
  const writes: Buffer[] = [];
  const socket = new Duplex({
    read: nothing,
    writev(chunks, done) {
      writes.push(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)));
      done();
    },
  });
  const accepted = { socket: socket as ByteSocket } as AcceptedSocket;
  const processor = { mustHold: false, onTurn: nothing, onDrain: nothing, close: nothing, fail: nothing };
  return {
    client: new ClientSocket(accepted, openTurnQueue(), processor as unknown as PacketProcessor),
    writes,
  };
}

const packet = (letter: string, bytes: number) => Buffer.alloc(bytes, letter);

test('what is gathered leaves in one write, in order, whatever its size', () => {
  const { client, writes } = openSocket();
  client.acknowledge(PacketType.PUBACK, 1);
  client.cork();
  const packets = [packet('a', 10), packet('b', 5_000), packet('c', 20), packet('d', 30), packet('e', 4_096)];
  for (const each of packets) client.write(each);
  expect(writes).toEqual([]);
  expect(client.unsentBytes).toBe(4 + 10 + 5_000 + 20 + 30 + 4_096);
  client.acknowledge(PacketType.PUBACK, 2);
  client.uncork();
  const expected = Buffer.concat([Buffer.from([0x40, 2, 0, 1]), ...packets, Buffer.from([0x40, 2, 0, 2])]);
  expect(writes).toHaveLength(1);
  expect(writes[0]?.equals(expected)).toBe(true);
});

test('what is answered leaves ahead of what is written later, and does not count as unsent before', () => {
  const { client, writes } = openSocket();
  client.acknowledge(PacketType.PUBACK, 1);
  expect(client.unsentBytes).toBe(0);
  client.write(packet('a', 10));
  client.write(packet('b', 10));
  expect(Buffer.concat(writes)).toEqual(
    Buffer.concat([Buffer.from([0x40, 2, 0, 1]), packet('a', 10), packet('b', 10)]),
  );
});

test('a connection that ends while something is gathered sends it', () => {
  const { client, writes } = openSocket();
  client.cork();
  client.write(packet('a', 10));
  client.end();
  client.uncork();
  expect(Buffer.concat(writes)).toEqual(packet('a', 10));
});
