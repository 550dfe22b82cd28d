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
  /** MQTT 5: without their length. */
  properties?: Buffer;
  clientId?: string | Buffer;
  userName?: string | Buffer | undefined;
  password?: string | Buffer | undefined;
  will?:
    | {
        topic: string | Buffer;
        payload: string | Buffer;
        qos?: number;
        retain?: boolean;
        /** MQTT 5: without their length. */
        properties?: Buffer;
      }
    | undefined;
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
    ...propertiesOf(options, options.level === 5),
    field(options.clientId ?? 'test'),
  ];
  if (will !== undefined)
    fields.push(...propertiesOf(will, options.level === 5), field(will.topic), field(will.payload));
  if (userName !== undefined) fields.push(field(userName));
  if (password !== undefined) fields.push(field(password));
  if (options.trailing !== undefined) fields.push(options.trailing);
  return packet(0x10, ...fields);
}

/** The properties of a packet with the length in front of them; there are none before MQTT 5. */
function propertiesOf({ properties }: { properties?: Buffer | undefined }, isThere: boolean): Buffer[] {
  if (!isThere) return [];
  const list = properties ?? Buffer.alloc(0);
  return [remainingLength(list.length), list];
}

/** With properties it is one of MQTT 5; they may be empty. */
export function publishPacket(options: {
  topic: string | Buffer;
  payload?: string | Buffer;
  qos?: number;
  packetId?: number;
  dup?: boolean;
  retain?: boolean;
  /** MQTT 5: without their length. */
  properties?: Buffer;
}): Buffer {
  const qos = options.qos ?? 0;
  const first = 0x30 | (options.dup === true ? 8 : 0) | (qos << 1) | (options.retain === true ? 1 : 0);
  const id = qos > 0 ? [uint16(options.packetId ?? 1)] : [];
  const payload = Buffer.from((options.payload ?? 'x') as string);
  const properties = propertiesOf(options, options.properties !== undefined);
  return packet(first, field(options.topic), ...id, ...properties, payload);
}

/** With properties it is one of MQTT 5, and `qos` the byte of options. */
export function subscribePacket(
  packetId: number,
  filters: [filter: string | Buffer, qos: number][],
  properties?: Buffer,
): Buffer {
  const entries = filters.map(([filter, qos]) => Buffer.concat([field(filter), Buffer.from([qos])]));
  const before = propertiesOf({ properties }, properties !== undefined);
  return packet(0x82, uint16(packetId), ...before, ...entries);
}

/** With properties it is one of MQTT 5. */
export function unsubscribePacket(
  packetId: number,
  filters: (string | Buffer)[],
  properties?: Buffer,
): Buffer {
  const before = propertiesOf({ properties }, properties !== undefined);
  return packet(0xa2, uint16(packetId), ...before, ...filters.map(field));
}

export const pingreqPacket = Buffer.from([0xc0, 0]);
export const disconnectPacket = Buffer.from([0xe0, 0]);
export const pubrelPacket = (packetId: number): Buffer => packet(0x62, uint16(packetId));

/** A packet received: its first byte and what follows the fixed header. */
export interface ReceivedPacket {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
}
