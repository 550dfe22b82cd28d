import type { CloseReason } from '../close-reason.js';
import type { Delivery, OutgoingPublish, Publish } from '../codec.js';
import { fieldEnd } from '../field.js';
import { encodeLength } from '../fixed-header.js';
import type { ProtocolVersion, QoS } from '../packet-type.js';

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
  const topic = Buffer.from(message.topic, 'utf8');
  const { qos, packetId } = delivery;
  const first = 0x30 | (delivery.dup ? 0x08 : 0) | (qos << 1) | (message.retain ? 0x01 : 0);
  const length = 2 + topic.length + (qos > 0 ? 2 : 0) + message.payload.length;
  return Buffer.concat([
    Buffer.from([first, ...encodeLength(length), topic.length >> 8, topic.length & 0xff]),
    topic,
    ...(qos > 0 ? [Buffer.from([packetId >> 8, packetId & 0xff])] : []),
    message.payload,
  ]);
}
