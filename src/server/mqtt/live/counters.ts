import { closeReasons, messageRefusals } from '../protocol/close-reason.js';
import { openLatencyHistogram } from './latency-histogram.js';
import { limitNames } from './limit-names.js';

/** Messages and bytes of their payloads, by QoS. */
export interface Traffic {
  readonly messages: Float64Array;
  readonly bytes: Float64Array;
}

export type BrokerCounters = ReturnType<typeof newBrokerCounters>;

/** What the broker has done since the start of the process. */
export function newBrokerCounters() {
  return {
    /** Sockets accepted. */
    opened: 0,
    /** CONNECTs answered with CONNACK 0. */
    accepted: 0,
    /** Connections ended before a CONNECT was accepted, by reason; also counted in `closed`. */
    refused: zeroes(keysOf(closeReasons)),
    /** Connections ended, by reason. */
    closed: zeroes(keysOf(closeReasons)),
    /** PUBLISH packets from clients. */
    received: newTraffic(),
    /** PUBLISH packets to clients, sent again after a reconnect included. */
    sent: newTraffic(),
    /**
     * Messages of QoS 1 and 2, from the arrival of PUBLISH until they are stored. Times are those of the turn of the
     * event loop; wills are left out.
     */
    ackLatency: openLatencyHistogram(),
    /** Messages to clients left out because too many waited. */
    deliveriesDropped: 0,
    /** Messages to clients left out because their time was over. */
    deliveriesExpired: 0,
    /** Messages to clients left out because their packets are larger than the client takes. */
    deliveriesTooLarge: 0,
    /** Messages to clients that they answered with a failure. */
    deliveriesRefused: 0,
    /** Messages for clients of other replicas that NATS did not take. */
    deliveriesNotPassed: 0,
    /** Wills not forwarded because too many waited for NATS. */
    willsDropped: 0,
    /** Messages of clients that were told so, if they asked to be, and whose connection went on, by reason. */
    publishesRefused: zeroes(messageRefusals),
    /** Attempts to store a session that failed; each is repeated. */
    sessionWritesFailed: 0,
    /** Messages outside the policy of their device. */
    publishDenied: 0,
    /** Filters refused. */
    subscribeDenied: 0,
    /** How often each bound was reached. A connection that is not read, or waits, counts once until it goes on. */
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
