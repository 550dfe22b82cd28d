import type { ConnackProperties } from '../codec.js';
import { encodePacket } from './packet-writer.js';
import { Place } from './property-table.js';
import { propertiesOf } from './property-writer.js';

const list = propertiesOf(Place.connack);

/** CONNACK 0 (MQTT 5.0 §3.2). */
export function encodeConnack(
  sessionPresent: boolean,
  properties: ConnackProperties,
  maxPacketBytes = Number.POSITIVE_INFINITY,
): Buffer {
  return encodePacket(0x20, [sessionPresent ? 1 : 0, 0], properties, list, maxPacketBytes);
}

/** CONNACK with the code of a refusal, and so without a session [MQTT-3.2.2-6]. */
export function encodeRefusal(
  reasonCode: number,
  reasonString?: string,
  maxPacketBytes = Number.POSITIVE_INFINITY,
): Buffer {
  return encodePacket(0x20, [0, reasonCode], { reasonString }, list, maxPacketBytes);
}
