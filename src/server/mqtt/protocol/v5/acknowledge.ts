import type { CloseReason } from '../close-reason.js';
import type { Acknowledge, Receipt, UserProperties } from '../codec.js';
import { encodeAnswer } from '../fixed-header.js';
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

/** The last receipt and what it can be made of: sequences of as many digits in the same stream. */
let pattern: {
  readonly stream: string;
  readonly from: number;
  readonly below: number;
  readonly packet: Buffer;
} = {
  stream: '',
  from: 0,
  below: 0,
  packet: Buffer.alloc(0),
};

/**
 * PUBACK or PUBREC that says where a message is stored: user properties `nats-stream` and `nats-sequence`, of which the
 * digits of the sequence are the end of the packet. Each message of a client that asks has one, so what differs is
 * written into the last one, which is answered.
 */
export function encodeReceipt(
  type: PacketType,
  packetId: number,
  { stream, sequence }: Receipt,
  maxPacketBytes = Number.POSITIVE_INFINITY,
): Buffer {
  if (pattern.stream !== stream || sequence < pattern.from || sequence >= pattern.below) {
    const digits = String(sequence);
    const userProperties = [
      ['nats-stream', stream],
      ['nats-sequence', digits],
    ] as const;
    const below = 10 ** digits.length;
    const made = encodeAcknowledge(type, packetId, 0, { userProperties });
    pattern = { stream, from: below / 10, below, packet: made };
  }
  const { packet } = pattern;
  if (packet.length > maxPacketBytes) return encodeAcknowledge(type, packetId);
  packet[0] = type << 4;
  const idAt = (packet[1] as number) < 0x80 ? 2 : 3;
  packet[idAt] = packetId >> 8;
  packet[idAt + 1] = packetId & 0xff;
  let at = packet.length;
  for (let left = sequence; left > 0; ) {
    const rest = Math.floor(left / 10);
    at -= 1;
    packet[at] = 0x30 + (left - 10 * rest);
    left = rest;
  }
  return packet;
}

/** SUBACK (§3.9) with a code for each filter, in their order [MQTT-3.9.3-1]. */
export function encodeSuback(packetId: number, codes: readonly number[]): Buffer {
  return encodeAnswer(0x90, packetId, [0, ...codes]);
}

/** UNSUBACK (§3.11) with a code for each filter, in their order [MQTT-3.11.3-1]. */
export function encodeUnsuback(packetId: number, codes: readonly number[]): Buffer {
  return encodeAnswer(0xb0, packetId, [0, ...codes]);
}
