import type { CloseReason } from '../close-reason.js';
import type { Delivery, OutgoingPublish, Publish } from '../codec.js';
import { fieldEnd, writeField } from '../field.js';
import type { ProtocolVersion, QoS } from '../packet-type.js';
import { variableIntegerBytes, writeVariableInteger } from '../variable-integer.js';

/** Decodes PUBLISH and checks everything but the topic's text. */
export function decodePublish(
  packet: Buffer,
  bodyOffset: number,
  version: ProtocolVersion,
): Publish | CloseReason {
  const flags = (packet[0] as number) & 0x0f;
  const qos = (flags >> 1) & 0x03;
  if (qos === 3) return 'invalid-qos'; // [MQTT-3.3.1-4]
  // DUP with QoS 0 [MQTT-3.3.1-2]; MQTT 3.1 only says that it means nothing there.
  if (qos === 0 && (flags & 0x08) !== 0 && version !== 3) return 'reserved-bits';
  const topicEnd = fieldEnd(packet, bodyOffset);
  if (topicEnd === -1) return 'malformed-packet';
  let packetId = 0;
  let payloadStart = topicEnd;
  if (qos > 0) {
    payloadStart += 2;
    if (payloadStart > packet.length) return 'malformed-packet';
    packetId = packet.readUInt16BE(topicEnd);
    if (packetId === 0) return 'packet-id-zero'; // [MQTT-2.3.1-1]
  }
  return {
    qos: qos as QoS,
    retain: (flags & 0x01) !== 0,
    packet,
    topicStart: bodyOffset + 2,
    topicEnd,
    packetId,
    propertiesStart: payloadStart,
    propertiesEnd: payloadStart,
    payload: packet.subarray(payloadStart),
  };
}

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
