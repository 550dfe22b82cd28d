import { type CloseReason, closeReasons } from './close-reason.js';

/** What the broker has done since the start of the process. */
export interface BrokerCounters {
  /** Sockets accepted. */
  opened: number;
  /** CONNECTs answered with CONNACK 0. */
  accepted: number;
  /** Connections ended, by reason. */
  readonly closed: Record<CloseReason, number>;
  /** PUBLISH packets received, by QoS. */
  readonly published: [number, number, number];
  publishedBytes: number;
  /** Messages to clients left out because too many waited. */
  deliveriesDropped: number;
  /** Wills not forwarded because too many waited for NATS. */
  willsDropped: number;
  /** Filters answered 0x80. */
  subscribeDenied: number;
}

export function newBrokerCounters(): BrokerCounters {
  const closed = Object.fromEntries(Object.keys(closeReasons).map((reason) => [reason, 0]));
  return {
    opened: 0,
    accepted: 0,
    closed: closed as Record<CloseReason, number>,
    published: [0, 0, 0],
    publishedBytes: 0,
    deliveriesDropped: 0,
    willsDropped: 0,
    subscribeDenied: 0,
  };
}
