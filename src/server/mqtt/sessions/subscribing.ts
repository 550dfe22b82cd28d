import type { Policy } from '../admission/authorize.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { SubscriptionRequest } from '../protocol/codec.js';
import { checkFilterSize } from '../protocol/topics.js';
import type { Client } from './client.js';
import { ClientSession, type SessionServices, takesCommands } from './client-session.js';
import type { CommandsRequest } from './commands-request.js';
import type { OutgoingConnection } from './outgoing.js';

/** A connection whose client subscribes. */
export interface Subscriber extends OutgoingConnection {
  readonly client: Client | undefined;
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
  const { commands, client, policy, codec } = subscriber;
  if (commands.isMade) return commands.isAnswered;
  if (client === undefined) return true;
  const subscribe = codec.decodeSubscribe(packet, bodyOffset);
  if (typeof subscribe === 'string') return true;
  const { id } = client.device;
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
  const subscribe = subscriber.codec.decodeSubscribe(packet, bodyOffset);
  if (typeof subscribe === 'string') return subscribe;
  const granted: string[] = [];
  const codes = subscribe.requests.map((request) => {
    const { filter, qos } = request;
    const problem = grant(subscriber, services, request);
    if (problem === undefined) {
      granted.push(filter);
      return qos;
    }
    subscriber.onSubscribeDenied(filter, problem);
    return 0x80;
  });
  subscriber.commands.end();
  subscriber.reply(subscriber.codec.encodeSuback(subscribe.packetId, codes, subscribe.requests));
  subscriber.client?.session?.sendRetained([...new Set(granted)]);
  return granted.length;
}

/** @returns why it is not granted. */
function grant(
  subscriber: Subscriber,
  services: SessionServices,
  { filter, qos }: SubscriptionRequest,
): string | undefined {
  const { client, policy, commands } = subscriber;
  const sizeProblem = checkFilterSize(filter, services.topicLimits);
  if (sizeProblem !== undefined) {
    services.counters.limits[sizeProblem === 'topic-too-long' ? 'topic-bytes' : 'topic-levels'] += 1;
    return `it is over ${sizeProblem === 'topic-too-long' ? 'MAX_TOPIC_BYTES, or 1,024 bytes' : 'MAX_TOPIC_LEVELS'}`;
  }
  if (client === undefined || policy?.maySubscribe(filter) !== true) return 'the policy does not allow it';
  if (commands.problem !== undefined && takesCommands(filter, client.device.id)) return commands.problem;
  const session = client.session ?? new ClientSession(services, client.device.id);
  if (!session.subscribe(filter, qos))
    return "MAX_SUBSCRIPTIONS_PER_CLIENT, or the device's share of MAX_SUBSCRIPTION_BYTES_IN_ALL, is reached";
  if (client.session === undefined) session.attach(subscriber);
  client.session = session;
  return undefined;
}

/** Takes an UNSUBSCRIBE. @returns why the connection must close, if it must. */
export function takeUnsubscribe(
  subscriber: Subscriber,
  packet: Buffer,
  bodyOffset: number,
): CloseReason | undefined {
  const unsubscribe = subscriber.codec.decodeUnsubscribe(packet, bodyOffset);
  if (typeof unsubscribe === 'string') return unsubscribe;
  for (const filter of unsubscribe.filters) subscriber.client?.session?.unsubscribe(filter);
  // Also when there was no such subscription [MQTT-3.10.4-5].
  subscriber.reply(
    subscriber.codec.encodeUnsuback(
      unsubscribe.packetId,
      unsubscribe.filters.map(() => 0),
    ),
  );
  return undefined;
}
