import type { Log } from '../../../log.js';
import { withFastGetters } from '../../fast-getters.js';
import { openFailureLog } from '../failure-log.js';
import type { ForwarderCounters, Lane, TroubleSum, UplinkMessage } from '../forwarder.js';
import type { Outlet, Refusal } from '../outlet.js';
import { StreamDoubt } from './doubt.js';
import { ClientLane, type LaneContext } from './lane.js';
import { openSlots, slotFree, slotHeld, slotSent } from './slots.js';
import { type Failure, findStandstill } from './standstill.js';

const decoder = new TextDecoder();

export type InFlight = ReturnType<typeof openInFlight>;

/** The messages that wait for their confirmation, known by their tokens. What a message's fate means for its client's others, its lane decides. */
export function openInFlight(options: {
  outlet: Outlet;
  /** Takes the messages without `confirm`. */
  sendUnconfirmed(message: UplinkMessage): void;
  /** Confirmations missing for so long are late. */
  ackTimeoutMs: number;
  counters: ForwarderCounters;
  log: Log;
  /** The bound is reached. */
  full(): boolean;
  /** There is more room than before. */
  onRoom(): void;
}) {
  const { outlet, ackTimeoutMs, counters } = options;
  const late = `no confirmation within ${ackTimeoutMs} ms: the disk of NATS is full or slow, or its stream has no leader`;
  const slots = openSlots<ClientLane>();
  const failureLog = openFailureLog(options.log);
  const pending = new Set<ClientLane>();
  const holding = new Set<ClientLane>();
  let tickedAtMs = performance.now();
  let openedAtMs = 0;
  const doubt = new StreamDoubt();
  const context: LaneContext = {
    slots,
    outlet,
    doubt,
    counters,
    pending,
    holding,
    nowMs: tickedAtMs,
    closedAtMs: undefined,
    noteFailure: (cause, detail) => failureLog.note(cause, detail, context.nowMs),
    sendUnconfirmed: options.sendUnconfirmed,
    onRoom: options.onRoom,
  };

  /** Compacts what waits: in the ordinary course a message is stored before a whole tick has passed over it. */
  function compactWaiting(lastTickMs: number): void {
    for (let slot = 0; slot < slots.used; slot += 1) {
      const phase = slots.phase(slot);
      if (phase === slotFree || (phase === slotSent && slots.sentAtMs(slot) >= lastTickMs)) continue;
      slots.message(slot).compact();
    }
  }

  function* failures(): Generator<Failure | undefined> {
    for (const { inFlight, failure } of holding) if (inFlight > 0) yield failure;
  }

  /**
   * Nothing is sent again because it is late: NATS may be at it, and would store it twice. It is lost when the stream has
   * stored what was sent later, since it stores in order, or when the outlet says so.
   * Before it is late its lane waits for it where that, or a silence, says that it may be lost.
   */
  function settleLate(slot: number): void {
    const sentAtMs = slots.sentAtMs(slot);
    const waitedMs = context.nowMs - Math.max(sentAtMs, openedAtMs);
    const message = slots.message(slot);
    if (doubt.noteWaiting(message, sentAtMs, waitedMs)) slots.lane(slot).underWay.suspect();
    if (waitedMs < ackTimeoutMs) return;
    if (doubt.hasOvertaken(message, sentAtMs) || outlet.isLost(message, sentAtMs, waitedMs)) {
      counters.retriedTimeout += 1;
      slots.lane(slot).fail(slot, 'timeout', late);
    } else {
      slots.lane(slot).holdLate(slot, 'timeout', late);
    }
  }

  function sumTroubles(): TroubleSum[] {
    const sums = new Map<string, { cause: string; detail: string; lanes: number; sinceMs: number }>();
    for (const { trouble } of holding) {
      if (trouble === undefined) continue;
      const { cause, detail, sinceMs } = trouble;
      const sum = sums.get(cause);
      if (sum === undefined) {
        sums.set(cause, { cause, detail, lanes: 1, sinceMs });
      } else {
        sum.lanes += 1;
        sum.sinceMs = Math.min(sum.sinceMs, sinceMs);
      }
    }
    return [...sums.values()].sort((one, other) => other.lanes - one.lanes);
  }

  return withFastGetters({
    get count() {
      return slots.count;
    },
    get bytes() {
      return slots.bytes;
    },
    /** Messages that were sent and are not answered. */
    get underWay() {
      return slots.underWay;
    },
    get holdingLanes() {
      return holding.size;
    },
    /** Nothing is stored, and why. */
    get standstill() {
      return findStandstill(failures(), counters.stored, context.nowMs);
    },
    /** See `Forwarder.troubles`. */
    troubles: sumTroubles,
    openLane: (): Lane => new ClientLane(context),
    /** The outlet is about to send what it has held. Answers whether it is still to be sent. */
    departed(token: number): boolean {
      const slot = slots.find(token);
      return slot >= 0 && slots.lane(slot).depart(slot);
    },
    /** When the message of this token was sent; undefined when it is not under way. */
    sentAtMs(token: number): number | undefined {
      const slot = slots.find(token);
      return slot >= 0 && slots.phase(slot) === slotSent ? slots.sentAtMs(slot) : undefined;
    },
    /** It is for the stream of NATS_SUBJECT. */
    isBatchable(token: number): boolean {
      const slot = slots.find(token);
      return slot >= 0 && slots.message(slot).batchable;
    },
    /** The time as messages are given it: see `passTo`. */
    get nowMs() {
      return context.nowMs;
    },
    /** The message of this token is stored. Unknown and old tokens are ignored. */
    settleStored(token: number, ack?: Uint8Array, behind?: number): void {
      const slot = slots.find(token);
      if (slot >= 0) slots.lane(slot).stored(slot, ack, behind);
    },
    /** NATS refused the message of this token; `permanent` when it always will. */
    settleRefused(token: number, refusal: Refusal): void {
      const slot = slots.find(token);
      if (slot >= 0) slots.lane(slot).refused(slot, refusal);
      // The second answer for one that was sent twice: of the stream it says the same.
      else if (refusal.cause === 'no_stream') doubt.count += 1;
    },
    /** NATS refused what was sent to these subjects: what is under way to them is tried again later. Answers the tokens of that. */
    settleDenied(subjects: ReadonlySet<string>): readonly number[] {
      const denied: number[] = [];
      slots.eachSent((slot) => {
        if (subjects.has(decoder.decode(slots.message(slot).subject))) denied.push(slots.token(slot));
      });
      // What is refused may let others be sent, so all of them are found first.
      for (const token of denied) {
        const slot = slots.find(token);
        if (slot < 0) continue;
        const detail = `the user may not publish to ${decoder.decode(slots.message(slot).subject)}`;
        slots.lane(slot).refused(slot, { cause: 'publish_denied', detail, permanent: false });
      }
      return denied;
    },
    /** The connection is gone: everything under way is to be sent again, in order. */
    loseAll(): void {
      for (let slot = 0; slot < slots.used; slot += 1) {
        const phase = slots.phase(slot);
        if (phase === slotSent) counters.retriedReconnect += 1;
        if (phase === slotSent || phase === slotHeld) slots.lane(slot).takeBack(slot);
      }
      // The oldest of each goes first and alone: a stream that is not there yet refuses one message and not thousands.
      for (const lane of pending) lane.beginAnew();
    },
    /** The outlet was closed for a while and is open again: what is under way gets its full time to be answered. */
    restartTimeouts(): void {
      openedAtMs = context.nowMs;
    },
    /** Time passes here, and in `tick`, and nowhere else. */
    passTo(nowMs: number): void {
      context.nowMs = nowMs;
    },
    /** Regular work. */
    tick(nowMs: number): void {
      compactWaiting(tickedAtMs);
      context.nowMs = nowMs;
      tickedAtMs = nowMs;
      context.closedAtMs = outlet.open ? undefined : (context.closedAtMs ?? nowMs);
      if (outlet.open) slots.eachSent(settleLate);
      doubt.tick(outlet.open, nowMs);
      for (const lane of [...pending]) if (outlet.open) lane.resume();
      // At the bound, what absent clients left behind and NATS refuses makes way.
      if (options.full()) for (const lane of [...pending]) lane.abandon();
      failureLog.check(holding.size > 0, nowMs);
    },
  });
}
