import type { Actor } from '../db/audit.js';
import { maskSecrets } from '../db/secrets.js';
import type { EventFeed } from './event-feed.js';

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

/** The connections of this replica, for those who look at them. */
export interface LiveConnections {
  /** Accepted connections. */
  count(): number;
  list(request: ConnectionRequest): ConnectionPage;
  find(id: string): ConnectionDetails | undefined;
  /** Ends a connection; answers which it was, or undefined when there is no such connection. */
  kick(id: string, actor: Actor): { deviceId: string; clientId: string } | undefined;
}

const maxShownCharacters = 256;
/** More than the longest secret of ours has, so that none is cut before it is found. */
const longestSecret = 64;

/** Text of a stranger for a log line, an event or a detail: not longer than a screen could show, and without secrets. */
export function shortenText(text: string): string {
  const masked = maskSecrets(text.slice(0, maxShownCharacters + longestSecret));
  return masked.length > maxShownCharacters ? `${masked.slice(0, maxShownCharacters)}…` : masked;
}

/** Numbers of one second each, the latest last. */
export interface TrafficHistory {
  readonly messagesIn: readonly number[];
  readonly messagesOut: readonly number[];
  readonly bytesIn: readonly number[];
  readonly bytesOut: readonly number[];
}

/** How this replica is doing. */
export interface ReplicaStats {
  readonly atMs: number;
  readonly version: string;
  readonly replica: string;
  /** Running replicas on the same database; undefined when the database does not tell. */
  readonly replicas: number | undefined;
  readonly startedAtMs: number;
  readonly uptimeSec: number;
  readonly connections: { readonly open: number; readonly connected: number; readonly limit: number };
  /** Messages with devices and bytes of their payloads, a second, over the last seconds. */
  readonly rates: {
    readonly messagesIn: number;
    readonly messagesOut: number;
    readonly bytesIn: number;
    readonly bytesOut: number;
  };
  /** The same since the start. */
  readonly totals: {
    readonly messagesIn: number;
    readonly messagesOut: number;
    readonly bytesIn: number;
    readonly bytesOut: number;
    /** Messages that NATS has confirmed, and those handed to it that need no confirmation. */
    readonly stored: number;
    readonly sent: number;
  };
  readonly waiting: {
    readonly messages: number;
    readonly bytes: number;
    /** What clients wait for that NATS refuses or does not confirm; the most clients first. */
    readonly causes: readonly {
      readonly cause: string;
      readonly detail: string;
      readonly clients: number;
      readonly sinceAtMs: number;
    }[];
  };
  /** From the arrival of a message until it is stored, of the last seconds; undefined when there were none. */
  readonly ackLatency: { readonly p50Ms: number | undefined; readonly p99Ms: number | undefined };
  readonly nats: { readonly ok: boolean; readonly detail: string };
  readonly database: { readonly ok: boolean; readonly detail: string };
  /** What went wrong since the start, by kind. */
  readonly failures: Readonly<Record<string, number>>;
  readonly history: TrafficHistory;
}

/** What those see who look at a running replica. */
export interface FleetView {
  readonly replica: string;
  readonly connections: LiveConnections;
  readonly events: EventFeed;
  readStats(): Promise<ReplicaStats>;
}
