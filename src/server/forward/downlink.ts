import type { NatsConnection, Subscription } from 'nats';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import type { NatsLink } from './nats-connection.js';
import { escapeToken, tokensToTopic } from './subject.js';

/** A message for a device. */
export interface DownlinkMessage {
  /** `cmd/<device id>/…` */
  readonly topic: string;
  readonly payload: Buffer;
}

/**
 * Messages from NATS to devices: `cmd.<device id>.>` becomes `cmd/<device id>/…`. There is a NATS subscription for
 * each device that has subscribers on this replica, and for no other.
 */
export interface Downlink {
  /** Who takes the messages; set before the first `acquire`. */
  deliver: (message: DownlinkMessage) => void;
  /** A client of this device has subscribed; to be matched by one `release`. */
  acquire(deviceId: string): void;
  release(deviceId: string): void;
}

export function openDownlink(link: NatsLink, log: Log): Downlink {
  const clients = new Map<string, number>();
  const subscriptions = new Map<string, Subscription>();

  function subscribe(connection: NatsConnection, deviceId: string): void {
    try {
      const subscription = connection.subscribe(`cmd.${escapeToken(deviceId)}.>`, {
        callback: (error, message) => {
          if (error !== null) {
            log.warn(
              { event: 'downlink_refused', device: deviceId, reason: messageOf(error) },
              'NATS refused a subscription',
            );
            return;
          }
          downlink.deliver({ topic: topicOf(message.subject), payload: Buffer.from(message.data) });
        },
      });
      subscriptions.set(deviceId, subscription);
    } catch (error) {
      // The connection has just ended; all subscriptions are made again on the next one.
      log.debug({ event: 'downlink_waits', device: deviceId, reason: messageOf(error) }, 'NATS is away');
    }
  }

  link.listen({
    connected(connection) {
      for (const deviceId of clients.keys()) subscribe(connection, deviceId);
    },
    disconnected() {
      subscriptions.clear();
    },
  });

  const downlink: Downlink = {
    deliver: () => {},
    acquire(deviceId) {
      const count = (clients.get(deviceId) ?? 0) + 1;
      clients.set(deviceId, count);
      if (count === 1 && link.connection !== undefined) subscribe(link.connection, deviceId);
    },
    release(deviceId) {
      const count = (clients.get(deviceId) ?? 0) - 1;
      if (count > 0) {
        clients.set(deviceId, count);
        return;
      }
      clients.delete(deviceId);
      subscriptions.get(deviceId)?.unsubscribe();
      subscriptions.delete(deviceId);
    },
  };
  return downlink;
}

/** The topic of a subject; what is not an escape that `escapeToken` makes stays as it is. */
function topicOf(subject: string): string {
  try {
    return tokensToTopic(subject);
  } catch {
    return subject.replaceAll('.', '/');
  }
}
