import type { Policy } from '../../admission/authorize.js';
import type { CloseReason } from '../../protocol/close-reason.js';
import type { SubscriptionRequest } from '../../protocol/codec.js';
import { checkFilterSize, partFilter } from '../../protocol/topics.js';
import type { Client } from '../client.js';
import { ClientSession, type SessionServices, takesCommands } from '../client-session.js';
import type { CommandsRequest } from '../commands/commands-request.js';
import type { OutgoingConnection } from '../delivery/delivery-writer.js';

/** Codes of UNSUBACK (MQTT 5.0 §3.11.3). */
const success = 0;
const noSubscriptionExisted = 0x11;

/** A connection whose client subscribes. */
export interface Subscriber extends OutgoingConnection {
  readonly client: Client | undefined;
  readonly isConnected: boolean;
  readonly policy: Policy | undefined;
  /** What a SUBSCRIBE waits for. */
  readonly commands: CommandsRequest;
  /** Adds a packet to what leaves at the end of this turn. */
  reply(packet: Buffer): void;
  readonly report: { subscribeDenied(filter: string, why: string): void };
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
  const takes = subscribe.requests.some((request) => {
    const filter = partFilter(request.filter)?.filter;
    return filter !== undefined && takesCommands(filter, id) && policy?.maySubscribe(filter) === true;
  });
  if (!takes) return true;
  commands.make(id);
  return commands.isAnswered;
}

/** Why a filter is refused: the code of SUBACK (MQTT 5.0 §3.9.3), and for people. */
interface Denial {
  readonly code: 0x80 | 0x87 | 0x8f | 0x97;
  readonly why: string;
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
  /** Filters whose retained messages are to be sent. */
  const retained = new Set<string>();
  let granted = 0;
  const codes = subscribe.requests.map((request) => {
    const { filter, qos } = request;
    const outcome = grant(subscriber, services, request, subscribe.subscriptionId);
    if (typeof outcome === 'object') {
      subscriber.report.subscribeDenied(filter, outcome.why);
      return outcome.code;
    }
    granted += 1;
    if (wantsRetained(request, outcome)) retained.add(filter);
    return qos;
  });
  subscriber.commands.end();
  const suback = subscriber.codec.encodeSuback(subscribe.packetId, codes, subscribe.requests);
  const { engine } = services;
  const known = [engine.announced(), retained.size > 0 ? engine.retainedUpToDate() : undefined];
  answerWhenKnown(subscriber, granted > 0, known, () => {
    subscriber.reply(suback);
    if (retained.size > 0) subscriber.client?.session?.sendRetained([...retained]);
  });
  return granted;
}

/**
 * Answers at once, or when what the answer says of a session that outlives its connection is stored, and what replicas have to know
 * of each other is known.
 */
function answerWhenKnown(
  subscriber: Subscriber,
  saysOfSession: boolean,
  known: readonly (Promise<void> | undefined)[],
  answer: () => void,
): void {
  const { client } = subscriber;
  const stored = saysOfSession ? client?.stored?.persist() : undefined;
  if (stored === undefined && known.every((each) => each === undefined)) {
    answer();
    return;
  }
  void Promise.all([stored ?? true, ...known]).then(([isStored]) => {
    if (isStored && subscriber.isConnected) answer();
  });
}

/** Retain Handling [MQTT 5.0 MQTT-3.3.1-9..11]; a shared subscription gets none [§4.8.2]. */
function wantsRetained(
  { filter, retainHandling }: SubscriptionRequest,
  subscription: 'new' | 'known',
): boolean {
  if (partFilter(filter)?.shareName !== undefined) return false;
  return retainHandling === 0 || (retainHandling === 1 && subscription === 'new');
}

/** @returns whether the client had the subscription before, or why it is not granted. */
function grant(
  subscriber: Subscriber,
  services: SessionServices,
  request: SubscriptionRequest,
  id: number | undefined,
): 'new' | 'known' | Denial {
  const { client, policy, commands } = subscriber;
  const name = request.filter;
  const sizeProblem = checkFilterSize(name, services.topicLimits);
  if (sizeProblem !== undefined) {
    services.counters.limits[sizeProblem === 'topic-too-long' ? 'topic-bytes' : 'topic-levels'] += 1;
    const limit = sizeProblem === 'topic-too-long' ? 'MAX_TOPIC_BYTES, or 1,024 bytes' : 'MAX_TOPIC_LEVELS';
    return { code: 0x8f, why: `it is over ${limit}` };
  }
  const parts = partFilter(name);
  if (parts === undefined) return { code: 0x8f, why: 'it is no $share/<name>/<filter>' };
  const { filter } = parts;
  if (client === undefined || policy?.maySubscribe(filter) !== true)
    return { code: 0x87, why: 'the policy does not allow it' };
  if (commands.problem !== undefined && takesCommands(filter, client.device.id))
    return { code: 0x80, why: commands.problem };
  const session = client.session ?? new ClientSession(services, client);
  const outcome = session.subscribe({ ...request, ...parts, name, id });
  if (outcome === 'full') {
    const why = "MAX_SUBSCRIPTIONS_PER_CLIENT, or the device's share of MEMORY_BUDGET_MIB, is reached";
    return { code: 0x97, why };
  }
  if (client.session === undefined) session.attach(subscriber);
  client.session = session;
  return outcome;
}

/** Takes an UNSUBSCRIBE. @returns why the connection must close, if it must. */
export function takeUnsubscribe(
  subscriber: Subscriber,
  packet: Buffer,
  bodyOffset: number,
): CloseReason | undefined {
  const { codec, client } = subscriber;
  const unsubscribe = codec.decodeUnsubscribe(packet, bodyOffset);
  if (typeof unsubscribe === 'string') return unsubscribe;
  // Answered also where there was no such subscription [MQTT-3.10.4-5].
  const codes = unsubscribe.filters.map((filter) =>
    client?.session?.unsubscribe(filter) === true ? success : noSubscriptionExisted,
  );
  const unsuback = codec.encodeUnsuback(unsubscribe.packetId, codes);
  // Also where nothing changed: another replica may have the session by now, and what was subscribed there.
  answerWhenKnown(subscriber, true, [], () => subscriber.reply(unsuback));
  return undefined;
}
