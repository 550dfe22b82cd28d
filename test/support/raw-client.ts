import { connect, type Socket } from 'node:net';
import type { ReceivedPacket } from './raw-packets.js';

export * from './raw-packets.js';

/** A TCP connection that speaks MQTT only as far as the test makes it. */
export interface RawClient {
  readonly socket: Socket;
  readonly received: ReceivedPacket[];
  readonly closed: boolean;
  send(...packets: Buffer[]): void;
  /** The next packet that was not taken yet; fails when the connection ends or the time is over. */
  next(timeoutMs?: number): Promise<ReceivedPacket>;
  /** Resolves when the server has closed the connection. */
  waitClosed(timeoutMs?: number): Promise<void>;
  destroy(): void;
}

/** @param localAddress where the connection is to come from; every address of 127.0.0.0/8 is this machine's. */
export async function openRawClient(port: number, localAddress = '127.0.0.1'): Promise<RawClient> {
  return speakRaw(connect({ host: '127.0.0.1', port, localAddress }));
}

/** Speaks on a socket that was just opened, by TCP or by TLS. */
export async function speakRaw(socket: Socket): Promise<RawClient> {
  const received: ReceivedPacket[] = [];
  let taken = 0;
  let closed = false;
  let buffered = Buffer.alloc(0);
  const waiters = new Set<() => void>();
  const wake = (): void => {
    for (const waiter of [...waiters]) waiter();
  };
  socket.on('data', (chunk: Buffer) => {
    buffered = Buffer.concat([buffered, chunk]);
    for (let parsed = cut(buffered); parsed !== undefined; parsed = cut(buffered)) {
      received.push(parsed.packet);
      buffered = buffered.subarray(parsed.end);
    }
    wake();
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
    wake();
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => resolve());
    socket.once('error', reject);
  });

  async function until(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => done(new Error(`${what}: not within ${timeoutMs} ms`)), timeoutMs);
      const done = (error?: Error): void => {
        clearTimeout(timer);
        waiters.delete(check);
        if (error === undefined) resolve();
        else reject(error);
      };
      const check = (): void => {
        if (condition()) done();
      };
      waiters.add(check);
    });
  }

  return {
    socket,
    received,
    get closed() {
      return closed;
    },
    send(...packets) {
      for (const bytes of packets) socket.write(bytes);
    },
    async next(timeoutMs = 60_000) {
      await until(() => received.length > taken || closed, timeoutMs, 'a packet');
      const first = received[taken];
      if (first === undefined) throw new Error('the connection ended before a packet came');
      taken += 1;
      return first;
    },
    waitClosed: (timeoutMs = 60_000) => until(() => closed, timeoutMs, 'the end of the connection'),
    destroy: () => socket.destroy(),
  };
}

function cut(bytes: Buffer): { packet: ReceivedPacket; end: number } | undefined {
  let length = 0;
  for (let index = 1; index <= 4; index++) {
    const byte = bytes[index];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 128 ** (index - 1);
    if (byte < 0x80) {
      const start = index + 1;
      const end = start + length;
      if (bytes.length < end) return undefined;
      const first = bytes[0] as number;
      return { packet: { type: first >> 4, flags: first & 0x0f, body: bytes.subarray(start, end) }, end };
    }
  }
  throw new Error('the server sent a remaining length of five bytes');
}
