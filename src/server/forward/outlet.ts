import type { NatsConnection } from './connection/nats-library.js';
import type { NatsWire } from './connection/nats-wire.js';
import type { IngestMode, UplinkMessage } from './forwarder.js';
import type { Standstill } from './lanes/standstill.js';
import type { Durability } from './stream/durability.js';

/** Why a message is not stored: `cause` is a stable key, `permanent` that the same message can never be stored. */
export interface Refusal {
  readonly cause: string;
  readonly detail: string;
  readonly permanent: boolean;
}

/** How messages leave, as far as their order must know. */
export interface Outlet {
  /** A message given to `send` now goes to NATS rather than into a buffer. */
  readonly open: boolean;
  /**
   * With which others the message would stand or fall if it were sent now: a batch, 0 when it is confirmed by itself, or -1 when it goes to another
   * stream than that of NATS_SUBJECT.
   *
   * @param again it was sent before, and is perhaps stored.
   */
  groupOf(message: UplinkMessage, again: boolean): number;
  /**
   * Sends a message; its answer comes as `InFlight.settle…(token)`. Throws when the connection has ended.
   *
   * @param group what `groupOf` has just answered.
   * @returns true when it has left; false when it is held until `InFlight.departed(token)` lets it go; or why it is not sent.
   */
  send(message: UplinkMessage, token: number, group: number): boolean | Refusal;
  /** Why a message that was held may not leave now, undefined when it may: the stream may be another one since. */
  problemOf?(message: UplinkMessage): string | undefined;
  /** The message is sent again, and is perhaps stored: gives it an identifier if it has none. */
  identify(message: UplinkMessage): void;
  /**
   * Whether a message that was not answered in time has to be sent again; else it is only late.
   *
   * @param sentAtMs `performance.now()`.
   * @param waitedMs how long it could have been answered since.
   */
  isLost(message: UplinkMessage, sentAtMs: number, waitedMs: number): boolean;
}

/** How messages without confirmation leave. */
export interface PlainOutlet {
  readonly open: boolean;
  /**
   * Sends a message. With a `mark` other than 0, `Unconfirmed.settleMark(mark)` follows when NATS is done with it and what was
   * sent before. Throws when the message cannot be sent.
   */
  sendPlain(message: UplinkMessage, mark: number): void;
}

/** How messages get to NATS and are confirmed: the difference between JetStream and core NATS. */
export interface NatsOutlet extends Outlet, PlainOutlet {
  /** There is a new connection; messages are sent on it from now on. Must not throw. */
  connected(connection: NatsConnection, wire: NatsWire): void;
  disconnected(): void;
  tick?(nowMs: number): void;
  /** See `NatsLinkListener`. */
  pinged?(): void;
  ponged?(denied: ReadonlySet<string>): void;
  /** Largest message that NATS and the stream take, bytes. */
  readonly maxMessageBytes: number;
  /** The stream takes a time to live with a message. */
  readonly takesTtl: boolean;
  // An outlet to what is no stream of the user has none of these.
  readonly ingest?: IngestMode | undefined;
  readonly durability?: Durability | undefined;
  /** See `ForwarderState.batching`. */
  readonly batching?: boolean;
  /** What is known to keep messages from being stored, also while none is sent. */
  readonly standstill?: Standstill | undefined;
}
