import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Random } from '../random.js';

/**
 * A disk with a write cache that power does not outlive, behind a unix socket, as a network block device (NBD). What was written
 * and not flushed is lost when the power is cut, any part of it, whatever the order in which it was written.
 */
export interface Disk {
  /** Where a machine finds it. */
  readonly socketPath: string;
  /** Flushes, writes with FUA among them, since the start. */
  readonly flushes: number;
  /** Each flush takes so much longer from now on, milliseconds. */
  setFlushDelay(ms: number): void;
  /** Call it when the machine is dead. @returns how many unflushed blocks were lost. */
  cutPower(random: Random): number;
  close(): Promise<void>;
}

const blockBytes = 4_096;
/** As a disk's own cache is bounded: beyond, it writes on its own account. */
const mostCachedBlocks = 16_384;

const magic = {
  init: 'NBDMAGIC',
  option: 'IHAVEOPT',
  reply: 0x3e889045565a9n,
  ask: 0x25609513,
  answer: 0x67446698,
};
const options = { exportName: 1, abort: 2, info: 6, go: 7 };
const replies = { acknowledged: 1, info: 3, unsupported: 0x80000001 };
const commands = { read: 0, write: 1, disconnect: 2, flush: 3 };
/** Transmission flags: has flags, takes FLUSH, takes FUA. */
const capabilities = 0b1101;
const invalid = 22;

/** @param file holds what is on the disk for good; it is there, with a file system. */
export async function startDisk(file: string, socketPath: string, bytes: number): Promise<Disk> {
  const image = openSync(file, 'r+');
  ftruncateSync(image, bytes);
  /** Latest contents of blocks that are not on the disk yet. */
  const cache = new Map<number, Buffer>();
  const sockets = new Set<Socket>();
  let flushDelayMs = 0;
  let flushes = 0;

  const readBlock = (block: number): Buffer => {
    const found = Buffer.alloc(blockBytes);
    readSync(image, found, 0, blockBytes, block * blockBytes);
    return found;
  };
  const writeOut = (block: number, contents: Buffer): void => {
    writeSync(image, contents, 0, blockBytes, block * blockBytes);
    cache.delete(block);
  };
  const writeAllOut = (): void => {
    for (const [block, contents] of cache) writeOut(block, contents);
  };
  const read = (at: number, length: number): Buffer => {
    const found = Buffer.alloc(length);
    readSync(image, found, 0, length, at);
    for (let block = Math.floor(at / blockBytes); block * blockBytes < at + length; block += 1) {
      const from = block * blockBytes - at;
      // A block may begin before what is asked for.
      cache.get(block)?.copy(found, Math.max(from, 0), Math.max(-from, 0));
    }
    return found;
  };
  const write = (at: number, data: Buffer, throughCache: boolean): void => {
    for (let done = 0; done < data.length; ) {
      const block = Math.floor((at + done) / blockBytes);
      const within = (at + done) % blockBytes;
      const part = data.subarray(done, done + blockBytes - within);
      const contents = cache.get(block) ?? readBlock(block);
      part.copy(contents, within);
      if (throughCache) writeOut(block, contents);
      else cache.set(block, contents);
      done += part.length;
    }
    if (cache.size > mostCachedBlocks) writeAllOut();
  };
  /** Does `work` when a flush is over. */
  const flush = (work: () => void): void => {
    flushes += 1;
    if (flushDelayMs === 0) work();
    else setTimeout(work, flushDelayMs);
  };

  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let rest: Buffer = Buffer.alloc(0);
    let step = readClientFlags;
    socket.write(Buffer.concat([Buffer.from(magic.init + magic.option), Buffer.from([0, 0b11])]));
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (!socket.destroyed) {
        const taken = step();
        if (taken === 0) break;
        rest = rest.subarray(taken);
      }
    });

    // Each step answers how many bytes it took, 0 when it needs more.
    function readClientFlags(): number {
      if (rest.length < 4) return 0;
      step = readOption;
      return 4;
    }

    function readOption(): number {
      if (rest.length < 16) return 0;
      const option = rest.readUInt32BE(8);
      const length = 16 + rest.readUInt32BE(12);
      if (rest.length < length) return 0;
      const about = Buffer.alloc(12);
      about.writeBigUInt64BE(BigInt(bytes), 2);
      about.writeUInt16BE(capabilities, 10);
      if (option === options.exportName) {
        socket.write(about.subarray(2));
        step = readRequest;
      } else if (option === options.go || option === options.info) {
        answerOption(option, replies.info, about);
        answerOption(option, replies.acknowledged);
        if (option === options.go) step = readRequest;
      } else if (option === options.abort) {
        socket.destroy();
      } else {
        answerOption(option, replies.unsupported);
      }
      return length;
    }

    function answerOption(option: number, type: number, data = Buffer.alloc(0)): void {
      const head = Buffer.alloc(20);
      head.writeBigUInt64BE(magic.reply);
      head.writeUInt32BE(option, 8);
      head.writeUInt32BE(type, 12);
      head.writeUInt32BE(data.length, 16);
      socket.write(Buffer.concat([head, data]));
    }

    function readRequest(): number {
      if (rest.length < 28) return 0;
      const flags = rest.readUInt16BE(4);
      const command = rest.readUInt16BE(6);
      const at = Number(rest.readBigUInt64BE(16));
      const length = rest.readUInt32BE(24);
      const taken = 28 + (command === commands.write ? length : 0);
      if (rest.length < taken) return 0;
      const answer = Buffer.alloc(16);
      answer.writeUInt32BE(magic.answer);
      rest.copy(answer, 8, 8, 16);
      const done = (): void => {
        if (!socket.destroyed) socket.write(answer);
      };
      const forcesUnitAccess = (flags & 1) === 1;
      if (command === commands.read && at + length <= bytes) {
        socket.write(Buffer.concat([answer, read(at, length)]));
      } else if (command === commands.write && at + length <= bytes) {
        // A flush that is under way covers only what was written before it; one that takes its time writes out at its end.
        write(at, rest.subarray(28, taken), forcesUnitAccess);
        if (forcesUnitAccess) flush(done);
        else done();
      } else if (command === commands.flush) {
        flush(() => {
          if (socket.destroyed) return;
          writeAllOut();
          done();
        });
      } else if (command === commands.disconnect) {
        socket.destroy();
      } else {
        answer.writeUInt32BE(invalid, 4);
        done();
      }
      return taken;
    }
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));

  return {
    socketPath,
    get flushes() {
      return flushes;
    },
    setFlushDelay(ms) {
      flushDelayMs = ms;
    },
    cutPower(random) {
      for (const socket of sockets) socket.destroy();
      // A cache that has written most of it, or hardly any.
      const share = random.next();
      let lost = 0;
      for (const [block, contents] of cache) {
        if (random.next() < share) writeOut(block, contents);
        else lost += 1;
      }
      cache.clear();
      return lost;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      closeSync(image);
    },
  };
}
