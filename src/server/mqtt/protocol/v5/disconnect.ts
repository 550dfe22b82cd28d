import type { CloseReason } from '../close-reason.js';
import type { Disconnect } from '../codec.js';
import { encodeReasoned } from './packet-writer.js';
import { propertiesEnd, readProperties } from './property-reader.js';
import { Place } from './property-table.js';
import { propertiesOf } from './property-writer.js';
import { isReasonOf, ReasonCode, ReasonPlace } from './reason-codes.js';

const list = propertiesOf(Place.disconnect);

/** DISCONNECT of a client (MQTT 5.0 §3.14): reason code and properties may be left out. */
export function decodeDisconnect(packet: Buffer, bodyOffset: number): Disconnect | CloseReason {
  const bytes = packet.length - bodyOffset;
  if (bytes === 0) return { withWill: false, sessionExpirySec: undefined };
  const reasonCode = packet[bodyOffset] as number;
  if (!isReasonOf(reasonCode, ReasonPlace.clientDisconnect)) return 'invalid-reason-code'; // [MQTT-3.14.2-1]
  // Only a normal disconnection takes the will away [MQTT-3.14.4-3].
  const withWill = reasonCode !== ReasonCode.success;
  if (bytes === 1) return { withWill, sessionExpirySec: undefined };
  const end = propertiesEnd(packet, bodyOffset + 1);
  const properties = readProperties(packet, bodyOffset + 1, end, Place.disconnect);
  if (typeof properties === 'string') return properties;
  if (end !== packet.length) return 'malformed-packet';
  return { withWill, sessionExpirySec: properties.sessionExpirySec };
}

/** DISCONNECT of the server. */
export function encodeDisconnect(
  reasonCode: number,
  reasonString?: string,
  maxPacketBytes = Number.POSITIVE_INFINITY,
): Buffer {
  return encodeReasoned(0xe0, [], reasonCode, { reasonString }, list, maxPacketBytes);
}
