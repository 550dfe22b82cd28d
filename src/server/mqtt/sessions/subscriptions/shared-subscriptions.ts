import type { BrokerCounters } from '../../live/counters.js';
import { isExpired, type Message } from '../delivery/message.js';
import type { SessionEngine } from './subscription-matcher.js';

/** A client's part in a shared subscription. */
export interface ShareMember {
  /** Its client is connected. */
  readonly isConnected: boolean;
  /** A message that it is given leaves at once. */
  readonly isReady: boolean;
  /** It can be given the message now. */
  hasRoom(message: Message): boolean;
  /** @param handBack to be called when its session ends before it was sent the message, or before it acknowledged QoS 1. */
  take(message: Message, handBack: () => void): void;
}

export type SharedSubscriptions = ReturnType<typeof createSharedSubscriptions>;

interface Share {
  readonly members: ShareMember[];
  /** Whose turn it is. */
  turn: number;
  readonly end: () => void;
}

/**
 * The shared subscriptions of this replica (MQTT 5.0 §4.8.2): each message that one takes here goes to one of the members,
 * in turn. Which replica takes it is decided where it was published (`deliveries.ts`).
 */
export function createSharedSubscriptions(engine: SessionEngine, counters: BrokerCounters) {
  const shares = new Map<string, Share>();

  function deliver(share: Share, message: Message): void {
    const { members } = share;
    const index =
      findInTurn(share, (member) => member.isReady && member.hasRoom(message)) ??
      findInTurn(share, (member) => member.isConnected && member.hasRoom(message)) ??
      findInTurn(share, (member) => member.hasRoom(message));
    const member = members[index ?? -1];
    if (index !== undefined && member !== undefined) {
      share.turn = index + 1;
      member.take(message, () => {
        if (!isExpired(message)) deliver(share, message);
      });
    } else if (message.qos > 0 && members.length > 0) {
      // None is closed for it: what waits for it would fall to the others, who have no room either.
      counters.deliveriesDropped += 1;
      counters.limits['shared-subscription'] += 1;
    }
  }

  function open(key: string, filter: string): Share {
    const onMessage = (message: Message) => {
      if (message.reaches !== 'sessions' && message.takesShare?.(key) !== false) deliver(share, message);
    };
    const share: Share = { members: [], turn: 0, end: engine.subscribe(filter, onMessage, key) };
    shares.set(key, share);
    return share;
  }

  return {
    /** It has members here, connected or not. */
    has: (share: string): boolean => shares.has(share),
    /** A member of the subscription, `<name>/<filter>`, is connected here. */
    hasConnected: (share: string): boolean =>
      shares.get(share)?.members.some(({ isConnected }) => isConnected) === true,
    /**
     * Adds a member to the subscription of this share name and filter, which is there as long as it has one.
     *
     * @returns a function that ends its part in it.
     */
    join(name: string, filter: string, member: ShareMember): () => void {
      // No share name has a slash.
      const key = `${name}/${filter}`;
      const share = shares.get(key) ?? open(key, filter);
      const { members, end } = share;
      members.push(member);
      return () => {
        members.splice(members.indexOf(member), 1);
        if (members.length > 0) return;
        shares.delete(key);
        end();
      };
    },
  };
}

/** The index of the first member, from the one whose turn it is, that fits. */
function findInTurn({ members, turn }: Share, fits: (member: ShareMember) => boolean): number | undefined {
  for (let step = 0; step < members.length; step += 1) {
    const index = (turn + step) % members.length;
    if (fits(members[index] as ShareMember)) return index;
  }
  return undefined;
}
