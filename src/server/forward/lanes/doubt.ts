import type { UplinkMessage } from '../forwarder.js';

/**
 * A stream that has stored nothing for so long is silent: much longer than it takes for a message, and shorter than its servers need to
 * miss their leader (4 s at least).
 */
const silentAfterMs = 1_000;

/**
 * Whether what is under way to the stream of NATS_SUBJECT, of whatever lane, may be lost without an answer: NATS says that there is no
 * stream; the stream is silent, perhaps for want of a leader; or it has stored what was sent later. Were more sent before
 * that is settled, a stream made anew, or a new leader, would store it first.
 */
export class StreamDoubt {
  /** Counts up whenever what is under way may be lost: there is no stream, or it is silent. */
  count = 0;
  /** It has stored nothing for a while, though it was given something. */
  silent = false;
  /** When the latest of the messages was sent that it has stored, of those that it stores in the order of sending. */
  private storedSentAtMs = 0;
  /** When it said last that it has stored something. */
  private heardAtMs = 0;
  /** The longest that a message has waited for its answer, at this tick. */
  private longestMs = 0;

  /** It speaks; what was under way in its silence may still be lost. */
  noteStored(message: UplinkMessage, sentAtMs: number, nowMs: number): void {
    // Others can be in a stream of their own; one with an identifier may have been stored long before.
    if (!message.batchable) return;
    if (sentAtMs > this.storedSentAtMs && message.messageId === undefined) this.storedSentAtMs = sentAtMs;
    this.heardAtMs = nowMs;
    if (!this.silent) return;
    this.silent = false;
    this.count += 1;
  }

  /** It has stored what was sent later. */
  hasOvertaken(message: UplinkMessage, sentAtMs: number): boolean {
    return message.batchable && sentAtMs < this.storedSentAtMs;
  }

  /** A message has no answer yet. Answers whether it may be lost, as far as can be told from itself. */
  noteWaiting(message: UplinkMessage, sentAtMs: number, waitedMs: number): boolean {
    // Of another stream nothing is known but what is under way to it.
    if (!message.batchable) return waitedMs >= silentAfterMs;
    this.longestMs = Math.max(this.longestMs, waitedMs);
    return this.hasOvertaken(message, sentAtMs);
  }

  /**
   * A stream that was given something a while ago, and has stored nothing for as long, may have lost its leader. So it may while a server that
   * does not answer keeps the outlet closed.
   */
  tick(isOpen: boolean, nowMs: number): void {
    // Until it stores something: what is sent again in its silence begins to wait anew.
    if (this.longestMs >= silentAfterMs && nowMs - this.heardAtMs >= silentAfterMs) this.silent = true;
    if (this.silent || !isOpen) this.count += 1;
    this.longestMs = 0;
  }
}

/** The messages of one lane that were sent, and are not settled. */
export class UnderWay {
  count = 0;
  /** Those that went to the stream of NATS_SUBJECT. */
  private watched = 0;
  /** `StreamDoubt.count` when the first of those was sent. */
  private seen = 0;
  private isSuspect = false;
  private readonly doubt: StreamDoubt;

  constructor(doubt: StreamDoubt) {
    this.doubt = doubt;
  }

  add(message: UplinkMessage): void {
    if (this.count === 0) this.isSuspect = false;
    this.count += 1;
    if (!message.batchable) return;
    if (this.watched === 0) this.seen = this.doubt.count;
    this.watched += 1;
  }

  remove(message: UplinkMessage): void {
    this.count -= 1;
    if (message.batchable) this.watched -= 1;
  }

  /** One of them may be lost: its stream has stored what was sent later, or says nothing of it for long. */
  suspect(): void {
    this.isSuspect = true;
  }

  /** They may be lost. */
  get isInDoubt(): boolean {
    if (this.count > 0 && this.isSuspect) return true;
    return this.watched > 0 && (this.seen !== this.doubt.count || this.doubt.silent);
  }
}
