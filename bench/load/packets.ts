/** Who a client is: for peers without passwords the password is sent all the same. */
export interface Identity {
  readonly id: string;
  readonly user: string;
  readonly password: string;
}

/** What the clients of a load speak: 3.1.1, or MQTT 5, also with properties on each message or with receipts. */
export type Dialect = '3.1.1' | '5' | '5-properties' | '5-receipts';

/** Bytes of a payload that say whose message it is and which: client index and number, four bytes each. */
export const stampBytes = 8;

export const pingreq = Buffer.from([0xc0, 0]);
export const disconnect = Buffer.from([0xe0, 0]);

/** The topic of a device's messages, the same for every system. */
export function uplinkTopic(id: string): string {
  return `raw/${id}`;
}

/**
 * CONNECT with user name and password.
 *
 * @param options.session the client goes on with its session, which outlives the connection; default: a clean one.
 */
export function encodeConnect(
  identity: Identity,
  clientId: string,
  options: {
    keepaliveSec?: number;
    dialect?: Dialect | undefined;
    session?: boolean | undefined;
  } = {},
): Buffer {
  const { keepaliveSec = 600, dialect = '3.1.1', session = false } = options;
  const isOld = dialect === '3.1.1';
  if (session && !isOld) throw new Error('sessions of MQTT 5 would need an expiry');
  const properties = dialect === '5-receipts' ? userProperty('receipt', '1') : Buffer.alloc(0);
  return packet(
    0x10,
    Buffer.concat([
      field('MQTT'),
      Buffer.from([isOld ? 4 : 5, session ? 0b1100_0000 : 0b1100_0010]),
      Buffer.from([keepaliveSec >> 8, keepaliveSec & 0xff]),
      ...(isOld ? [] : [Buffer.from([properties.length]), properties]),
      field(clientId),
      field(identity.user),
      field(identity.password),
    ]),
  );
}

/** A PUBLISH with room for a packet identifier (QoS 1 and 2) and a stamp; see `publishOffsets`. */
export function encodePublish(
  topic: string,
  qos: number,
  payload: Buffer,
  dialect: Dialect = '3.1.1',
  correlation?: Buffer,
): Buffer {
  const properties = dialect === '5-properties' ? aliasAndProperties : encodeCorrelation(correlation);
  const parts = [
    field(topic),
    ...(qos > 0 ? [Buffer.alloc(2)] : []),
    ...(dialect === '3.1.1' ? [] : [Buffer.from([properties.length]), properties]),
    payload,
  ];
  return packet(0x30 | (qos << 1), Buffer.concat(parts));
}

/** Where packet identifier and payload of a PUBLISH begin. */
export function publishOffsets(publish: Buffer, qos: number, dialect: Dialect = '3.1.1'): PublishOffsets {
  let at = 1;
  while (((publish[at] ?? 0) & 0x80) !== 0) at += 1;
  const topic = at + 1;
  const packetId = topic + 2 + publish.readUInt16BE(topic);
  const properties = packetId + (qos > 0 ? 2 : 0);
  const payload = dialect === '3.1.1' ? properties : properties + 1 + (publish[properties] as number);
  return { topic, packetId, properties, payload };
}

/** The length of the properties is taken for one byte. */
export interface PublishOffsets {
  /** Of the length before it. */
  readonly topic: number;
  readonly packetId: number;
  readonly properties: number;
  readonly payload: number;
}

/** Response Topic and Correlation Data of a PUBLISH of MQTT 5. */
export function readResponse(
  publish: Buffer,
  { properties, payload }: PublishOffsets,
): { topic: string; correlation: Buffer } {
  let topic = '';
  let correlation = Buffer.alloc(0);
  let at = properties + 1;
  const next = () => {
    const from = at + 2;
    at = from + publish.readUInt16BE(at);
    return publish.subarray(from, at);
  };
  while (at < payload) {
    const kind = publish[at];
    at += 1;
    if (kind === 0x08) topic = next().toString();
    else if (kind === 0x09) correlation = Buffer.from(next());
    // Message Expiry Interval.
    else if (kind === 0x02) at += 4;
    else throw new Error(`property ${kind} was not expected`);
  }
  return { topic, correlation };
}

function encodeCorrelation(data: Buffer | undefined): Buffer {
  if (data === undefined) return Buffer.alloc(0);
  return Buffer.concat([Buffer.from([0x09, data.length >> 8, data.length & 0xff]), data]);
}

export function encodeSubscribe(
  packetId: number,
  filter: string,
  qos: number,
  dialect: Dialect = '3.1.1',
): Buffer {
  const properties = dialect === '3.1.1' ? [] : [0];
  return packet(
    0x82,
    Buffer.concat([
      Buffer.from([packetId >> 8, packetId & 0xff, ...properties]),
      field(filter),
      Buffer.from([qos]),
    ]),
  );
}

/**
 * The payload of a client's messages: the stamp, and bytes that depend on client and position, so that a payload that
 * was cut, shifted or mixed up is found.
 */
export function makePayload(client: number, bytes: number): Buffer {
  const payload = Buffer.alloc(bytes);
  payload.writeUInt32BE(client, 0);
  for (let at = stampBytes; at < bytes; at += 1) payload[at] = fillByte(client, at);
  return payload;
}

export function fillByte(client: number, at: number): number {
  return (client * 31 + at * 7 + (at >> 8)) & 0xff;
}

/** The first whole packet of some bytes, with the place of its variable header. */
function cutPacket(bytes: Buffer): { bytes: Buffer; bodyAt: number } | undefined {
  let length = 0;
  for (let at = 1; at < bytes.length && at < 5; at += 1) {
    const byte = bytes[at] ?? 0;
    length |= (byte & 0x7f) << (7 * (at - 1));
    if (byte < 0x80) {
      const end = at + 1 + length;
      return end > bytes.length ? undefined : { bytes: bytes.subarray(0, end), bodyAt: at + 1 };
    }
  }
  return undefined;
}

/** Cuts a stream that may be cut anywhere into packets; their bytes are only valid during the call. */
export function openPacketCutter(onPacket: (bytes: Buffer, bodyAt: number) => void) {
  let rest: Uint8Array = new Uint8Array();
  return (bytes: Uint8Array, from: number, to: number): void => {
    let all = Buffer.concat([rest, bytes.subarray(from, to)]);
    while (true) {
      const packet = cutPacket(all);
      if (packet === undefined) break;
      onPacket(packet.bytes, packet.bodyAt);
      all = all.subarray(packet.bytes.length);
    }
    rest = all;
  };
}

function field(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

function packet(first: number, body: Buffer): Buffer {
  const header = [first];
  let left = body.length;
  do {
    header.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left >>= 7;
  } while (left > 0);
  return Buffer.concat([Buffer.from(header), body]);
}

function userProperty(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0x26]), field(name), field(value)]);
}

/** Topic alias 1, a content type, three user properties. */
const aliasAndProperties = Buffer.concat([
  Buffer.from([0x23, 0, 1, 0x03]),
  field('application/json'),
  userProperty('site', 'graz'),
  userProperty('line', '7'),
  userProperty('unit', 'celsius'),
]);
