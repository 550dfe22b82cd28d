import type { Policy } from './authorize.js';
import { ClientSession, type SessionServices } from './client-session.js';
import type { ClientState } from './client-state.js';
import type { CloseReason } from './close-reason.js';
import type { OutgoingConnection } from './outgoing.js';
import { encodeAcknowledge, encodeSuback, refusedReturnCode } from './packets/acknowledge.js';
import { PacketType, type ProtocolVersion, type QoS } from './packets/packet-type.js';
import { decodeSubscribe, decodeUnsubscribe } from './packets/subscribe.js';
import { checkFilterSize } from './topics.js';

/** A connection whose client subscribes. */
export interface Subscriber extends OutgoingConnection {
  readonly version: ProtocolVersion;
  readonly state: ClientState | undefined;
  readonly policy: Policy | undefined;
  /** Adds a packet to what leaves at the end of this turn. */
  reply(packet: Buffer): void;
  onSubscribeDenied(filter: string): void;
}

/**
 * Takes a SUBSCRIBE and answers SUBACK with one return code for each filter, in their order [MQTT-3.8.4-5]
 * [MQTT-3.9.3-1].
 *
 * @returns how many subscriptions were granted, or why the connection must close.
 */
export function takeSubscribe(
  subscriber: Subscriber,
  services: SessionServices,
  packet: Buffer,
  bodyOffset: number,
): number | CloseReason {
  const subscribe = decodeSubscribe(packet, bodyOffset, subscriber.version);
  if (typeof subscribe === 'string') return subscribe;
  const granted: string[] = [];
  const codes = subscribe.requests.map(({ filter, qos }) => {
    if (grant(subscriber, services, filter, qos)) {
      granted.push(filter);
      return qos;
    }
    subscriber.onSubscribeDenied(filter);
    return refusedReturnCode(subscriber.version, qos);
  });
  subscriber.reply(encodeSuback(subscribe.packetId, codes));
  subscriber.state?.session?.sendRetained([...new Set(granted)]);
  return granted.length;
}

function grant(subscriber: Subscriber, services: SessionServices, filter: string, qos: QoS): boolean {
  const { state, policy } = subscriber;
  const sizeProblem = checkFilterSize(filter, services.topicLimits);
  if (sizeProblem !== undefined) {
    services.counters.limits[sizeProblem === 'topic-too-long' ? 'topic-bytes' : 'topic-levels'] += 1;
    return false;
  }
  if (state === undefined || policy?.maySubscribe(filter) !== true) return false;
  const session = state.session ?? new ClientSession(services, state.device.id);
  if (!session.subscribe(filter, qos)) return false;
  if (state.session === undefined) session.attach(subscriber);
  state.session = session;
  return true;
}

/** Takes an UNSUBSCRIBE. @returns why the connection must close, if it must. */
export function takeUnsubscribe(
  subscriber: Subscriber,
  packet: Buffer,
  bodyOffset: number,
): CloseReason | undefined {
  const unsubscribe = decodeUnsubscribe(packet, bodyOffset);
  if (typeof unsubscribe === 'string') return unsubscribe;
  for (const { filter } of unsubscribe.requests) subscriber.state?.session?.unsubscribe(filter);
  // Also when there was no such subscription [MQTT-3.10.4-5].
  subscriber.reply(encodeAcknowledge(PacketType.UNSUBACK, unsubscribe.packetId));
  return undefined;
}
