import type { CloseReason } from '../close-reason.js';
import type { Acknowledge, UserProperties } from '../codec.js';
import { encodeLength } from '../fixed-header.js';
import { PacketType } from '../packet-type.js';
import { encodeReasoned } from './packet-writer.js';
import { propertiesEnd, readProperties } from './property-reader.js';
import { Place } from './property-table.js';
import { propertiesOf } from './property-writer.js';
import { isReasonOf, ReasonPlace } from './reason-codes.js';

/** PUBACK, PUBREC, PUBREL or PUBCOMP of a client (MQTT 5.0 §3.4): reason code and properties may be left out. */
export function decodeAcknowledge(packet: Buffer, bodyOffset: number): Acknowledge | CloseReason {
  const bytes = packet.length - bodyOffset;
  if (bytes < 2) return 'malformed-packet';
  const packetId = packet.readUInt16BE(bodyOffset);
  if (packetId === 0) return 'packet-id-zero'; // [MQTT-2.2.1-3]
  if (bytes === 2) return { packetId, reasonCode: 0 };
  const reasonCode = packet[bodyOffset + 2] as number;
  const type = (packet[0] as number) >> 4;
  const answersPublish = type === PacketType.PUBACK || type === PacketType.PUBREC;
  const place = answersPublish ? ReasonPlace.received : ReasonPlace.released;
  if (!isReasonOf(reasonCode, place)) return 'invalid-reason-code'; // [MQTT-3.4.2-1] and its like
  if (bytes > 3) {
    const end = propertiesEnd(packet, bodyOffset + 3);
    const properties = readProperties(packet, bodyOffset + 3, end, Place.acknowledge);
    if (typeof properties === 'string') return properties;
    if (end !== packet.length) return 'malformed-packet';
  }
  return { packetId, reasonCode };
}

const list = propertiesOf(Place.acknowledge);

/** PUBACK, PUBREC, PUBREL or PUBCOMP, as short as it can be. */
export function encodeAcknowledge(
  type: PacketType,
  packetId: number,
  reasonCode = 0,
  details: { readonly reasonString?: string; readonly userProperties?: UserProperties } = {},
  maxPacketBytes = Number.POSITIVE_INFINITY,
): Buffer {
  const firstByte = (type << 4) | (type === PacketType.PUBREL ? 0x02 : 0);
  const head = [packetId >> 8, packetId & 0xff];
  return encodeReasoned(firstByte, head, reasonCode, details, list, maxPacketBytes);
}

/** SUBACK (§3.9) with a code for each filter, in their order [MQTT-3.9.3-1]. */
export function encodeSuback(packetId: number, codes: readonly number[]): Buffer {
  return encodeCodes(0x90, packetId, codes);
}

/** UNSUBACK (§3.11) with a code for each filter, in their order [MQTT-3.11.3-1]. */
export function encodeUnsuback(packetId: number, codes: readonly number[]): Buffer {
  return encodeCodes(0xb0, packetId, codes);
}

function encodeCodes(firstByte: number, packetId: number, codes: readonly number[]): Buffer {
  return Buffer.from([
    firstByte,
    ...encodeLength(3 + codes.length),
    packetId >> 8,
    packetId & 0xff,
    0,
    ...codes,
  ]);
}
