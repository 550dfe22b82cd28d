import type { DeadLetters } from '../../forward/dead-letters.js';
import { encodeProperties } from '../../forward/mqtt-headers.js';
import { encodeHeaders } from '../../forward/subject.js';
import { type CloseReason, closeReasons } from '../protocol/close-reason.js';
import type { Will } from '../protocol/codec.js';
import type { QoS } from '../protocol/packet-type.js';
import { clientOfKey } from '../sessions/store/session-key.js';
import { addLines } from './routing.js';

/** Refusals that pass: the message may come again. */
const passing: ReadonlySet<CloseReason> = new Set(['too-many-exchanges', 'too-many-exchanges-in-all']);

/** The client that sent them. */
interface Sender {
  readonly key: string;
  readonly device: { readonly id: string };
}

/** The messages of one connection that are not stored and never will be: they go to DEAD_LETTER_SUBJECT. */
export class RefusedMessages {
  private readonly deadLetters: DeadLetters;
  private readonly client: Sender;
  private readonly protocol: string;

  /** @param protocol the version of MQTT, as people name it. */
  constructor(deadLetters: DeadLetters, client: Sender, protocol: string) {
    this.deadLetters = deadLetters;
    this.client = client;
    this.protocol = protocol;
  }

  keep(
    { headers, payload, qos }: { headers: Uint8Array; payload: Buffer; qos: QoS },
    reason: CloseReason,
    detail: string,
  ): void {
    const { client, protocol } = this;
    const sender = { device: client.device.id, client: clientOfKey(client.key), protocol };
    this.deadLetters.keep({ headers, payload, qos, ...sender, reason, detail });
  }

  /** The same of a message that has no route. */
  keepUnrouted(message: Omit<Will, 'delaySec'>, reason: CloseReason): void {
    if (passing.has(reason)) return;
    const { topic, payload, qos, retain, properties } = message;
    const lines = properties === undefined ? '' : encodeProperties(properties, { ttl: false });
    const headers = addLines(encodeHeaders(topic, retain), Buffer.from(lines));
    this.keep({ headers, payload, qos }, reason, closeReasons[reason].why);
  }
}
