import { Aedes, type AedesPublishPacket, type PublishPacket } from 'aedes';
import type { Log } from '../../log.js';
import type { QoS } from './packets/packet-type.js';
import { matches } from './topics.js';

/** A message for subscribers. */
export interface Message {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: QoS;
  readonly retain: boolean;
}

/** What is called for each message that a filter matches; the same object for every filter that does. */
export type Listener = (message: Message) => void;

/**
 * Knows who subscribes to what, and the retained messages, with aedes. Deliveries are made in the order of `deliver`,
 * within the call.
 */
export interface SessionEngine {
  /** @returns a function that ends the subscription. */
  subscribe(filter: string, listener: Listener): () => void;
  /** The retained messages that a filter matches [MQTT-3.3.1-6]. */
  retained(filter: string): Promise<Message[]>;
  /** Gives a message to the subscribers of this replica, and keeps it when it is to be retained [MQTT-3.3.1-5]. */
  deliver(message: Message): void;
  close(): Promise<void>;
}

/** Where a message's own form travels: aedes copies this field by reference. */
interface Carrier {
  readonly properties: { readonly message: Message };
}

/** The part of aedes' persistence in use, which its types leave out. */
interface RetainedStore {
  storeRetained(packet: object): Promise<void>;
  createRetainedStream(pattern: string): AsyncIterable<Message>;
}

/**
 * Starts the engine. No client of aedes is ever made: its sessions lose and repeat messages in ways that the
 * specification forbids (`docs/architecture.md`), so sessions are `client-session.ts`, over aedes' subscriptions.
 */
export async function startSessionEngine(log: Log): Promise<SessionEngine> {
  const broker = await Aedes.createBroker({
    // A delivery slot that is not given back must not hold up the others, so they are not limited.
    concurrency: 0,
    // One replica is one broker; there is nobody to tell that it lives.
    heartbeatInterval: 86_400_000,
  });
  const store = (broker as unknown as { persistence: RetainedStore }).persistence;
  const onError = (error: unknown): void =>
    log.error({ event: 'session_engine_error', err: error }, 'The session engine failed');
  // Without a listener a failure of the persistence would end the process.
  (broker as unknown as NodeJS.EventEmitter).on('error', onError);

  return {
    subscribe(filter, listener) {
      const onPacket = (packet: AedesPublishPacket, done: () => void): void => {
        const { message } = (packet as unknown as Carrier).properties;
        // [MQTT-4.7.2-1]
        if (matches(filter, message.topic)) listener(message);
        done();
      };
      broker.subscribe(filter, onPacket, () => {});
      return () => broker.unsubscribe(filter, onPacket, () => {});
    },

    async retained(filter) {
      const found: Message[] = [];
      // aedes matches no empty levels here [MQTT-4.7.1-3], so it is asked for all and they are matched again.
      for await (const { topic, payload, qos } of store.createRetainedStream('#')) {
        if (matches(filter, topic)) found.push({ topic, payload, qos, retain: true });
      }
      return found;
    },

    deliver(message) {
      const { topic, payload, qos } = message;
      const packet = { cmd: 'publish' as const, dup: false, topic, payload };
      if (message.retain) store.storeRetained({ ...packet, qos, retain: true }).catch(onError);
      // aedes lets a QoS 0 message overtake others, so every message is one to it [MQTT-4.6.0-6].
      const carrier = { ...packet, qos: 0 as const, retain: false, properties: { message: live(message) } };
      broker.publish(carrier as PublishPacket, (error) => {
        if (error) onError(error);
      });
    },

    close: () => new Promise((resolve) => broker.close(() => resolve())),
  };
}

/** A message that is delivered as it comes is not marked as retained [MQTT-3.3.1-9]. */
function live(message: Message): Message {
  return message.retain ? { ...message, retain: false } : message;
}
