import type { MessageProperties } from '../../message-properties.js';
import { findHeader } from '../connection/nats-headers.js';
import { decodeHeaders, encodeProperties } from '../mqtt-headers.js';
import { percentDecode, percentEncode, tokensToTopic } from '../subject.js';

/** A message of one client for others, as the streams of svc-mqtt itself keep it. */
export interface StateMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly properties?: MessageProperties | undefined;
  /** `Date.now()` from which on it is not delivered; undefined: it does not expire. */
  readonly expiresAtMs?: number | undefined;
  /** Key of the client that published it, for No Local; undefined: none did. */
  readonly sender?: string | undefined;
}

const encoder = new TextEncoder();
const unfitForHeader = /[\p{Cc}\p{Z}\uFEFF%]/gu;

/**
 * The headers that a message has in NATS: its properties as those of the uplink, less the time that has passed; QoS and sender.
 *
 * @param lines further ones.
 */
export function encodeStateHeaders(message: StateMessage, lines: readonly string[] = []): Uint8Array {
  const { qos, sender, properties, expiresAtMs } = message;
  const left =
    expiresAtMs === undefined ? undefined : Math.max(0, Math.ceil((expiresAtMs - Date.now()) / 1_000));
  const all = [
    `Mqtt-Qos: ${qos}`,
    ...(sender === undefined ? [] : [`Mqtt-Sender: ${percentEncode(sender, unfitForHeader)}`]),
    ...lines,
    // NATS lets nothing live for less than a second: who reads it meanwhile sees that it has expired.
    ...(left === 0 ? ['Nats-TTL: 1s'] : []),
  ];
  const own = encodeProperties({ ...properties, expirySec: left }, { ttl: true });
  return encoder.encode(`NATS/1.0\r\n${all.join('\r\n')}\r\n${own}\r\n`);
}

/** The topic of the tokens behind a stream's own; undefined: no gateway made them. */
export function readTopic(tokens: string): string | undefined {
  try {
    return tokensToTopic(tokens);
  } catch {
    return undefined;
  }
}

/**
 * Reads a message back; whoever published it, it is one that can be sent to clients.
 *
 * @param headers the block; empty: there is none.
 */
export function readStateMessage(
  topic: string,
  { headers, data }: { readonly headers: string; readonly data: Uint8Array },
  storedAtMs: number,
): StateMessage {
  const properties = decodeHeaders(headers);
  const sender = findHeader(headers, 'Mqtt-Sender');
  const { expirySec } = properties ?? {};
  return {
    topic,
    payload: Buffer.from(data),
    qos: readQos(findHeader(headers, 'Mqtt-Qos')),
    properties,
    expiresAtMs: expirySec === undefined ? undefined : storedAtMs + expirySec * 1_000,
    sender: sender === '' ? undefined : percentDecode(sender),
  };
}

/** A service that says nothing of it wants its message delivered. */
function readQos(value: string): 0 | 1 | 2 {
  return value === '0' ? 0 : value === '2' ? 2 : 1;
}
