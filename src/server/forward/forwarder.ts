import type { AckLevel } from '../../ack-level.js';
import type { Standstill } from './lanes/standstill.js';
import type { Durability } from './stream/durability.js';

/**
 * One message on its way from a device to NATS. The connection makes it, the forwarder keeps it until NATS has
 * confirmed that it is stored; payload and headers must not change meanwhile, and the rest only in `renew`.
 */
export interface UplinkMessage {
  /** The NATS subject, encoded. */
  readonly subject: Uint8Array;
  /** The NATS header block, encoded: `NATS/1.0\r\n` … `\r\n\r\n`. */
  readonly headers: Uint8Array;
  /** The payload as the device sent it. */
  readonly payload: Uint8Array;
  /**
   * A store confirmation is wanted (QoS 1 and 2). Without it the message is sent once and not followed: it is
   * dropped, and counted, when NATS is away or makes no progress.
   */
  readonly confirm: boolean;
  /**
   * Unique id for JetStream's duplicate window, so that no attempt after the first with it is stored again. Set for QoS 2; of
   * others the forwarder sets it when they are sent a second time, since the window costs the server memory. Added as
   * `Nats-Msg-Id`.
   */
  messageId: string | undefined;
  /**
   * It may be stored together with others. Only what goes to the subjects of NATS_SUBJECT may: others can belong to
   * another stream.
   */
  readonly batchable: boolean;
  /** Its sender repeats it: perhaps it is stored, which would have the others of a batch refused. */
  readonly repeated?: boolean;
  /** What its acknowledgement is to be worth; undefined: ACK_LEVEL. */
  readonly ackLevel?: AckLevel | undefined;
  /**
   * Called before a message that has waited is sent: `subject`, `batchable` and `ackLevel` are from then on what the policy of now
   * makes of them. Answers why it may not be sent any more; the forwarder then refuses it.
   */
  renew(): string | undefined;
  /**
   * Called now and then while the message waits for its confirmation: what is in memory only because a view of it is
   * held is to be let go, since the bounds count the message's own bytes.
   */
  compact(): void;
  /**
   * Called at most once, when the stream has confirmed the message (JetStream), or the server has taken it
   * (core NATS). Never called for a message without `confirm`. Still called after `Lane.close()`. Must not throw.
   *
   * @param ack the stream's answer, as `readPlace` reads it; only good during the call; undefined with core NATS.
   * @param behind how many messages that the answer also stands for were stored after this one.
   */
  onStored(ack?: Uint8Array, behind?: number): void;
  /**
   * Called instead of `onStored` when the stream will never take this message (it is larger than the stream or the
   * server allows), when `renew` denied it, or when it was given up (`Lane.close`): the forwarder has forgotten it, and it must not be
   * acknowledged. The connection is closed, as for a packet over the limit. Called too for what waited behind such a
   * message while the client is there, which sends all of it again. Never called without `confirm`. Must not
   * throw.
   *
   * @param reason what NATS answered, for the log.
   * @param cause its stable key.
   * @param isFinal it can never be stored, or may not be; else it is given up, and may come again.
   */
  onRefused(reason: string, cause?: string, isFinal?: boolean): void;
  /**
   * Its client is there and sends it again when its connection ends; false of a will. Undefined: as long as the lane is not closed.
   */
  readonly comesAgain?: boolean;
  /**
   * The client is told when NATS refuses the message, which is then given up, instead of sent again until it is stored.
   */
  readonly tellsRefusal?: boolean;
}

/** What of a message goes over the wire. */
export type WireMessage = Pick<UplinkMessage, 'subject' | 'headers' | 'payload' | 'messageId'>;

/** What `Nats-Msg-Id: ` and its line end add to the headers. */
const messageIdFieldBytes = 15;

/** Bytes of the header block that a message has in NATS, with its id. */
export function headerBytesOf({ headers, messageId }: WireMessage): number {
  return headers.length + (messageId === undefined ? 0 : messageId.length + messageIdFieldBytes);
}

/** Bytes of a message as NATS holds them against `max_payload` and the limits of a stream. */
export function natsBytesOf(message: WireMessage): number {
  return headerBytesOf(message) + message.payload.length;
}

/** Why messages of a lane are not stored. */
export interface LaneTrouble {
  /** Stable: `nats_away`, `timeout`, `no_stream` …, or the code and the words of JetStream. */
  readonly cause: string;
  /** In words. */
  readonly detail: string;
  /** Where the message that failed was sent; undefined while nothing can be. */
  readonly subject: string | undefined;
  /** `performance.now()` since when. */
  readonly sinceMs: number;
}

/** What lanes wait for, together. */
export interface TroubleSum {
  readonly cause: string;
  /** That of one of them. */
  readonly detail: string;
  readonly lanes: number;
  /** `performance.now()` since when the first of them waits. */
  readonly sinceMs: number;
}

/**
 * The order of one client's messages. Messages with `confirm` given to one lane reach NATS in that order; when one is
 * refused or times out, the lane sends nothing more until what is under way is settled and the failed ones, in
 * order, are stored. Messages without `confirm` do not wait behind those.
 */
export interface Lane {
  /** Messages with `confirm` that are not stored yet. */
  readonly inFlight: number;
  /** Why they wait; undefined while they are merely under way. */
  readonly trouble: LaneTrouble | undefined;
  /**
   * Takes one message. The caller must have seen `Forwarder.fullFor(message.confirm) === false` directly before, or
   * hold the message until `whenReady` calls back.
   */
  publish(message: UplinkMessage): void;
  /** What NATS refused may be taken now: it is tried as soon as what is under way is settled. */
  retry(): void;
  /**
   * The client is gone and gives no further message, except a will that waited for room. What was taken is still
   * stored, in order, and reported; only when the bound of messages is reached are those of closed lanes that NATS
   * refuses given up, and counted as `abandoned`, so that absent clients cannot stop present ones. Idempotent.
   */
  close(): void;
}

export type IngestMode = 'batches' | 'plain';
/** What the operator wants: batches where the stream takes them and it pays, a warning where it does not, or never. */
export type IngestSetting = 'auto' | 'batch' | 'plain';

export interface ForwarderState {
  /** NATS is connected. */
  readonly connected: boolean;
  /** The server in use, without credentials, or why there is none. */
  readonly detail: string;
  /** How the stream confirms messages: several with one answer, or each by itself; undefined without a stream. */
  readonly ingest: IngestMode | undefined;
  /** What an acknowledgement is worth; undefined without a stream. */
  readonly durability: Durability | undefined;
  /** What waits goes in batches now; false also where the stream takes them and is quicker without. */
  readonly batching: boolean;
  readonly inFlight: number;
  readonly inFlightBytes: number;
  /** Lanes that wait because NATS refused a message or did not confirm it in time. */
  readonly holdingLanes: number;
  /** Nothing is stored, since when and why, for everybody; undefined while messages are stored, or none is to be. */
  readonly standstill: Standstill | undefined;
  readonly counters: Readonly<ForwarderCounters>;
}

/** Counted since the start of the process. */
export type ForwarderCounters = ReturnType<typeof newForwarderCounters>;

export function newForwarderCounters() {
  return {
    /** Messages confirmed as stored. */
    stored: 0,
    /** Atomic batches confirmed as stored, and the messages in them. */
    batches: 0,
    batched: 0,
    /** Messages without confirmation handed to NATS. */
    sent: 0,
    /** Messages without confirmation dropped because NATS was away or made no progress. */
    dropped: 0,
    /** Messages that the stream will never take, and those given up behind one. */
    refused: 0,
    /** Unconfirmed messages of closed lanes given up at the bound. */
    abandoned: 0,
    /** Attempts that failed and are repeated, by cause. */
    retriedTimeout: 0,
    retriedRefused: 0,
    retriedReconnect: 0,
  };
}

/** What takes uplink messages to NATS and reports when they are stored. */
export interface Forwarder {
  /** The stream takes a time to live with a message (`allow_msg_ttl`, NATS 2.11). */
  readonly takesTtl: boolean;
  /**
   * A bound is reached and the sender is not to be read until `whenReady` calls. With `confirm`: messages or bytes
   * waiting for their confirmation. Without: bytes sent that NATS has not taken yet, while it makes progress; when
   * it makes none, this is false and messages are dropped.
   */
  fullFor(confirm: boolean): boolean;
  /** Messages, and bytes, that may still be taken with `confirm`. */
  readonly free: number;
  readonly freeBytes: number;
  /** Largest payload plus headers that NATS and the stream accept, bytes. */
  readonly maxPayloadBytes: number;
  openLane(): Lane;
  /**
   * Queues a call for when `fullFor(confirm)` is false again; callers are called in the order in which they asked, a
   * few at a time. The called one looks at `fullFor` again and asks anew when others were quicker.
   *
   * @param confirm which bound is waited for; default true.
   * @returns a function that takes the request back.
   */
  whenReady(callback: () => void, confirm?: boolean): () => void;
  state(): ForwarderState;
  /** What lanes wait for that NATS refused, or did not confirm in time; looks at each of them. The most lanes first. */
  troubles(): readonly TroubleSum[];
  /** Waits until everything taken is stored, at most until `timeoutMs`; answers how many messages are not. */
  drain(timeoutMs: number): Promise<number>;
  /** Ends the connection to NATS; what is not stored stays unacknowledged. Idempotent. */
  close(): Promise<void>;
}
