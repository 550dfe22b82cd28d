import type { KeptMessage } from '../../../forward/state/kept-messages.js';
import type { MessageProperties } from '../../protocol/codec.js';
import type { QoS } from '../../protocol/packet-type.js';

/** A message for subscribers. */
export interface Message {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: QoS;
  /** As its publisher said. */
  readonly retain: boolean;
  readonly properties?: MessageProperties | undefined;
  /** `Date.now()` from which on it is not delivered; undefined: it does not expire. */
  readonly expiresAtMs?: number | undefined;
  /** Key of the client that published it, for No Local; undefined: none did. */
  readonly sender?: string | undefined;
  /** The device whose sessions have it from the stream, escaped as in a subject; undefined: it is in none. */
  readonly storedFor?: string | undefined;
  /**
   * Those that it is for; undefined: all. Sessions are those that read the stream of messages between devices, shares only shared
   * subscriptions.
   */
  readonly reaches?: 'sessions' | 'others' | 'shares' | undefined;
  /** As that stream has it: sessions take it in its order. */
  readonly kept?: KeptMessage | undefined;
  /** Whether a shared subscription, `<name>/<filter>`, takes it on this replica; undefined: each does. */
  readonly takesShare?: ((share: string) => boolean) | undefined;
}

/** `Date.now()` from which on a message that has just come is not delivered (MQTT 5.0 §3.3.2.3.3). */
export function expiryOf(properties: MessageProperties | undefined): number | undefined {
  const expirySec = properties?.expirySec;
  return expirySec === undefined ? undefined : Date.now() + expirySec * 1_000;
}

export function isExpired({ expiresAtMs }: Message): boolean {
  return expiresAtMs !== undefined && expiresAtMs <= Date.now();
}

/** The message as it is sent now: its expiry is what is left of it [MQTT 5.0 MQTT-3.3.2-6]. */
export function countDown<M extends Message>(message: M): M {
  const { expiresAtMs, properties } = message;
  if (expiresAtMs === undefined) return message;
  // What was begun before a reconnect is ended also when its time is over.
  const expirySec = Math.max(0, Math.ceil((expiresAtMs - Date.now()) / 1_000));
  return { ...message, properties: { ...properties, expirySec } };
}

/** What a User Property takes in memory beside its text, about. */
const userPropertyBytes = 64;

/** What topic, payload and properties take, about. */
export function bytesOf({
  topic,
  payload,
  properties,
}: Pick<Message, 'topic' | 'payload' | 'properties'>): number {
  let bytes = topic.length + payload.length;
  if (properties === undefined) return bytes;
  const { contentType, responseTopic, correlationData, userProperties } = properties;
  bytes += (contentType?.length ?? 0) + (responseTopic?.length ?? 0) + (correlationData?.length ?? 0);
  for (const [name, value] of userProperties ?? []) bytes += userPropertyBytes + name.length + value.length;
  return bytes;
}
