import type { CloseReason } from '../close-reason.js';
import type { Subscribe, SubscriptionRequest, Unsubscribe } from '../codec.js';
import { fieldEnd, readText } from '../field.js';
import type { QoS } from '../packet-type.js';
import { checkFilter, partFilter } from '../topics.js';
import { propertiesEnd, readProperties } from './property-reader.js';
import { Place } from './property-table.js';

/** SUBSCRIBE (MQTT 5.0 §3.8). */
export function decodeSubscribe(packet: Buffer, bodyOffset: number): Subscribe | CloseReason {
  return decodeFilters(packet, bodyOffset, Place.subscribe);
}

/** UNSUBSCRIBE (MQTT 5.0 §3.10). */
export function decodeUnsubscribe(packet: Buffer, bodyOffset: number): Unsubscribe | CloseReason {
  const decoded = decodeFilters(packet, bodyOffset, Place.unsubscribe);
  if (typeof decoded === 'string') return decoded;
  return { packetId: decoded.packetId, filters: decoded.requests.map(({ filter }) => filter) };
}

/** The filters of either; behind each one of SUBSCRIBE stands a byte of options. */
function decodeFilters(
  packet: Buffer,
  bodyOffset: number,
  place: typeof Place.subscribe | typeof Place.unsubscribe,
): Subscribe | CloseReason {
  const optionBytes = place === Place.subscribe ? 1 : 0;
  if (bodyOffset + 2 > packet.length) return 'malformed-packet';
  const packetId = packet.readUInt16BE(bodyOffset);
  if (packetId === 0) return 'packet-id-zero'; // [MQTT-2.2.1-3]
  let start = propertiesEnd(packet, bodyOffset + 2);
  const properties = readProperties(packet, bodyOffset + 2, start, place);
  if (typeof properties === 'string') return properties;
  if (start === packet.length) return 'no-topic-filter'; // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
  const requests: SubscriptionRequest[] = [];
  while (start < packet.length) {
    const end = fieldEnd(packet, start);
    if (end === -1 || end + optionBytes > packet.length) return 'malformed-packet';
    const filter = readFilter(packet, start, end);
    if (typeof filter === 'object') return filter.problem;
    const options = optionBytes === 1 ? (packet[end] as number) : 0;
    const problem = checkOptions(options, filter);
    if (problem !== undefined) return problem;
    requests.push({
      filter,
      qos: (options & 0x03) as QoS,
      noLocal: (options & 0x04) !== 0,
      retainAsPublished: (options & 0x08) !== 0,
      retainHandling: ((options >> 4) & 0x03) as 0 | 1 | 2,
    });
    start = end + optionBytes;
  }
  return { packetId, requests, subscriptionId: properties.subscriptionId };
}

function readFilter(packet: Buffer, start: number, end: number): string | { problem: CloseReason } {
  const filter = readText(packet, start, end);
  if (filter === undefined) return { problem: 'invalid-utf8' }; // [MQTT-3.8.3-1] [MQTT-3.10.3-1]
  const problem = checkFilter(filter);
  if (problem !== undefined) return { problem };
  return partFilter(filter) === undefined ? { problem: 'malformed-filter' } : filter; // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
}

function checkOptions(options: number, filter: string): CloseReason | undefined {
  if ((options & 0xc0) !== 0) return 'reserved-bits'; // [MQTT-3.8.3-5]
  if ((options & 0x03) === 3 || (options & 0x30) === 0x30) return 'invalid-subscription-options'; // §3.8.3.1
  const isShared = partFilter(filter)?.shareName !== undefined;
  return (options & 0x04) !== 0 && isShared ? 'shared-no-local' : undefined; // [MQTT-3.8.3-4]
}
