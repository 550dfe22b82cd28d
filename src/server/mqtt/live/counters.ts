import {
  type CloseReason,
  closeReasons,
  type MessageRefusal,
  messageRefusals,
} from '../protocol/close-reason.js';
import { type LatencyHistogram, openLatencyHistogram } from './latency-histogram.js';
import { type LimitName, limitNames } from './limit-names.js';

/** Messages and bytes of their payloads, by QoS. */
export interface Traffic {
  readonly messages: Float64Array;
  readonly bytes: Float64Array;
}

/** What the broker has done since the start of the process. */
export interface BrokerCounters {
  /** Sockets accepted. */
  opened: number;
  /** CONNECTs answered with CONNACK 0. */
  accepted: number;
  /** Connections ended before a CONNECT was accepted, by reason; also counted in `closed`. */
  readonly refused: Record<CloseReason, number>;
  /** Connections ended, by reason. */
  readonly closed: Record<CloseReason, number>;
  /** PUBLISH packets from clients. */
  readonly received: Traffic;
  /** PUBLISH packets to clients, sent again after a reconnect included. */
  readonly sent: Traffic;
  /**
   * Messages of QoS 1 and 2, from the arrival of PUBLISH until they are stored. Times are those of the turn of the
   * event loop; wills are left out.
   */
  readonly ackLatency: LatencyHistogram;
  /** Messages to clients left out because too many waited. */
  deliveriesDropped: number;
  /** Messages to clients left out because their time was over. */
  deliveriesExpired: number;
  /** Messages to clients left out because their packets are larger than the client takes. */
  deliveriesTooLarge: number;
  /** Messages to clients that they answered with a failure. */
  deliveriesRefused: number;
  /** Messages for clients of other replicas that NATS did not take. */
  deliveriesNotPassed: number;
  /** Wills not forwarded because too many waited for NATS. */
  willsDropped: number;
  /** Messages of clients that were told so, if they asked to be, and whose connection went on, by reason. */
  readonly publishesRefused: Record<MessageRefusal, number>;
  /** Attempts to store a session that failed; each is repeated. */
  sessionWritesFailed: number;
  /** Messages outside the policy of their device. */
  publishDenied: number;
  /** Filters refused. */
  subscribeDenied: number;
  /** How often each bound was reached. A connection that is not read, or waits, counts once until it goes on. */
  readonly limits: Record<LimitName, number>;
}

export function newBrokerCounters(): BrokerCounters {
  return {
    opened: 0,
    accepted: 0,
    refused: zeroes(keysOf(closeReasons)),
    closed: zeroes(keysOf(closeReasons)),
    received: newTraffic(),
    sent: newTraffic(),
    ackLatency: openLatencyHistogram(),
    deliveriesDropped: 0,
    deliveriesExpired: 0,
    deliveriesTooLarge: 0,
    deliveriesRefused: 0,
    deliveriesNotPassed: 0,
    willsDropped: 0,
    publishesRefused: zeroes(messageRefusals),
    sessionWritesFailed: 0,
    publishDenied: 0,
    subscribeDenied: 0,
    limits: zeroes(keysOf(limitNames)),
  };
}

/** A count of 0 for each name of a closed list. */
function zeroes<K extends string>(names: readonly K[]): Record<K, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>;
}

function keysOf<K extends string>(list: Readonly<Record<K, unknown>>): K[] {
  return Object.keys(list) as K[];
}

function newTraffic(): Traffic {
  return { messages: new Float64Array(3), bytes: new Float64Array(3) };
}

/** Counts one message. */
export function countMessage(traffic: Traffic, qos: number, bytes: number): void {
  traffic.messages[qos] = (traffic.messages[qos] as number) + 1;
  traffic.bytes[qos] = (traffic.bytes[qos] as number) + bytes;
}
