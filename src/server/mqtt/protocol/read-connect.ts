import type { CloseReason } from './close-reason.js';
import type { Codec, Connect } from './codec.js';
import { fieldEnd, readText } from './field.js';
import { checkFlags } from './fixed-header.js';
import { PacketType } from './packet-type.js';
import { codecs3 } from './v3/codec.js';
import { decodeConnect } from './v3/connect.js';
import { codec5, codecFor } from './v5/codec.js';
import { decodeConnect5 } from './v5/connect.js';

/** What the first packet of a connection says, and the language in which it is to be answered. */
export interface FirstPacket {
  readonly connect: Connect | CloseReason;
  readonly codec: Codec;
}

/** Reads the first packet of a connection, which must be CONNECT [MQTT-3.1.0-1]: the version is chosen here and nowhere else. */
export function readFirstPacket(packet: Buffer, bodyOffset: number): FirstPacket {
  const first = packet[0] as number;
  if (first >> 4 !== PacketType.CONNECT) return { connect: 'connect-expected', codec: codecs3[4] };
  const nameEnd = fieldEnd(packet, bodyOffset);
  const protocolLevel = nameEnd === -1 ? undefined : packet[nameEnd];
  // MQTT 3.1 does not use these flags.
  if (checkFlags(first, 4) !== undefined && protocolLevel !== 3)
    return { connect: 'reserved-bits', codec: codecs3[4] };
  if (protocolLevel === 5 && readText(packet, bodyOffset, nameEnd) === 'MQTT') {
    // [MQTT 5.0 MQTT-1.5.5-1]
    if (bodyOffset > 2 && packet[bodyOffset - 1] === 0) return { connect: 'remaining-length', codec: codec5 };
    const connect = decodeConnect5(packet, nameEnd + 1);
    return { connect, codec: typeof connect === 'string' ? codec5 : codecFor(connect) };
  }
  const connect = decodeConnect(packet, bodyOffset);
  return { connect, codec: codecs3[protocolLevel === 3 ? 3 : 4] };
}

/**
 * What a CONNECT says of itself, also in a version that is not spoken here: its protocol level and its client id, as far
 * as they can be read. In MQTT 5 properties come before the client id (MQTT 5.0 §3.1.2.11).
 */
export function readIdentity(
  packet: Buffer,
  bodyOffset: number,
): { protocolLevel: number | undefined; clientId: string | undefined } {
  const nameEnd = fieldEnd(packet, bodyOffset);
  const protocolLevel = nameEnd === -1 ? undefined : packet[nameEnd];
  const start = protocolLevel === 5 ? propertiesEnd(packet, nameEnd + 4) : nameEnd + 4;
  const end = nameEnd === -1 ? -1 : fieldEnd(packet, start);
  return { protocolLevel, clientId: end === -1 ? undefined : readText(packet, start, end) };
}

/** Where the properties that begin with their length at `start` end: a variable byte integer of at most four bytes. */
function propertiesEnd(packet: Buffer, start: number): number {
  let length = 0;
  for (let index = 0; index < 4; index += 1) {
    const byte = packet[start + index] ?? 0;
    length |= (byte & 0x7f) << (7 * index);
    if (byte < 0x80) return start + index + 1 + length;
  }
  return -1;
}
