import type { CloseReason } from './close-reason.js';
import { PacketType, type ProtocolVersion } from './packet-type.js';

/** Packets whose flags are 0010 (MQTT 3.1.1 §2.2.2, table 2.2). */
const flaggedTypes: ReadonlySet<number> = new Set([
  PacketType.PUBREL,
  PacketType.SUBSCRIBE,
  PacketType.UNSUBSCRIBE,
]);

/**
 * Checks the flags of any packet but PUBLISH [MQTT-2.2.2-2]. In MQTT 3.1 they are DUP, QoS and RETAIN here too: the
 * three packets have QoS 1, and every other bit is unused (MQTT 3.1 §2.1 and the section of each packet).
 */
export function checkFlags(firstByte: number, version: ProtocolVersion): CloseReason | undefined {
  const type = firstByte >> 4;
  const expected = flaggedTypes.has(type) ? 0b0010 : 0;
  const mask = version === 3 ? expected && 0b0110 : 0b1111;
  return (firstByte & mask) === expected ? undefined : 'reserved-bits';
}

/** The bytes of a remaining length (MQTT 3.1.1 §2.2.3). */
export function encodeLength(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  do {
    bytes.push(rest >= 0x80 ? (rest & 0x7f) | 0x80 : rest);
    rest >>= 7;
  } while (rest > 0);
  return bytes;
}

/** SUBACK or UNSUBACK: a packet identifier, and the codes behind it. */
export function encodeAnswer(firstByte: number, packetId: number, codes: readonly number[]): Buffer {
  const length = encodeLength(2 + codes.length);
  return Buffer.from([firstByte, ...length, packetId >> 8, packetId & 0xff, ...codes]);
}
