import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { NatsConnection } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';

export type FleetTelling = ReturnType<typeof openFleetTelling>;

/** Of connections, of subscriptions, of replicas that are there, of events. */
export type FleetSubject =
  | 'svc-mqtt.taken'
  | 'svc-mqtt.interest'
  | 'svc-mqtt.fleet.here'
  | 'svc-mqtt.fleet.event';

export interface FleetListener {
  onMessage(data: Uint8Array): void;
  /** There is a new connection: what was told before may not have been heard, here or elsewhere. */
  onConnected?(): void;
  /** NATS does not let it be heard. */
  onDenied?(reason: string): void;
}

/** What replicas tell each other over core NATS: it reaches those who are connected, and is not kept. */
export function openFleetTelling(link: NatsLink, log: Log) {
  /** With what ends the subscription of each. */
  const heard = new Map<object, { subject: FleetSubject; listener: FleetListener; end(): void }>();

  function subscribe(connection: NatsConnection, subject: FleetSubject, listener: FleetListener): () => void {
    const subscription = connection.subscribe(subject, {
      callback(error, { data }) {
        if (error === null) listener.onMessage(data);
        else listener.onDenied?.(messageOf(error));
      },
    });
    listener.onConnected?.();
    return () => {
      if (!connection.isClosed()) subscription.unsubscribe();
    };
  }

  link.listen({
    connected(connection) {
      for (const each of heard.values()) each.end = subscribe(connection, each.subject, each.listener);
    },
    disconnected() {},
  });

  return {
    /** NATS answers. */
    get open(): boolean {
      return link.open;
    },
    /** Tells all replicas, this one too. @returns false: nobody, since NATS is away or takes no message of this size. */
    tell(subject: FleetSubject, text: string): boolean {
      const { connection } = link;
      try {
        connection?.publish(subject, text);
        return connection !== undefined;
      } catch (error) {
        // The connection has just ended, and on the next one all is told again; or it is too much.
        log.debug({ event: 'fleet_not_told', subject, reason: messageOf(error) }, 'The others are not told');
        return false;
      }
    },
    /** Resolves when NATS has what was told and knows who hears here; rejects when the connection ends before. */
    async reached(): Promise<void> {
      await link.connection?.flush();
    },
    /** Hears what is told, on every connection. @returns a function that ends it. */
    hear(subject: FleetSubject, listener: FleetListener): () => void {
      const { connection } = link;
      const key = {};
      const end = connection === undefined ? () => {} : subscribe(connection, subject, listener);
      heard.set(key, { subject, listener, end });
      return () => {
        heard.get(key)?.end();
        heard.delete(key);
      };
    },
  };
}

/** What a replica said; undefined: it is no JSON. */
export function parseTold(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.length).toString('utf8'));
  } catch {
    return undefined;
  }
}
