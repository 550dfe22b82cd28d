import { connect, type Socket } from 'node:net';

/** Builds and reads MQTT packets byte by byte, so that a test can send what no library would. */

export function remainingLength(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length;
  do {
    const byte = rest % 128;
    rest = Math.floor(rest / 128);
    bytes.push(rest > 0 ? byte | 0x80 : byte);
  } while (rest > 0);
  return Buffer.from(bytes);
}

/** A packet of the given first byte and body. */
export function packet(firstByte: number, ...body: Buffer[]): Buffer {
  const rest = Buffer.concat(body);
  return Buffer.concat([Buffer.from([firstByte]), remainingLength(rest.length), rest]);
}

export function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

/** A length-prefixed field. */
export function field(value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  return Buffer.concat([uint16(bytes.length), bytes]);
}

export interface ConnectOptions {
  protocolName?: string | Buffer;
  level?: number;
  /** Overrides the computed connect flags. */
  flags?: number;
  clean?: boolean;
  keepaliveSec?: number;
  clientId?: string | Buffer;
  userName?: string | Buffer | undefined;
  password?: string | Buffer | undefined;
  will?: { topic: string | Buffer; payload: string | Buffer; qos?: number; retain?: boolean } | undefined;
  /** Bytes after the last field. */
  trailing?: Buffer;
}

export function connectPacket(options: ConnectOptions = {}): Buffer {
  const { will, userName, password } = options;
  const flags =
    options.flags ??
    (options.clean === false ? 0 : 0x02) |
      (will === undefined ? 0 : 0x04 | ((will.qos ?? 0) << 3) | (will.retain === true ? 0x20 : 0)) |
      (password === undefined ? 0 : 0x40) |
      (userName === undefined ? 0 : 0x80);
  const fields = [
    field(options.protocolName ?? 'MQTT'),
    Buffer.from([options.level ?? 4, flags]),
    uint16(options.keepaliveSec ?? 0),
    field(options.clientId ?? 'test'),
  ];
  if (will !== undefined) fields.push(field(will.topic), field(will.payload));
  if (userName !== undefined) fields.push(field(userName));
  if (password !== undefined) fields.push(field(password));
  if (options.trailing !== undefined) fields.push(options.trailing);
  return packet(0x10, ...fields);
}

export function publishPacket(options: {
  topic: string | Buffer;
  payload?: string | Buffer;
  qos?: number;
  packetId?: number;
  dup?: boolean;
  retain?: boolean;
}): Buffer {
  const qos = options.qos ?? 0;
  const first = 0x30 | (options.dup === true ? 8 : 0) | (qos << 1) | (options.retain === true ? 1 : 0);
  const id = qos > 0 ? [uint16(options.packetId ?? 1)] : [];
  const payload = Buffer.from((options.payload ?? 'x') as string);
  return packet(first, field(options.topic), ...id, payload);
}

export function subscribePacket(packetId: number, filters: [filter: string | Buffer, qos: number][]): Buffer {
  const entries = filters.map(([filter, qos]) => Buffer.concat([field(filter), Buffer.from([qos])]));
  return packet(0x82, uint16(packetId), ...entries);
}

export function unsubscribePacket(packetId: number, filters: (string | Buffer)[]): Buffer {
  return packet(0xa2, uint16(packetId), ...filters.map(field));
}

export const pingreqPacket = Buffer.from([0xc0, 0]);
export const disconnectPacket = Buffer.from([0xe0, 0]);
export const pubrelPacket = (packetId: number): Buffer => packet(0x62, uint16(packetId));
export const pubackPacket = (packetId: number): Buffer => packet(0x40, uint16(packetId));

/** A packet received: its first byte and what follows the fixed header. */
export interface ReceivedPacket {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
}

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
