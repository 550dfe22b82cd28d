import type { CloseReason } from '../close-reason.js';
import { propertiesEnd, readProperties } from './property-reader.js';
import { Place } from './property-table.js';
import { isReasonOf, ReasonPlace } from './reason-codes.js';

/** AUTH of a client (MQTT 5.0 §3.15). */
export interface Auth {
  /** 0x18: it goes on; 0x19: it begins again. */
  readonly reasonCode: number;
  readonly authenticationMethod: string;
  readonly authenticationData: Buffer | undefined;
}

export function decodeAuth(packet: Buffer, bodyOffset: number): Auth | CloseReason {
  // Without a body it is that of a server's success (§3.15.2.1).
  const reasonCode = packet[bodyOffset] ?? 0;
  if (!isReasonOf(reasonCode, ReasonPlace.clientAuth)) return 'invalid-reason-code'; // [MQTT-3.15.2-1]
  const end = propertiesEnd(packet, bodyOffset + 1);
  const properties = readProperties(packet, bodyOffset + 1, end, Place.auth);
  if (typeof properties === 'string') return properties;
  if (end !== packet.length) return 'malformed-packet';
  const { authenticationMethod, authenticationData } = properties;
  if (authenticationMethod === undefined) return 'invalid-property'; // §3.15.2.2.2
  return { reasonCode, authenticationMethod, authenticationData };
}
