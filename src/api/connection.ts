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

/** How a replica took part in an answer of the fleet. */
export type ReplicaJson = Static<typeof schema.ReplicaResponse>;
export type ConnectionJson = Static<typeof schema.ConnectionResponse>;
export type ConnectionPageJson = Static<typeof schema.ConnectionPageResponse>;
export type ConnectionDetailsJson = Static<typeof schema.ConnectionDetailsResponse>;

/** The replica that has a connection: its id begins with it. */
export function replicaOf(connectionId: string): string {
  return connectionId.slice(0, Math.max(0, connectionId.indexOf('-')));
}
