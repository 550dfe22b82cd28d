import type { FleetMessages } from '../../../forward/state/fleet-messages.js';
import type { ShareTaker } from '../../../forward/state/share-takers.js';
import type { BrokerCounters } from '../../live/counters.js';
import { isTopic, matches } from '../../protocol/topics.js';
import type { SessionStore } from '../store/session-store.js';
import type { SharedSubscriptions } from '../subscriptions/shared-subscriptions.js';
import type { SessionEngine } from '../subscriptions/subscription-matcher.js';
import type { Message } from './message.js';

/**
 * Gives a message that a client published to all who want it: the subscribers of this replica, those of others, and who
 * subscribes later, when it is to be retained.
 *
 * @param onKept called when it is kept wherever it has to be.
 * @returns true: it is already, and `onKept` is not called.
 */
export type Deliver = (message: Message, onKept?: () => void) => boolean;

/**
 * A shared subscription takes a message on one replica: that of the publisher where it has a member that is connected, else one
 * of the others that have members, in turn.
 *
 * @param fleet undefined: messages stay on this replica.
 */
export function createDeliveries(parts: {
  engine: SessionEngine;
  shares: SharedSubscriptions;
  fleet: FleetMessages | undefined;
  /** Knows what sessions subscribe to, also those that are away. */
  sessions: Pick<SessionStore, 'wants'>;
  counters: BrokerCounters;
  /** NATS did not take a message for the other replicas. */
  onNotPassed(topic: string, reason: string): void;
}): Deliver {
  const { engine, shares, fleet, sessions, counters } = parts;
  let turn = 0;
  if (fleet === undefined) return (message, onKept) => engine.deliver(message, onKept);

  fleet.hasShare = shares.has;
  fleet.hasConnected = shares.hasConnected;
  fleet.deliver = (message, { isOwn, shares: here, isAgain }) => {
    // Services may write to the stream, too. Nobody can subscribe to a topic with $, and the session engine takes some for its own.
    const { topic } = message;
    if (!isTopic(topic) || topic.startsWith('$')) return;
    engine.pass({
      ...message,
      kept: 'sequence' in message ? message : undefined,
      reaches: isAgain ? 'shares' : isOwn ? 'sessions' : undefined,
      takesShare: (share) => here.has(share),
    });
  };

  /** Shared subscriptions that take the message elsewhere. */
  function findTakers({ topic }: Message, theirs: ReadonlyMap<string, readonly string[]>): ShareTaker[] {
    const takers: ShareTaker[] = [];
    for (const [share, replicas] of theirs) {
      if (!matches(share.slice(share.indexOf('/') + 1), topic) || shares.hasConnected(share)) continue;
      turn += 1;
      takers.push([share, replicas[turn % replicas.length] as string]);
    }
    return takers;
  }

  return (message, onKept) => {
    const { interest, problem, started } = fleet;
    if (!started || problem !== undefined) return engine.deliver(message, onKept);
    const takers = interest.shares.size === 0 ? [] : findTakers(message, interest.shares);
    const elsewhere = new Set(takers.map(([share]) => share));
    // Counts what is not done, and this call as one, so that none of them is the last before it ends.
    let open = 3;
    const settle = () => {
      open -= 1;
      if (open === 0) onKept?.();
    };
    const takesShare = elsewhere.size === 0 ? undefined : (share: string) => !elsewhere.has(share);
    const { topic, qos } = message;
    const passes = takers.length > 0 || interest.isWanted(topic) || (qos > 0 && sessions.wants(topic));
    // What is stored sessions take from the stream, in its order.
    const reaches = passes && qos > 0 ? 'others' : undefined;
    const isPlain = takesShare === undefined && reaches === undefined;
    if (engine.deliver(isPlain ? message : { ...message, takesShare, reaches }, settle)) open -= 1;
    if (passes) {
      fleet.pass(message, takers, (refusal) => {
        if (refusal !== undefined) {
          counters.deliveriesNotPassed += 1;
          parts.onNotPassed(topic, refusal);
          if (reaches !== undefined) engine.pass({ ...message, reaches: 'sessions' });
        }
        settle();
      });
    } else {
      open -= 1;
    }
    open -= 1;
    return open === 0;
  };
}
