import type { CloseReason } from '../close-reason.js';
import type { Acknowledge, SubscriptionRequest } from '../codec.js';
import { encodeAnswer } from '../fixed-header.js';
import { PacketType, type ProtocolVersion } from '../packet-type.js';

/** PUBACK, PUBREC, PUBREL, PUBCOMP and UNSUBACK: two bytes of header, two of packet identifier (MQTT 3.1.1 §3.4). */
export const acknowledgeBytes = 4;

/** Decodes an acknowledging packet. */
export function decodeAcknowledge(packet: Buffer, bodyOffset: number): Acknowledge | CloseReason {
  if (packet.length - bodyOffset !== 2) return 'malformed-packet';
  const packetId = packet.readUInt16BE(bodyOffset);
  return packetId === 0 ? 'packet-id-zero' : { packetId, reasonCode: 0 };
}

/** Writes an acknowledging packet at `offset`. */
export function writeAcknowledge(target: Buffer, offset: number, type: PacketType, packetId: number): void {
  target[offset] = type === 6 ? 0x62 : type << 4;
  target[offset + 1] = 2;
  target[offset + 2] = packetId >> 8;
  target[offset + 3] = packetId & 0xff;
}

export function encodeAcknowledge(type: PacketType, packetId: number): Buffer {
  const packet = Buffer.allocUnsafe(acknowledgeBytes);
  writeAcknowledge(packet, 0, type, packetId);
  return packet;
}

/**
 * SUBACK with one return code for each filter, in the order of the filters [MQTT-3.9.3-1]. MQTT 3.1 has none for a refusal:
 * there a server "has no way of informing that client" and has to answer as if it had granted what was asked for (§3.8).
 */
export function encodeSuback(
  packetId: number,
  codes: readonly number[],
  requests: readonly SubscriptionRequest[],
  version: ProtocolVersion,
): Buffer {
  const returnCodes = codes.map((code, index) => {
    if (code < 0x80) return code;
    return version === 3 ? (requests[index]?.qos ?? 0) : 0x80;
  });
  return encodeAnswer(0x90, packetId, returnCodes);
}

/** UNSUBACK (MQTT 3.1.1 §3.11). */
export function encodeUnsuback(packetId: number): Buffer {
  return encodeAcknowledge(PacketType.UNSUBACK, packetId);
}
