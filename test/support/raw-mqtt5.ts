import { field, packet, type ReceivedPacket, remainingLength, uint16 } from './raw-packets.js';

/** What MQTT 5 adds to the packets: properties and reason codes, written and read byte by byte. */

type PropertyType = 'byte' | 'uint16' | 'uint32' | 'variable' | 'field' | 'pair';

/** Identifiers of properties by the type of their value (MQTT 5.0, table 2-4). */
const typesById: Readonly<Record<number, PropertyType>> = Object.fromEntries([
  ...[0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a].map((id) => [id, 'byte']),
  ...[0x13, 0x21, 0x22, 0x23].map((id) => [id, 'uint16']),
  ...[0x02, 0x11, 0x18, 0x27].map((id) => [id, 'uint32']),
  [0x0b, 'variable'],
  ...[0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c, 0x1f].map((id) => [id, 'field']),
  [0x26, 'pair'],
]);

export type PropertyValue =
  | number
  | string
  | Buffer
  | readonly [name: string | Buffer, value: string | Buffer];

/** Identifiers of properties that the tests name. */
export const Id = {
  payloadFormat: 0x01,
  messageExpiry: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionId: 0x0b,
  sessionExpiry: 0x11,
  assignedClientId: 0x12,
  serverKeepAlive: 0x13,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblemInformation: 0x17,
  willDelay: 0x18,
  requestResponseInformation: 0x19,
  responseInformation: 0x1a,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMaximum: 0x21,
  topicAliasMaximum: 0x22,
  topicAlias: 0x23,
  maximumQos: 0x24,
  retainAvailable: 0x25,
  userProperty: 0x26,
  maximumPacketSize: 0x27,
  wildcardAvailable: 0x28,
  subscriptionIdsAvailable: 0x29,
  sharedAvailable: 0x2a,
} as const;

/** One property with its identifier. */
export function property(id: number, value: PropertyValue): Buffer {
  const start = Buffer.from([id]);
  const type = typesById[id];
  if (type === 'pair') {
    const [name, text] = value as [string, string];
    return Buffer.concat([start, field(name), field(text)]);
  }
  if (type === 'field') return Buffer.concat([start, field(value as string | Buffer)]);
  if (type === 'variable') return Buffer.concat([start, remainingLength(value as number)]);
  if (type === 'uint16') return Buffer.concat([start, uint16(value as number)]);
  if (type === 'byte') return Buffer.from([id, value as number]);
  const bytes = Buffer.alloc(5);
  bytes[0] = id;
  bytes.writeUInt32BE(value as number, 1);
  return bytes;
}

/** Properties as `[identifier, value]`, without the length in front of them; bytes stand as they are. */
export function properties(...list: (Buffer | readonly [id: number, value: PropertyValue])[]): Buffer {
  return Buffer.concat(list.map((item) => (Buffer.isBuffer(item) ? item : property(...item))));
}

/** Properties with the length that stands in front of them. */
export function sized(list: Buffer): Buffer {
  return Buffer.concat([remainingLength(list.length), list]);
}

/** PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7) with a reason code, and properties where they are given. */
export function acknowledgePacket(type: number, packetId: number, code: number, list?: Buffer): Buffer {
  const rest = list === undefined ? [] : [sized(list)];
  return packet((type << 4) | (type === 6 ? 2 : 0), uint16(packetId), Buffer.from([code]), ...rest);
}

/** DISCONNECT with a reason code, and properties where they are given. */
export function disconnect5Packet(code: number, list?: Buffer): Buffer {
  return packet(0xe0, Buffer.from([code]), ...(list === undefined ? [] : [sized(list)]));
}

export function authPacket(code: number, list: Buffer): Buffer {
  return packet(0xf0, Buffer.from([code]), sized(list));
}

/** The properties of a packet by their identifiers, each with its values in their order. */
export type ReadProperties = ReadonlyMap<number, readonly PropertyValue[]>;

/** Reads the properties whose length stands at `at`. */
export function readProperties(body: Buffer, at: number): { properties: ReadProperties; end: number } {
  const length = readVariable(body, at);
  const end = length.end + length.value;
  if (end > body.length) throw new Error('the server sent properties that do not fit into their packet');
  const found = new Map<number, PropertyValue[]>();
  for (let next = length.end; next < end; ) {
    const id = body[next] as number;
    const { value, end: valueEnd } = readValue(body, next + 1, typesById[id]);
    found.set(id, [...(found.get(id) ?? []), value]);
    next = valueEnd;
  }
  return { properties: found, end };
}

function readVariable(body: Buffer, at: number): { value: number; end: number } {
  let value = 0;
  for (let index = 0; index < 4; index++) {
    const byte = body[at + index] as number;
    value += (byte & 0x7f) * 128 ** index;
    if (byte < 0x80) return { value, end: at + index + 1 };
  }
  throw new Error('the server sent a variable byte integer of more than four bytes');
}

function readValue(
  body: Buffer,
  at: number,
  type: PropertyType | undefined,
): { value: PropertyValue; end: number } {
  if (type === undefined) throw new Error('the server sent an unknown property');
  if (type === 'byte') return { value: body.readUInt8(at), end: at + 1 };
  if (type === 'uint16') return { value: body.readUInt16BE(at), end: at + 2 };
  if (type === 'uint32') return { value: body.readUInt32BE(at), end: at + 4 };
  if (type === 'variable') return readVariable(body, at);
  const end = at + 2 + body.readUInt16BE(at);
  const text = body.toString('utf8', at + 2, end);
  if (type === 'field') return { value: text, end };
  const pairEnd = end + 2 + body.readUInt16BE(end);
  return { value: [text, body.toString('utf8', end + 2, pairEnd)], end: pairEnd };
}

/** A packet with a reason code at `at` of its body; both it and the properties may be left out. */
function readReasoned({ body }: ReceivedPacket, at: number) {
  const code = body[at] ?? 0;
  const { properties, end } =
    body.length > at + 1
      ? readProperties(body, at + 1)
      : { properties: new Map<number, never>(), end: body.length };
  return { code, properties, end };
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP as received. */
export function readAcknowledge(received: ReceivedPacket) {
  const { code, properties } = readReasoned(received, 2);
  return { type: received.type, packetId: received.body.readUInt16BE(0), code, properties };
}

/** DISCONNECT of the server as received. */
export function readDisconnect(received: ReceivedPacket) {
  const { code, properties } = readReasoned(received, 0);
  return { type: received.type, code, properties };
}

export function readConnack({ type, body }: ReceivedPacket) {
  const { properties, end } = readProperties(body, 2);
  if (end !== body.length) throw new Error('the server sent a CONNACK with bytes behind its properties');
  return { type, flags: body[0] as number, code: body[1] as number, properties };
}

/** SUBACK or UNSUBACK as received. */
export function readSuback({ type, body }: ReceivedPacket) {
  const { properties, end } = readProperties(body, 2);
  return { type, packetId: body.readUInt16BE(0), properties, codes: [...body.subarray(end)] };
}

/** PUBLISH as received by a client of MQTT 5. */
export function readPublish5({ type, flags, body }: ReceivedPacket) {
  const qos = (flags >> 1) & 3;
  const topicEnd = 2 + body.readUInt16BE(0);
  const { properties, end } = readProperties(body, topicEnd + (qos > 0 ? 2 : 0));
  return {
    type,
    topic: body.toString('utf8', 2, topicEnd),
    payload: body.toString('utf8', end),
    qos,
    dup: (flags & 8) !== 0,
    retain: (flags & 1) !== 0,
    packetId: qos > 0 ? body.readUInt16BE(topicEnd) : 0,
    properties,
  };
}
