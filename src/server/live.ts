import type { Actor } from '../db/audit.js';

/** What the list of connections can be sorted by. */
export const sortFields = [
  'device',
  'type',
  'client',
  'address',
  'protocol',
  'transport',
  'qos',
  'rate',
  'messages',
  'bytes',
  'in_flight',
  'subscriptions',
  'connected',
  'last_message',
] as const;

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
  readonly will: { readonly topic: string; readonly qos: number; readonly retain: boolean } | undefined;
  /** The socket is not read at the moment, since the client or the process is at a bound. */
  readonly held: boolean;
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

/** The connections of this replica, for those who look at them. */
export interface LiveConnections {
  list(request: ConnectionRequest): ConnectionPage;
  find(id: string): ConnectionDetails | undefined;
  /** Ends a connection; answers which it was, or undefined when there is no such connection. */
  kick(id: string, actor: Actor): { deviceId: string; clientId: string } | undefined;
}

/** Text of a client for an event or a detail: not longer than a screen could show. */
export function shortenText(text: string): string {
  return text.length > 256 ? `${text.slice(0, 256)}…` : text;
}
