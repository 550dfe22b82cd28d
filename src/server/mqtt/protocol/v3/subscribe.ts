import type { CloseReason } from '../close-reason.js';
import type { Subscribe, SubscriptionRequest, Unsubscribe } from '../codec.js';
import { fieldEnd, readText } from '../field.js';
import type { ProtocolVersion, QoS } from '../packet-type.js';
import { checkFilter } from '../topics.js';

/** What MQTT 3 cannot ask for. */
const withoutOptions = { noLocal: false, retainAsPublished: false, retainHandling: 0 } as const;

/** Decodes SUBSCRIBE (MQTT 3.1.1 §3.8). */
export function decodeSubscribe(
  packet: Buffer,
  bodyOffset: number,
  version: ProtocolVersion,
): Subscribe | CloseReason {
  // In MQTT 3.1 the upper six bits of the options are not used.
  return decodeFilters(packet, bodyOffset, { optionBytes: 1, optionMask: version === 3 ? 0x03 : 0xff });
}

/** Decodes UNSUBSCRIBE (MQTT 3.1.1 §3.10). */
export function decodeUnsubscribe(packet: Buffer, bodyOffset: number): Unsubscribe | CloseReason {
  const decoded = decodeFilters(packet, bodyOffset, { optionBytes: 0, optionMask: 0 });
  if (typeof decoded === 'string') return decoded;
  return { packetId: decoded.packetId, filters: decoded.requests.map(({ filter }) => filter) };
}

function decodeFilters(
  packet: Buffer,
  bodyOffset: number,
  { optionBytes, optionMask }: { optionBytes: 0 | 1; optionMask: number },
): Subscribe | CloseReason {
  if (bodyOffset + 2 > packet.length) return 'malformed-packet';
  const packetId = packet.readUInt16BE(bodyOffset);
  if (packetId === 0) return 'packet-id-zero'; // [MQTT-2.3.1-1]
  let start = bodyOffset + 2;
  if (start === packet.length) return 'no-topic-filter'; // [MQTT-3.8.3-3] [MQTT-3.10.3-2]
  const requests: SubscriptionRequest[] = [];
  while (start < packet.length) {
    const end = fieldEnd(packet, start);
    if (end === -1 || end + optionBytes > packet.length) return 'malformed-packet';
    const filter = readText(packet, start, end);
    if (filter === undefined) return 'invalid-utf8'; // [MQTT-3.8.3-1] [MQTT-3.10.3-1]
    const problem = checkFilter(filter);
    if (problem !== undefined) return problem;
    const options = optionBytes === 1 ? (packet[end] as number) & optionMask : 0;
    if ((options & 0xfc) !== 0) return 'reserved-bits'; // [MQTT-3-8.3-4]
    if (options === 3) return 'invalid-qos';
    requests.push({ filter, qos: options as QoS, ...withoutOptions });
    start = end + optionBytes;
  }
  return { packetId, requests, subscriptionId: undefined };
}
