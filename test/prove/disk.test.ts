import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type Disk, startDisk } from './machine/disk.js';
import type { Random } from './random.js';

const bytes = 1_048_576;
/** Nothing of the cache survives. */
const losing: Random = {
  seed: 0,
  next: () => 0,
  between: (least) => least,
  pick: ([first]) => first as never,
};
const command = { read: 0, write: 1, flush: 3 };

/** Speaks NBD to a disk: asks one thing at a time. */
async function attach(disk: Disk): Promise<{
  ask(what: { type: number; at?: number; length?: number; data?: Buffer; forces?: boolean }): Promise<Buffer>;
}> {
  const socket: Socket = connect(disk.socketPath);
  let rest = Buffer.alloc(0);
  let wake = () => {};
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    wake();
  });
  const take = async (length: number): Promise<Buffer> => {
    while (rest.length < length) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const taken = rest.subarray(0, length);
    rest = rest.subarray(length);
    return taken;
  };
  expect((await take(18)).subarray(0, 16).toString()).toBe('NBDMAGICIHAVEOPT');
  const exportName = Buffer.alloc(20);
  exportName.writeUInt32BE(3);
  exportName.write('IHAVEOPT', 4);
  exportName.writeUInt32BE(1, 12);
  socket.write(exportName);
  expect((await take(10)).readBigUInt64BE()).toBe(BigInt(bytes));
  return {
    async ask({ type, at = 0, data = Buffer.alloc(0), length = data.length, forces = false }) {
      const request = Buffer.alloc(28);
      request.writeUInt32BE(0x25609513);
      request.writeUInt16BE(forces ? 1 : 0, 4);
      request.writeUInt16BE(type, 6);
      request.writeBigUInt64BE(7n, 8);
      request.writeBigUInt64BE(BigInt(at), 16);
      request.writeUInt32BE(length, 24);
      socket.write(Buffer.concat([request, data]));
      const answer = await take(16);
      expect(answer.readUInt32BE(4)).toBe(0);
      return type === command.read ? take(length) : answer;
    },
  };
}

test('a disk keeps what was flushed or forced, and loses with its power what was only written', async ({
  onTestFinished,
}) => {
  const directory = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-disk-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const image = path.join(directory, 'image');
  await writeFile(image, '');
  const disk = await startDisk(image, path.join(directory, 'socket'), bytes);
  onTestFinished(() => disk.close());
  let user = await attach(disk);
  const flushed = Buffer.alloc(6_000, 'a');
  const forced = Buffer.alloc(512, 'b');
  const written = Buffer.alloc(512, 'c');

  // Over the border of a block, and not from its beginning.
  await user.ask({ type: command.write, at: 3_072, data: flushed });
  await user.ask({ type: command.flush });
  await user.ask({ type: command.write, at: 40_960, data: forced, forces: true });
  await user.ask({ type: command.write, at: 4_096, data: written });
  await user.ask({ type: command.write, at: 81_920, data: written });
  expect(await user.ask({ type: command.read, at: 3_072, length: 1_536 })).toEqual(
    Buffer.concat([Buffer.alloc(1_024, 'a'), written]),
  );

  expect(disk.cutPower(losing)).toBe(2);
  user = await attach(disk);
  expect(await user.ask({ type: command.read, at: 3_072, length: 6_000 })).toEqual(flushed);
  expect(await user.ask({ type: command.read, at: 40_960, length: 512 })).toEqual(forced);
  expect(await user.ask({ type: command.read, at: 81_920, length: 512 })).toEqual(Buffer.alloc(512));
});
