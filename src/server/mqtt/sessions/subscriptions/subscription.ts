import type { SubscriptionRequest } from '../../protocol/codec.js';
import type { QoS } from '../../protocol/packet-type.js';
import { type FilterParts, matches } from '../../protocol/topics.js';
import type { OutgoingMessage } from '../delivery/delivery-writer.js';
import type { Message } from '../delivery/message.js';

/** What a client asks for with one filter. */
export interface SubscriptionTerms extends SubscriptionRequest, FilterParts {
  /** As the client names it: with the share. */
  readonly name: string;
  readonly id: number | undefined;
}

/**
 * One copy of a message for all of the subscriptions of a client that it matches: with at most the highest granted QoS
 * [MQTT-3.3.5-1] and all identifiers [MQTT 5.0 MQTT-3.3.4-3..5].
 *
 * @param isRetained it was retained before the client subscribed, and is marked so [MQTT-3.3.1-8]. One that is delivered as it
 * comes is not [MQTT-3.3.1-9], but where a subscription wants it as published [MQTT 5.0 MQTT-3.3.1-13].
 */
export function copyFor(
  matching: readonly SubscriptionTerms[],
  message: Message,
  isRetained: boolean,
): OutgoingMessage {
  let granted: QoS = 0;
  let retain = isRetained;
  let subscriptionIds: number[] | undefined;
  for (const { qos, retainAsPublished, id } of matching) {
    if (qos > granted) granted = qos;
    if (retainAsPublished && message.retain) retain = true;
    if (id !== undefined) subscriptionIds = [...(subscriptionIds ?? []), id];
  }
  if (message.qos <= granted && message.retain === retain && subscriptionIds === undefined) return message;
  const qos = message.qos > granted ? granted : message.qos;
  return { ...message, qos, retain, subscriptionIds };
}

/**
 * What a client has published itself does not come to it by a subscription with No Local [MQTT 5.0 MQTT-3.8.3-3].
 *
 * @param clientKey as messages name their sender.
 */
export function mayHave({ noLocal }: SubscriptionTerms, { sender }: Message, clientKey: string): boolean {
  return !noLocal || sender !== clientKey;
}

/**
 * The subscriptions by which a client may have a message, but for shared ones, which choose their client themselves.
 *
 * @param holds undefined: all of them count.
 */
export function findMatching<S extends { readonly terms: SubscriptionTerms }>(
  subscriptions: Iterable<S>,
  message: Message,
  clientKey: string,
  holds?: (subscription: S) => boolean,
): SubscriptionTerms[] {
  const matching: SubscriptionTerms[] = [];
  for (const subscription of subscriptions) {
    const { terms } = subscription;
    if (terms.shareName !== undefined || holds?.(subscription) === false) continue;
    if (mayHave(terms, message, clientKey) && matches(terms.filter, message.topic)) matching.push(terms);
  }
  return matching;
}

/** What a subscription takes in memory beside its filter, about. */
const subscriptionBytes = 768;
/** What the session engine's matcher takes for a level of a filter, about; a level is often longer there than in the text. */
const levelBytes = 256;

/** What a subscription of this name takes. */
export function memoryBytesOf(name: string): number {
  return subscriptionBytes + name.split('/').length * levelBytes + name.length;
}
