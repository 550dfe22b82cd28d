import { messageOf } from '../../../errors.js';
import type { ForwarderCounters, Lane, LaneTrouble, UplinkMessage } from '../forwarder.js';
import { duplicateInProcess } from '../jetstream-codes.js';
import type { Outlet, Refusal } from '../outlet.js';
import { type StreamDoubt, UnderWay } from './doubt.js';
import { type Slots, slotHeld, slotSent, slotWaiting } from './slots.js';
import { type Failure, nextFailure } from './standstill.js';

const firstBackoffMs = 100;
const lastBackoffMs = 5_000;
/** Refusals that pass when a stream, or its leader, is there. */
const passing: ReadonlySet<string> = new Set(['no_stream', 'stream_unusable']);
/** How the refusal begins of a message that the stream is about to store, as it was sent before. */
const inProcess = `${duplicateInProcess} `;

/** What all lanes have in common. */
export interface LaneContext {
  readonly slots: Slots<ClientLane>;
  readonly outlet: Outlet;
  readonly doubt: StreamDoubt;
  readonly counters: ForwarderCounters;
  /** Lanes with something to send. */
  readonly pending: Set<ClientLane>;
  readonly holding: Set<ClientLane>;
  nowMs: number;
  /** Since when nothing can be sent. */
  closedAtMs: number | undefined;
  noteFailure(cause: string, detail: string): void;
  sendUnconfirmed(message: UplinkMessage): void;
  /** There is more room than before. */
  onRoom(): void;
}

/**
 * The order of one client's messages. A lane is open or holding. Open, it sends what it is given. A failure makes it hold: it
 * sends nothing until every message under way is settled, waits, and tries the oldest one alone; when that is stored it
 * sends the others in order and is open again.
 *
 * A lane is in one batch at a time. A batch is stored as a whole or not at all; were later messages of the lane already under
 * way in the next one, they would be stored before those of a batch that was refused.
 *
 * Nor does it send more while what it has under way may be lost (`doubt.ts`), and one message at a time to a stream that is silent.
 */
export class ClientLane implements Lane {
  inFlight = 0;
  closed = false;
  /** In a row. */
  private failures = 0;
  private readonly context: LaneContext;
  /** Messages sent, or held, and not settled. */
  private sent = 0;
  /** The group of those messages. */
  private group = 0;
  readonly underWay: UnderWay;
  private holding = false;
  /** One that was held was taken back: those behind it that are held still are, too, before anything is sent. */
  private recalling = false;
  /** The message tried alone, or 0. */
  private probe = 0;
  /** Tokens to be sent; some may have been settled meanwhile. */
  private waiting: number[] = [];
  private resumeAtMs = 0;
  /** Tokens of messages that were sent, and lost from sight before they were answered. */
  private uncertain: Set<number> | undefined;
  /** The last failure since the lane was open. */
  failure: Failure | undefined;
  /** What waits is being sent: a refusal meanwhile does not begin that anew. */
  private sending = false;

  constructor(context: LaneContext) {
    this.context = context;
    this.underWay = new UnderWay(context.doubt);
  }

  publish(message: UplinkMessage): void {
    if (!message.confirm) {
      this.context.sendUnconfirmed(message);
      return;
    }
    const { slots } = this.context;
    const token = slots.take(message, this);
    const slot = slots.find(token);
    this.inFlight += 1;
    if (this.waiting.length === 0 && this.maySend(slot)) this.send(slot);
    else this.wait(token);
  }

  /** Whether the message may be sent now; it then has to be, since it has its place in a batch. */
  private maySend(slot: number): boolean {
    if (!this.context.outlet.open || this.holding || this.recalling || this.underWay.isInDoubt) return false;
    if (this.sent === 0) return true;
    if (this.context.doubt.silent && this.context.slots.message(slot).batchable) return false;
    return this.group === this.groupOf(slot);
  }

  private groupOf(slot: number): number {
    const { slots, outlet } = this.context;
    return outlet.groupOf(slots.message(slot), slots.sentAtMs(slot) > 0);
  }

  private send(slot: number): void {
    const { slots, outlet } = this.context;
    if (slots.sentAtMs(slot) > 0) outlet.identify(slots.message(slot));
    this.group = this.groupOf(slot);
    this.sent += 1;
    slots.setHeld(slot);
    let outcome: boolean | Refusal;
    try {
      outcome = outlet.send(slots.message(slot), slots.token(slot), this.group);
    } catch (error) {
      this.fail(slot, 'send_failed', messageOf(error));
      return;
    }
    if (outcome === true) this.leave(slot);
    else if (outcome !== false) this.refused(slot, outcome);
  }

  /** It is on its way. */
  private leave(slot: number): void {
    const { slots, nowMs } = this.context;
    if (slots.phase(slot) !== slotSent) this.underWay.add(slots.message(slot));
    slots.setSent(slot, nowMs);
  }

  private wait(token: number): void {
    this.waiting.push(token);
    this.context.pending.add(this);
  }

  /** The outlet is about to send what it has held. Answers whether it is still to be sent. */
  depart(slot: number): boolean {
    const { slots } = this.context;
    if (slots.phase(slot) === slotWaiting) return false;
    if (this.recalling || this.underWay.isInDoubt || (this.holding && this.probe !== slots.token(slot))) {
      this.recalling = true;
      this.takeBack(slot);
      return false;
    }
    if (slots.phase(slot) === slotHeld) {
      if (!this.renew(slot)) return false;
      const problem = this.context.outlet.problemOf?.(slots.message(slot));
      if (problem !== undefined) {
        this.fail(slot, 'stream_unusable', problem);
        return false;
      }
    }
    this.leave(slot);
    return true;
  }

  /** Holds a message that has waited against the policy of now; answers whether it may be sent. */
  private renew(slot: number): boolean {
    const problem = this.context.slots.renew(slot);
    if (problem === undefined) return true;
    this.giveUp(slot, problem, true);
    this.goOn();
    return false;
  }

  /** It is stored. */
  stored(slot: number, ack?: Uint8Array, behind?: number): void {
    const { slots, counters, doubt, onRoom, nowMs } = this.context;
    const token = slots.token(slot);
    const sentAtMs = slots.sentAtMs(slot);
    const message = this.forget(slot);
    counters.stored += 1;
    doubt.noteStored(message, sentAtMs, nowMs);
    message.onStored(ack, behind);
    if (this.probe === token && this.holding) this.open();
    else this.goOn();
    onRoom();
  }

  /** NATS refused it, or the outlet did. */
  refused(slot: number, refusal: Refusal): void {
    const { slots, counters, doubt } = this.context;
    if (refusal.cause === 'no_stream' && slots.message(slot).batchable) doubt.count += 1;
    if (slots.phase(slot) === slotWaiting) return;
    if (this.mayTell(slot, refusal)) {
      const wasProbe = this.holding && this.probe === slots.token(slot);
      this.context.noteFailure(refusal.cause, refusal.detail);
      this.giveUp(slot, refusal.detail, true, refusal.cause);
      if (wasProbe) this.open();
      else this.goOn();
      return;
    }
    if (!refusal.permanent) {
      counters.retriedRefused += 1;
      const { cause, detail } = refusal;
      this.fail(slot, cause, detail, !passes(cause));
      return;
    }
    const behind = this.closed ? [] : this.waitingBehind(slot);
    this.giveUp(slot, refusal.detail, true);
    for (const token of behind) {
      const other = slots.find(token);
      if (other >= 0) this.giveUp(other, 'a message before it was refused', false);
    }
    this.goOn();
  }

  /**
   * The client is told of a refusal that is final. One for want of a stream or of its leader passes; and what was sent before may be
   * stored, so that it is sent again until the stream says so.
   */
  private mayTell(slot: number, { cause }: Refusal): boolean {
    const { slots } = this.context;
    if (slots.message(slot).tellsRefusal !== true || this.closed) return false;
    return !passes(cause) && this.uncertain?.has(slots.token(slot)) !== true;
  }

  /** It failed and is to be sent again. @param isKnown it is certain that it is not stored. */
  fail(slot: number, cause: string, detail: string, isKnown = false): void {
    const { slots, counters, nowMs, noteFailure } = this.context;
    const token = slots.token(slot);
    if (!this.holding || this.probe === token) {
      this.resumeAtMs = nowMs + Math.min(firstBackoffMs * 2 ** this.failures, lastBackoffMs);
      this.failures = Math.min(this.failures + 1, 16);
    }
    this.hold();
    this.takeBack(slot, isKnown);
    if (this.probe === token) this.probe = 0;
    const message = slots.message(slot);
    this.failure = nextFailure(this.failure, { message, cause, detail, stored: counters.stored, nowMs });
    noteFailure(cause, detail);
  }

  /** It is not answered in time, and perhaps will be: its client's others wait. */
  holdLate(slot: number, cause: string, detail: string): void {
    const { slots, counters, nowMs, pending, noteFailure } = this.context;
    const { stored } = counters;
    if (this.holding && this.failure?.quiet.stored === stored) return;
    if (!this.holding) noteFailure(cause, detail);
    this.hold();
    pending.add(this);
    this.failures = Math.max(this.failures, 1);
    const message = slots.message(slot);
    this.failure = nextFailure(this.failure, { message, cause, detail, stored, nowMs });
  }

  /** It is not on its way any more, and waits. Whether its client is told of refusals can change meanwhile. */
  takeBack(slot: number, isKnown = false): void {
    const { slots } = this.context;
    if (slots.phase(slot) === slotSent && !isKnown) {
      this.uncertain ??= new Set();
      this.uncertain.add(slots.token(slot));
    }
    this.setBack(slot);
    this.context.slots.setWaiting(slot);
    this.wait(this.context.slots.token(slot));
  }

  private setBack(slot: number): void {
    const { slots } = this.context;
    const phase = slots.phase(slot);
    if (phase === slotSent || phase === slotHeld) this.sent -= 1;
    if (phase === slotSent) this.underWay.remove(slots.message(slot));
    if (this.sent === this.underWay.count) this.recalling = false;
  }

  private forget(slot: number): UplinkMessage {
    const { slots } = this.context;
    const message = slots.message(slot);
    this.uncertain?.delete(slots.token(slot));
    this.setBack(slot);
    slots.release(slot);
    this.inFlight -= 1;
    return message;
  }

  /** It is never sent again. */
  private giveUp(slot: number, detail: string, isFinal: boolean, cause?: string): void {
    const { slots, counters, onRoom } = this.context;
    if (this.probe === slots.token(slot)) this.probe = 0;
    counters.refused += 1;
    this.forget(slot).onRefused(detail, cause, isFinal);
    onRoom();
  }

  /**
   * What waits, or is held, behind a message that NATS will never take. Its client loses its connection and sends all of it again, the
   * refused one first: sent now, the later ones would be stored ahead of it. A client that is gone may not come back, so
   * what it left is sent, as is a will, which nobody sends again.
   */
  private waitingBehind(slot: number): number[] {
    const { slots } = this.context;
    const tokens: number[] = [];
    for (let other = 0; other < slots.used; other += 1) {
      const phase = slots.phase(other);
      if (phase !== slotWaiting && phase !== slotHeld) continue;
      if (slots.lane(other) !== this || slots.order(other) < slots.order(slot)) continue;
      if (slots.message(other).comesAgain !== false) tokens.push(slots.token(other));
    }
    return slots.sort(tokens);
  }

  /** The group before is settled: the lane may join the next one. */
  private goOn(): void {
    if (this.holding || this.sent > 0 || this.waiting.length === 0 || this.sending) return;
    this.sendWaiting();
  }

  private hold(): void {
    this.holding = true;
    this.context.holding.add(this);
  }

  private open(): void {
    this.holding = false;
    this.context.holding.delete(this);
    this.failure = undefined;
    this.probe = 0;
    this.failures = 0;
    this.sendWaiting();
  }

  /** Tokens still to be sent, oldest first. */
  private sortWaiting(): number[] {
    const { slots } = this.context;
    this.waiting = slots.sort(this.waiting).filter((token) => slots.phase(slots.find(token)) === slotWaiting);
    return this.waiting;
  }

  private sendWaiting(): void {
    const { slots, pending } = this.context;
    const tokens = this.sortWaiting();
    let sent = 0;
    this.sending = true;
    // What is given meanwhile, a will perhaps, comes behind them: it is added to the same list.
    while (sent < tokens.length) {
      const slot = slots.find(tokens[sent] ?? 0);
      // Given up meanwhile, behind one that was refused.
      if (slot < 0 || !this.renew(slot)) {
        sent += 1;
        continue;
      }
      if (!this.maySend(slot)) break;
      sent += 1;
      this.send(slot);
    }
    this.sending = false;
    this.waiting = tokens.slice(sent);
    if (this.waiting.length === 0) pending.delete(this);
  }

  /** Sends what may be sent now. */
  resume(): void {
    const { slots, pending, nowMs } = this.context;
    if (!this.holding) {
      if (this.sent === 0 || !(this.recalling || this.underWay.isInDoubt)) this.sendWaiting();
      return;
    }
    if (this.sent > 0 || nowMs < this.resumeAtMs) return;
    const [oldest] = this.sortWaiting();
    if (oldest === undefined) {
      pending.delete(this);
      this.open();
      return;
    }
    const slot = slots.find(oldest);
    if (!this.renew(slot)) return;
    this.waiting.shift();
    this.probe = oldest;
    this.send(slot);
  }

  /** Everything waits for a new connection: the oldest goes first and alone. */
  beginAnew(): void {
    this.hold();
    this.probe = 0;
    this.retry();
  }

  retry(): void {
    this.failures = 0;
    this.resumeAtMs = 0;
  }

  close(): void {
    this.closed = true;
  }

  /** Gives up what waits, when the client is gone and NATS refuses it. */
  abandon(): void {
    if (!this.closed || !this.holding || this.failures === 0) return;
    const { slots, counters, onRoom } = this.context;
    for (const token of this.sortWaiting()) {
      counters.abandoned += 1;
      this.forget(slots.find(token)).onRefused('given up: the client is gone and the bound is reached');
    }
    this.waiting = [];
    onRoom();
  }

  get trouble(): LaneTrouble | undefined {
    const { outlet, closedAtMs, nowMs } = this.context;
    if (this.inFlight === 0) return undefined;
    if (!outlet.open) {
      const detail = 'NATS is away, or does not answer';
      return { cause: 'nats_away', detail, subject: undefined, sinceMs: closedAtMs ?? nowMs };
    }
    if (this.failure === undefined) return undefined;
    const { cause, detail, subject, sinceMs } = this.failure;
    return { cause, detail, subject: Buffer.from(subject).toString(), sinceMs };
  }
}

function passes(cause: string): boolean {
  return passing.has(cause) || cause.startsWith(inProcess);
}
