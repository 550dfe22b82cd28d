/**
 * One message on its way from a device to NATS. The connection makes it, the forwarder keeps it until NATS has
 * confirmed that it is stored; payload and headers must not change meanwhile.
 */
export interface UplinkMessage {
  /** The NATS subject. */
  readonly subject: string;
  /** The NATS header block, encoded: `NATS/1.0\r\n` … `\r\n\r\n`. */
  readonly headers: Uint8Array;
  /** The payload as the device sent it. */
  readonly payload: Uint8Array;
  /** A store confirmation is wanted (QoS 1 and 2). Without it the message is sent once and not followed. */
  readonly confirm: boolean;
  /**
   * Unique id for JetStream's duplicate window, so that a second attempt by the forwarder is not stored twice;
   * set for QoS 2 only, since the window costs the server memory. Added as `Nats-Msg-Id`.
   */
  readonly messageId: string | undefined;
  /**
   * Called once, when the stream has confirmed the message (JetStream), or the server has received it (core
   * NATS). Never called for a message without `confirm`, nor after `Lane.abandon()`.
   */
  onStored(): void;
}

/**
 * The order of one client's messages. Messages given to one lane reach NATS in that order; when one is refused or
 * times out, the lane sends nothing more until what is under way is settled and the failed ones, in order, are
 * stored.
 */
export interface Lane {
  /** Messages with `confirm` that are not stored yet. */
  readonly inFlight: number;
  /**
   * Takes one message. The caller must have seen `Forwarder.full === false` in this turn, or hold the message
   * until `whenReady` calls back.
   */
  publish(message: UplinkMessage): void;
  /**
   * The client is gone. What was taken is still stored, in order, but `onStored` is called only for messages
   * whose `confirm` outlives the connection; the forwarder treats both alike, so this only releases the lane.
   */
  close(): void;
}

export interface ForwarderState {
  /** NATS is connected. */
  readonly connected: boolean;
  /** The server in use, without credentials, or why there is none. */
  readonly detail: string;
  readonly inFlight: number;
  readonly inFlightBytes: number;
  readonly counters: Readonly<ForwarderCounters>;
}

/** Counted since the start of the process. */
export interface ForwarderCounters {
  /** Messages confirmed as stored. */
  stored: number;
  /** Messages without confirmation handed to NATS. */
  sent: number;
  /** Messages without confirmation dropped because NATS was away. */
  dropped: number;
  /** Attempts repeated, by cause. */
  retriedTimeout: number;
  retriedRefused: number;
  retriedReconnect: number;
}

/** What takes uplink messages to NATS and reports when they are stored. */
export interface Forwarder {
  /** The bound of messages or bytes waiting is reached: senders are not to be read until `whenReady` calls. */
  readonly full: boolean;
  /** Largest payload plus headers NATS accepts, from the server's INFO, bytes. */
  readonly maxPayloadBytes: number;
  openLane(): Lane;
  /** Queues a call for when there is room again; callers are called in the order in which they asked. */
  whenReady(callback: () => void): void;
  state(): ForwarderState;
  /** Waits until everything taken is stored, at most until `timeoutMs`; answers how many messages are not. */
  drain(timeoutMs: number): Promise<number>;
  /** Ends the connection to NATS; what is not stored stays unacknowledged. Idempotent. */
  close(): Promise<void>;
}
