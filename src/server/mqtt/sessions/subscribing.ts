import type { Policy } from '../admission/authorize.js';
import type { CloseReason } from '../protocol/close-reason.js';
import { encodeAcknowledge, encodeSuback, refusedReturnCode } from '../protocol/packets/acknowledge.js';
import { PacketType, type ProtocolVersion, type QoS } from '../protocol/packets/packet-type.js';
import { decodeSubscribe, decodeUnsubscribe } from '../protocol/packets/subscribe.js';
import { checkFilterSize } from '../protocol/topics.js';
import { ClientSession, type SessionServices, takesCommands } from './client-session.js';
import type { ClientState } from './client-state.js';
import type { CommandsRequest } from './commands-request.js';
import type { OutgoingConnection } from './outgoing.js';

/** A connection whose client subscribes. */
export interface Subscriber extends OutgoingConnection {
  readonly version: ProtocolVersion;
  readonly state: ClientState | undefined;
  readonly policy: Policy | undefined;
  /** What a SUBSCRIBE waits for. */
  readonly commands: CommandsRequest;
  /** Adds a packet to what leaves at the end of this turn. */
  reply(packet: Buffer): void;
  onSubscribeDenied(filter: string, why: string): void;
}

/**
 * Whether a SUBSCRIBE can be answered now. SUBACK says that subscriptions are there [3.1.1 §3.9], so one that takes commands
 * waits until NATS has answered; the subscriber's request then calls.
 */
export function isSubscribeReady(subscriber: Subscriber, packet: Buffer, bodyOffset: number): boolean {
  const { commands, state, policy } = subscriber;
  if (commands.isMade) return commands.isAnswered;
  if (state === undefined) return true;
  const subscribe = decodeSubscribe(packet, bodyOffset, subscriber.version);
  if (typeof subscribe === 'string') return true;
  const { id } = state.device;
  const takes = subscribe.requests.some(
    ({ filter }) => takesCommands(filter, id) && policy?.maySubscribe(filter) === true,
  );
  if (!takes) return true;
  commands.make(id);
  return commands.isAnswered;
}

/**
 * Takes a SUBSCRIBE that is ready and answers SUBACK with one return code for each filter, in their order [MQTT-3.8.4-5]
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
    const problem = grant(subscriber, services, filter, qos);
    if (problem === undefined) {
      granted.push(filter);
      return qos;
    }
    subscriber.onSubscribeDenied(filter, problem);
    return refusedReturnCode(subscriber.version, qos);
  });
  subscriber.commands.end();
  subscriber.reply(encodeSuback(subscribe.packetId, codes));
  subscriber.state?.session?.sendRetained([...new Set(granted)]);
  return granted.length;
}

/** @returns why it is not granted. */
function grant(
  subscriber: Subscriber,
  services: SessionServices,
  filter: string,
  qos: QoS,
): string | undefined {
  const { state, policy, commands } = subscriber;
  const sizeProblem = checkFilterSize(filter, services.topicLimits);
  if (sizeProblem !== undefined) {
    services.counters.limits[sizeProblem === 'topic-too-long' ? 'topic-bytes' : 'topic-levels'] += 1;
    return `it is over ${sizeProblem === 'topic-too-long' ? 'MAX_TOPIC_BYTES, or 1,024 bytes' : 'MAX_TOPIC_LEVELS'}`;
  }
  if (state === undefined || policy?.maySubscribe(filter) !== true) return 'the policy does not allow it';
  if (commands.problem !== undefined && takesCommands(filter, state.device.id)) return commands.problem;
  const session = state.session ?? new ClientSession(services, state.device.id);
  if (!session.subscribe(filter, qos))
    return "MAX_SUBSCRIPTIONS_PER_CLIENT, or the device's share of MAX_SUBSCRIPTION_BYTES_IN_ALL, is reached";
  if (state.session === undefined) session.attach(subscriber);
  state.session = session;
  return undefined;
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
