import type { Static } from 'typebox';
import type { eventKinds } from './constants.js';
import type * as schema from './event-schema.js';

type EventKind = (typeof eventKinds)[number];

/** Something that happened to the fleet. */
export interface FleetEvent {
  /** Numbered from 1 since the start of the replica. */
  readonly number: number;
  /** Wall-clock milliseconds. */
  readonly atMs: number;
  readonly kind: EventKind;
  readonly device?: string | undefined;
  readonly client?: string | undefined;
  readonly address?: string | undefined;
  /** Id of the connection. */
  readonly connection?: string | undefined;
  /** Version of MQTT of a client that connected. */
  readonly protocol?: string | undefined;
  /** Why, as a word: a close reason, or what was dropped. */
  readonly reason?: string | undefined;
  /** What the client was told: the code of CONNACK, or of DISCONNECT of MQTT 5. */
  readonly code?: number | undefined;
  /** How many connections or messages it is about, where it may be several. */
  readonly count?: number | undefined;
}

export type EventJson = Static<typeof schema.FleetEventResponse>;

export function toEventJson({ number, atMs, ...event }: FleetEvent): EventJson {
  // What is undefined is not there in JSON.
  return { number, at: new Date(atMs).toISOString(), ...event } as EventJson;
}
