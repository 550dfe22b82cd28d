import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { NatsLink } from '../connection/nats-link.js';

/** What replicas tell each other over one subject of core NATS: it reaches those who are connected, and is not kept. */
export interface FleetSubject {
  /** Tells all replicas, this one too; nobody while NATS is away. */
  tell(text: string): void;
  /** Who is told; set in the turn in which the subject is opened. */
  listener: {
    onMessage(data: Uint8Array): void;
    /** There is a new connection: what was told before may not have been heard, here or elsewhere. */
    onConnected(): void;
  };
}

export function openFleetSubject(link: NatsLink, subject: string, log: Log): FleetSubject {
  const fleet: FleetSubject = {
    listener: { onMessage() {}, onConnected() {} },
    tell(text) {
      try {
        link.connection?.publish(subject, text);
      } catch (error) {
        // The connection has just ended; on the next one all is told again.
        log.debug({ event: 'fleet_not_told', subject, reason: messageOf(error) }, 'NATS is away');
      }
    },
  };
  // Not in this turn: who opens it sets the listener first.
  queueMicrotask(() =>
    link.listen({
      connected(connection) {
        connection.subscribe(subject, {
          callback(error, { data }) {
            if (error === null) fleet.listener.onMessage(data);
          },
        });
        fleet.listener.onConnected();
      },
      disconnected() {},
    }),
  );
  return fleet;
}
