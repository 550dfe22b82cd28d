import { Aedes, type AedesPublishPacket, type PublishPacket } from 'aedes';
import { type Log, limitLog } from '../../../../log.js';
import type { FleetInterest } from '../../../forward/state/fleet-interest.js';
import { matches } from '../../protocol/topics.js';
import type { Message } from '../delivery/message.js';
import type { RetainedMessages } from './retained-messages.js';

/**
 * What is called for each message that a filter matches.
 *
 * @param delivery numbers the deliveries: the same for every filter that one message matches.
 */
export type Listener = (message: Message, delivery: number) => void;

export type SessionEngine = Awaited<ReturnType<typeof startSessionEngine>>;

/** Where a message's own form travels: aedes copies this field by reference. */
interface Carrier {
  readonly properties: { readonly message: Message; readonly delivery: number };
}

/**
 * Starts the engine: it knows who subscribes to what, with aedes, and the retained messages, and makes deliveries one after the
 * other, in the order of `deliver`. No client of aedes is ever made: its sessions lose and repeat messages in ways that the
 * specification forbids (`docs/architecture.md`), so sessions are `client-session.ts`, over aedes' subscriptions.
 */
export async function startSessionEngine(options: {
  log: Log;
  retained: RetainedMessages;
  /** Is told what clients of this replica subscribe to. */
  interest?: Pick<FleetInterest, 'announced' | 'add' | 'remove'> | undefined;
}) {
  const { log, retained, interest } = options;
  const limitedLog = limitLog(log);
  const broker = await Aedes.createBroker({
    // A delivery slot that is not given back must not hold up the others, so they are not limited.
    concurrency: 0,
    // One replica is one broker; there is nobody to tell that it lives.
    heartbeatInterval: 86_400_000,
  });
  const onError = (error: unknown): void =>
    limitedLog.error('session_engine_error', { err: error }, 'The session engine failed');
  // Without a listener a failure of the persistence would end the process.
  (broker as unknown as NodeJS.EventEmitter).on('error', onError);

  const queue: Message[] = [];
  let deliveries = 0;

  function publish(message: Message): void {
    // What aedes stores first it delivers late, so that messages would overtake each other [MQTT-4.6.0-6]; it gets
    // nothing to store.
    const { topic, payload } = message;
    const carrier = {
      cmd: 'publish',
      dup: false,
      qos: 0,
      retain: false,
      topic,
      payload,
      properties: { message, delivery: ++deliveries },
    };
    broker.publish(carrier as unknown as PublishPacket, (error) => {
      if (error) onError(error);
    });
  }

  function pass(message: Message): void {
    // A delivery can close a connection, and its will is a delivery again: that one waits for its turn.
    queue.push(message);
    if (queue.length > 1) return;
    for (let next = queue[0]; next !== undefined; next = queue[0]) {
      try {
        publish(next);
      } catch (error) {
        onError(error);
      }
      queue.shift();
    }
  }

  return {
    /**
     * @param share name and filter, when it is that of a shared subscription.
     * @returns a function that ends the subscription.
     */
    subscribe(filter: string, listener: Listener, share?: string): () => void {
      const onPacket = (packet: AedesPublishPacket, done: () => void): void => {
        const { message, delivery } = (packet as unknown as Carrier).properties;
        // [MQTT-4.7.2-1]
        if (matches(filter, message.topic)) listener(message, delivery);
        done();
      };
      broker.subscribe(filter, onPacket, () => {});
      interest?.add(filter, share);
      return () => {
        broker.unsubscribe(filter, onPacket, () => {});
        interest?.remove(filter, share);
      };
    },

    /** When other replicas know what was subscribed to; undefined: they do, or there is nothing to tell. Bounded, never rejects. */
    announced: () => interest?.announced(),

    /** See `RetainedMessages.upToDate`. */
    retainedUpToDate: () => retained.upToDate(),

    /** The retained messages that any of the filters matches [MQTT-3.3.1-6], each with the filters that do. */
    retained: (filters: readonly string[]) => retained.find(filters),

    /**
     * Gives a message to the subscribers of this replica, and keeps it when it is to be retained [MQTT-3.3.1-5].
     *
     * @param onKept called when it is kept for all replicas.
     * @returns true: it is already, or there is nothing to keep, and `onKept` is not called.
     */
    deliver(message: Message, onKept?: () => void): boolean {
      const waits = message.retain && retained.store(message, onKept) === 'waits';
      pass(message);
      return !waits;
    },

    /** Only gives it to them. */
    pass,

    close: (): Promise<void> => {
      limitedLog.close();
      return new Promise((resolve) => broker.close(() => resolve()));
    },
  };
}
