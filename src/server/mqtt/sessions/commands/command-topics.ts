import type { LimitedLog } from '../../../../log.js';
import { filtersOverlap } from '../../../../topic-template.js';
import type { Downlink } from '../../../forward/commands/downlink.js';
import type { DownlinkMessage, StoredCommand } from '../../../forward/commands/stored-command.js';
import { shortenText } from '../../../live.js';
import type { BrokerCounters } from '../../live/counters.js';
import { type FilterParts, hasMoreLevels, isTopic } from '../../protocol/topics.js';
import { expiryOf, type Message } from '../delivery/message.js';
import type { SubscriptionTerms } from '../subscriptions/subscription.js';

export type CommandTopics = ReturnType<typeof openCommandTopics>;

/** It takes commands of the device, and nothing else, for its client alone. */
export function isOwn({ filter, shareName }: FilterParts, deviceId: string): boolean {
  return shareName === undefined && filter.startsWith(`cmd/${deviceId}/`);
}

/** Commands as messages of MQTT. */
export function openCommandTopics(options: {
  readonly downlink: Pick<Downlink, 'store'>;
  readonly maxTopicLevels: number;
  deliver(message: Message): void;
  readonly counters: BrokerCounters;
  readonly log: LimitedLog;
}) {
  const { downlink, maxTopicLevels, counters, log } = options;
  let joined = 0;

  /** Why a command of this topic could be sent to no client, in words; undefined: it could. */
  function findProblem(topic: string): string | undefined {
    if (!isTopic(topic)) return 'it is no topic of MQTT';
    if (hasMoreLevels(topic, maxTopicLevels))
      return `it has more levels than MAX_TOPIC_LEVELS, ${maxTopicLevels}`;
    return undefined;
  }

  /** @returns undefined when its topic could be sent to no client; that is logged. */
  function toMessage(command: DownlinkMessage | StoredCommand): Message | undefined {
    const { topic, payload, qos, properties } = command;
    const refuse = (reason: string) => {
      log.warn('downlink_refused', { topic: shortenText(topic), reason }, 'A command is not delivered');
      return undefined;
    };
    // A subject can be such that its topic could not be sent to any client.
    const problem = findProblem(topic);
    if (problem !== undefined) {
      if (hasMoreLevels(topic, maxTopicLevels)) counters.limits['topic-levels'] += 1;
      return refuse(problem);
    }
    const expiresAtMs = 'sequence' in command ? command.expiresAtMs : expiryOf(properties);
    const storedFor = 'sequence' in command ? command.device : undefined;
    return { topic, payload, properties, qos, retain: false, expiresAtMs, storedFor };
  }

  /** Gives it to the session engine. */
  function deliver(command: DownlinkMessage | StoredCommand): void {
    const message = toMessage(command);
    if (message !== undefined) options.deliver(message);
  }

  function follow(): void {
    const { store } = downlink;
    if (store !== undefined) store.onCommand = joined > 0 ? deliver : undefined;
  }

  return {
    toMessage,
    findProblem,
    deliver,
    /**
     * A subscription of a device's client. One that is shared, or takes commands of other devices too, has them from the session
     * engine: they go there only while there is such a one.
     *
     * @returns what is to be called at its end.
     */
    join(deviceId: string, terms: SubscriptionTerms): () => void {
      if (isOwn(terms, deviceId) || !filtersOverlap(terms.filter, 'cmd/#')) return () => {};
      joined += 1;
      follow();
      return () => {
        joined -= 1;
        follow();
      };
    },
    /** Commands are stored from now on. */
    onStored: follow,
  };
}
