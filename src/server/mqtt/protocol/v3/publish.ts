import type { Delivery, OutgoingPublish } from '../codec.js';
import { writeField } from '../field.js';
import { variableIntegerBytes, writeVariableInteger } from '../variable-integer.js';

/** Encodes PUBLISH. */
export function encodePublish(message: OutgoingPublish, delivery: Delivery): Buffer {
  const { topic, payload } = message;
  const { qos, packetId } = delivery;
  const length = 2 + Buffer.byteLength(topic) + (qos > 0 ? 2 : 0) + payload.length;

  const packet = Buffer.allocUnsafe(1 + variableIntegerBytes(length) + length);
  packet[0] = 0x30 | (delivery.dup ? 0x08 : 0) | (qos << 1) | (message.retain ? 0x01 : 0);
  let at = writeField(packet, writeVariableInteger(packet, 1, length), topic);
  if (qos > 0) at = packet.writeUInt16BE(packetId, at);
  payload.copy(packet, at);
  return packet;
}
