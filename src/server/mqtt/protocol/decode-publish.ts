import type { CloseReason } from './close-reason.js';
import type { Publish } from './codec.js';
import { fieldEnd } from './field.js';
import type { ProtocolVersion, QoS } from './packet-type.js';
import { propertiesEnd, propertiesStart } from './v5/property-reader.js';

/**
 * Decodes PUBLISH (MQTT 3.1.1 §3.3, MQTT 5.0 §3.3) and checks everything but the topic, which may be empty in MQTT 5, and the
 * properties.
 */
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
  let end = topicEnd;
  if (qos > 0) {
    end += 2;
    if (end > packet.length) return 'malformed-packet';
    packetId = packet.readUInt16BE(topicEnd);
    if (packetId === 0) return 'packet-id-zero'; // [MQTT-2.3.1-1] [MQTT 5.0 MQTT-2.2.1-3]
  }
  const payloadStart = version === 5 ? propertiesEnd(packet, end) : end;
  if (payloadStart === -1) return 'malformed-property';
  return {
    qos: qos as QoS,
    retain: (flags & 0x01) !== 0,
    packet,
    topicStart: bodyOffset + 2,
    topicEnd,
    packetId,
    propertiesStart: version === 5 ? propertiesStart(packet, end) : end,
    propertiesEnd: payloadStart,
    payload: packet.subarray(payloadStart),
  };
}
