import type { Static } from 'typebox';
import type * as schema from './connection-schema.js';
import type { sortFields } from './constants.js';

export type SortField = (typeof sortFields)[number];

/** Which connections are asked for, and in which order. */
export interface ConnectionRequest {
  /** Words that must all occur in device id, type, client id, address, transport or protocol, whatever their case. */
  readonly text: string | undefined;
  readonly device: string | undefined;
  readonly type: string | undefined;
  readonly sort: SortField;
  readonly descending: boolean;
  /** How many of the sorted connections are left out. */
  readonly offset: number;
  readonly limit: number;
}

/** One connection that was accepted, as the list shows it. Times are wall-clock milliseconds. */
export interface ConnectionSummary {
  readonly id: string;
  readonly deviceId: string;
  readonly deviceType: string;
  readonly clientId: string;
  /** Address and port of the peer. */
  readonly address: string;
  readonly transport: string;
  readonly protocol: string;
  /** PUBLISH packets received, by QoS. */
  readonly received: readonly [number, number, number];
  /** PUBLISH packets received a second, over the last seconds; undefined until it was watched for a second. */
  readonly messagesPerSecond: number | undefined;
  /** Bytes read from and written to the socket. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Messages that wait for their store confirmation. */
  readonly inFlight: number;
  readonly subscriptions: number;
  readonly connectedAtMs: number;
  readonly lastMessageAtMs: number | undefined;
}

/** What connections of several replicas are sorted by; null: infinitely much. */
export type SortKey = string | number | null;

/** A connection as replicas compare it: what it is sorted by, when it was opened (wall-clock milliseconds), and its id. */
export type ConnectionKey = readonly [key: SortKey, openedAtMs: number, id: string];

/** Which of them a replica is asked for. */
export interface KeysRequest extends ConnectionRequest {
  /** Instead of those of the page: about so many, evenly spread over all. See `sampleStep`. */
  readonly samples?: number | undefined;
}

/** Of `matching` connections every so manieth is one of `samples`, the first of these being the last of so many. */
export function sampleStep(matching: number, samples: number): number {
  return Math.max(1, Math.ceil(matching / samples));
}

export interface ConnectionKeys {
  /** Connections that the filter lets through. */
  readonly matching: number;
  /** All accepted connections. */
  readonly total: number;
  /** Those asked for, in their order. */
  readonly keys: readonly ConnectionKey[];
}

export interface ConnectionPage {
  /** When the page was made. */
  readonly atMs: number;
  /** Connections that the filter lets through. */
  readonly matching: number;
  /** All accepted connections. */
  readonly total: number;
  readonly rows: readonly ConnectionSummary[];
}

/** Everything that is known of one connection. */
export interface ConnectionDetails extends ConnectionSummary {
  readonly atMs: number;
  readonly keepaliveSec: number;
  readonly persistentSession: boolean;
  /** Seconds that the session outlives the connection; infinite: it does not expire. */
  readonly sessionExpirySec: number;
  /** What the client takes unacknowledged, and how many topic aliases (MQTT 5). */
  readonly receiveMaximum: number;
  readonly topicAliasMaximum: number;
  readonly will: { readonly topic: string; readonly qos: number; readonly retain: boolean } | undefined;
  /** The socket is not read at the moment, since the client or the process is at a bound. */
  readonly held: boolean;
  /** Why messages of the client wait; undefined when none do, or are merely under way. */
  readonly waits:
    | {
        /** Stable key of the cause. */
        readonly cause: string;
        readonly detail: string;
        /** The NATS subject of the message that failed. */
        readonly subject: string | undefined;
        readonly sinceAtMs: number;
      }
    | undefined;
  /** Bytes written that the client has not taken. */
  readonly unsentBytes: number;
  /** Messages that wait to be sent to the client, and those that it left out for want of room. */
  readonly outgoing: {
    readonly waiting: number;
    readonly waitingBytes: number;
    readonly unacknowledged: number;
    readonly dropped: number;
  };
  readonly subscribedTo: readonly { readonly filter: string; readonly qos: number }[];
  /** Topics published to, the latest first. */
  readonly lastTopics: readonly string[];
  /** What last went wrong, of this connection or of the one of this client before it. */
  readonly lastError: { readonly atMs: number; readonly detail: string } | undefined;
}

/** How a replica took part in an answer of the fleet. */
export type ReplicaJson = Static<typeof schema.ReplicaResponse>;
export type ConnectionJson = Static<typeof schema.ConnectionResponse>;
export type ConnectionPageJson = Static<typeof schema.ConnectionPageResponse>;
export type ConnectionDetailsJson = Static<typeof schema.ConnectionDetailsResponse>;

/** The replica that has a connection: its id begins with it. */
export function replicaOf(connectionId: string): string {
  return connectionId.slice(0, Math.max(0, connectionId.indexOf('-')));
}

export function toConnectionPageJson(
  page: ConnectionPage,
  replicas: readonly ReplicaJson[],
): ConnectionPageJson {
  return {
    at: new Date(page.atMs).toISOString(),
    total: page.total,
    matching: page.matching,
    connections: page.rows.map(toConnectionJson),
    replicas: [...replicas],
  };
}

export function toConnectionJson(connection: ConnectionSummary): ConnectionJson {
  const { received, messagesPerSecond, lastMessageAtMs } = connection;
  return {
    id: connection.id,
    replica: replicaOf(connection.id),
    device: connection.deviceId,
    type: connection.deviceType,
    client: connection.clientId,
    address: connection.address,
    transport: connection.transport,
    protocol: connection.protocol,
    received: { qos0: received[0], qos1: received[1], qos2: received[2] },
    rate: messagesPerSecond === undefined ? null : Math.round(messagesPerSecond * 100) / 100,
    bytes_in: connection.bytesIn,
    bytes_out: connection.bytesOut,
    in_flight: connection.inFlight,
    subscriptions: connection.subscriptions,
    connected_at: new Date(connection.connectedAtMs).toISOString(),
    last_message_at: lastMessageAtMs === undefined ? null : new Date(lastMessageAtMs).toISOString(),
  };
}

export function toConnectionDetailsJson(details: ConnectionDetails): ConnectionDetailsJson {
  const { will, outgoing, lastError, waits } = details;
  return {
    ...toConnectionJson(details),
    at: new Date(details.atMs).toISOString(),
    keepalive_seconds: details.keepaliveSec,
    persistent_session: details.persistentSession,
    session_expiry_seconds: Number.isFinite(details.sessionExpirySec) ? details.sessionExpirySec : null,
    receive_maximum: details.receiveMaximum,
    topic_alias_maximum: details.topicAliasMaximum,
    will: will === undefined ? null : { topic: will.topic, qos: will.qos, retain: will.retain },
    held: details.held,
    waits:
      waits === undefined
        ? null
        : {
            cause: waits.cause,
            detail: waits.detail,
            subject: waits.subject ?? null,
            since: new Date(waits.sinceAtMs).toISOString(),
          },
    unsent_bytes: details.unsentBytes,
    outgoing: {
      waiting: outgoing.waiting,
      waiting_bytes: outgoing.waitingBytes,
      unacknowledged: outgoing.unacknowledged,
      dropped: outgoing.dropped,
    },
    subscribed_to: details.subscribedTo.map(({ filter, qos }) => ({ filter, qos })),
    last_topics: [...details.lastTopics],
    last_error:
      lastError === undefined
        ? null
        : { at: new Date(lastError.atMs).toISOString(), detail: lastError.detail },
  };
}
