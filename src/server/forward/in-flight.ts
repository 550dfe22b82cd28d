import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import type { ForwarderCounters, Lane, LaneTrouble, TroubleSum, UplinkMessage } from './forwarder.js';
import { openSlots, slotFree, slotHeld, slotSent, slotWaiting } from './slots.js';
import { openTroubles, type Standstill } from './troubles.js';

const firstBackoffMs = 100;
const lastBackoffMs = 5_000;
const decoder = new TextDecoder();

/** How messages leave, as far as what is in flight must know. */
export interface Outlet {
  /** A message given to `send` now goes to NATS rather than into a buffer. */
  readonly open: boolean;
  /**
   * Sends a message; its answer comes as `settle…(token)`. Answers whether it has left: else it leaves when
   * `departed(token)` is called. Throws when it cannot be sent.
   *
   * @param group what `groupOf` has just answered.
   */
  send(message: UplinkMessage, token: number, group: number): boolean;
  /**
   * With which others the message would stand or fall if it were sent now: a batch, or 0 when it is confirmed by itself.
   *
   * @param again it was sent before, and is perhaps stored.
   */
  groupOf(message: UplinkMessage, again: boolean): number;
}

/**
 * The messages that wait for their confirmation, in lanes. A lane is open or holding. Open, it sends what it is
 * given. A failure makes it hold: it sends nothing until every message under way is settled, waits, and tries the
 * oldest one alone; when that is stored it sends the others in order and is open again.
 *
 * A lane is in one batch at a time. A batch is stored as a whole or not at all; were later messages of the lane already under
 * way in the next one, they would be stored before those of a batch that was refused.
 */
export interface InFlight {
  readonly count: number;
  readonly bytes: number;
  /** Messages that were sent and are not answered. */
  readonly underWay: number;
  readonly holdingLanes: number;
  /** Nothing is stored, and why. */
  readonly standstill: Standstill | undefined;
  /** See `Forwarder.troubles`. */
  troubles(): TroubleSum[];
  openLane(sendUnconfirmed: (message: UplinkMessage) => void): Lane;
  /** The outlet is about to send what it has kept. Answers whether it is still to be sent. */
  departed(token: number, atMs: number): boolean;
  /** The message of this token is stored. Unknown and old tokens are ignored. */
  settleStored(token: number): void;
  /** NATS refused the message of this token; `permanent` when it always will. */
  settleRefused(token: number, refusal: { cause: string; detail: string; permanent: boolean }): void;
  /** NATS refused what was sent to these subjects: what is under way to them is tried again later. */
  settleDenied(subjects: ReadonlySet<string>): void;
  /** The connection is gone: everything under way is to be sent again, in order. */
  loseAll(): void;
  /** The outlet was closed for a while and is open again: what is under way gets its full time. */
  restartTimeouts(): void;
  /** Sends what may be sent now. */
  pump(): void;
  /** Time passes here, and in `tick`, and nowhere else. */
  passTo(nowMs: number): void;
  /** Regular work. */
  tick(nowMs: number): void;
}

interface LaneState {
  inFlight: number;
  /** Messages under way. */
  sent: number;
  /** The group of the messages under way. */
  group: number;
  holding: boolean;
  /** The message tried alone, or 0. */
  probe: number;
  /** Tokens to be sent; some may have been settled meanwhile. */
  waiting: number[];
  failures: number;
  resumeAtMs: number;
  /** The last failure since the lane was open. */
  trouble: (Omit<LaneTrouble, 'subject'> & { readonly subject: Uint8Array }) | undefined;
  closed: boolean;
  /** What waits is being sent: a refusal meanwhile does not begin that anew. */
  sending: boolean;
}

export function openInFlight(options: {
  outlet: Outlet;
  /** Confirmations missing for so long count as failures. */
  ackTimeoutMs: number;
  counters: ForwarderCounters;
  log: Log;
  /** The bound is reached. */
  full(): boolean;
  /** There is more room than before. */
  onRoom(): void;
}): InFlight {
  const { outlet, ackTimeoutMs, counters } = options;
  const late = `no confirmation within ${ackTimeoutMs} ms: the disk of NATS is full or slow, or its stream has no leader`;
  const slots = openSlots<LaneState>();
  const troubles = openTroubles(options.log);
  /** Lanes with something to send. */
  const pending = new Set<LaneState>();
  let count = 0;
  let bytes = 0;
  let underWay = 0;
  const holdingLanes = new Set<LaneState>();
  /** Since when nothing can be sent. */
  let closedAtMs: number | undefined;
  let nowMs = performance.now();
  let tickedAtMs = nowMs;

  function take(lane: LaneState, message: UplinkMessage): void {
    const token = slots.take(message, lane);
    lane.inFlight += 1;
    count += 1;
    bytes += sizeOf(message);
    const slot = slots.find(token);
    if (lane.waiting.length === 0 && maySend(lane, slot)) {
      send(lane, slot);
    } else {
      wait(lane, token);
    }
  }

  /** Whether the message may be sent now; it then has to be, since it has its place in a batch. */
  function maySend(lane: LaneState, slot: number): boolean {
    if (!outlet.open || lane.holding) return false;
    return lane.sent === 0 || lane.group === groupOf(slot);
  }

  function groupOf(slot: number): number {
    return outlet.groupOf(slots.message(slot), slots.sentAtMs(slot) > 0);
  }

  function wait(lane: LaneState, token: number): void {
    lane.waiting.push(token);
    pending.add(lane);
  }

  function send(lane: LaneState, slot: number): void {
    const token = slots.token(slot);
    const message = slots.message(slot);
    lane.group = groupOf(slot);
    lane.sent += 1;
    slots.setHeld(slot);
    try {
      if (outlet.send(message, token, lane.group)) setSent(slot, nowMs);
    } catch (error) {
      fail(slot, 'send_failed', messageOf(error));
    }
  }

  function setSent(slot: number, atMs: number): void {
    if (slots.phase(slot) !== slotSent) underWay += 1;
    slots.setSent(slot, atMs);
  }

  /** It is not on its way any more. */
  function setBack(slot: number): void {
    const phase = slots.phase(slot);
    if (phase === slotSent) underWay -= 1;
    if (phase === slotSent || phase === slotHeld) slots.lane(slot).sent -= 1;
  }

  /** It was not sent, and waits for its lane. */
  function takeBack(slot: number): void {
    setBack(slot);
    slots.setWaiting(slot);
    wait(slots.lane(slot), slots.token(slot));
  }

  function forget(slot: number): UplinkMessage {
    const message = slots.message(slot);
    const lane = slots.lane(slot);
    setBack(slot);
    slots.release(slot);
    lane.inFlight -= 1;
    count -= 1;
    bytes -= sizeOf(message);
    return message;
  }

  function settleStored(token: number): void {
    const slot = slots.find(token);
    if (slot < 0) return;
    const lane = slots.lane(slot);
    const message = forget(slot);
    counters.stored += 1;
    message.onStored();
    if (!lane.holding) goOn(lane);
    else if (lane.probe === token) open(lane);
    options.onRoom();
  }

  function settleRefused(
    token: number,
    refusal: { cause: string; detail: string; permanent: boolean },
  ): void {
    const slot = slots.find(token);
    if (slot < 0 || slots.phase(slot) === slotWaiting) return;
    if (!refusal.permanent) {
      counters.retriedRefused += 1;
      fail(slot, refusal.cause, refusal.detail);
      return;
    }
    const lane = slots.lane(slot);
    const behind = lane.closed ? [] : waitingBehind(slot);
    refuse(slot, refusal.detail);
    for (const token of behind) giveUp(token, 'a message before it was refused');
    if (!lane.holding) goOn(lane);
  }

  /** A message is never sent again. */
  function refuse(slot: number, detail: string): void {
    const lane = slots.lane(slot);
    if (lane.probe === slots.token(slot)) lane.probe = 0;
    counters.refused += 1;
    forget(slot).onRefused(detail);
    options.onRoom();
  }

  /**
   * What waits, or is held, behind a message that NATS will never take. Its client loses its connection and sends all of it again, the
   * refused one first: sent now, the later ones would be stored ahead of it. A client that is gone may not come back, so
   * what it left is sent.
   */
  function waitingBehind(slot: number): number[] {
    const tokens: number[] = [];
    for (let other = 0; other < slots.used; other += 1) {
      const phase = slots.phase(other);
      if (phase !== slotWaiting && phase !== slotHeld) continue;
      if (slots.lane(other) === slots.lane(slot) && slots.order(other) > slots.order(slot)) {
        tokens.push(slots.token(other));
      }
    }
    return tokens.sort((one, two) => slots.order(slots.find(one)) - slots.order(slots.find(two)));
  }

  function giveUp(token: number, detail: string): void {
    const slot = slots.find(token);
    if (slot >= 0) refuse(slot, detail);
  }

  /** Holds a message that has waited against the policy of now; answers whether it may be sent. */
  function renew(slot: number): boolean {
    const message = slots.message(slot);
    const before = sizeOf(message);
    const problem = message.renew();
    bytes += sizeOf(message) - before;
    if (problem === undefined) return true;
    const lane = slots.lane(slot);
    refuse(slot, problem);
    if (!lane.holding) goOn(lane);
    return false;
  }

  /** The group before is settled: the lane may join the next one. */
  function goOn(lane: LaneState): void {
    if (lane.sent === 0 && lane.waiting.length > 0 && !lane.sending) sendWaiting(lane);
  }

  /** A message under way failed and is to be sent again. */
  function fail(slot: number, cause: string, detail: string): void {
    const lane = slots.lane(slot);
    const token = slots.token(slot);
    setBack(slot);
    slots.setWaiting(slot);
    if (!lane.holding || lane.probe === token) {
      lane.resumeAtMs = nowMs + Math.min(firstBackoffMs * 2 ** lane.failures, lastBackoffMs);
      lane.failures = Math.min(lane.failures + 1, 16);
    }
    hold(lane);
    if (lane.probe === token) lane.probe = 0;
    wait(lane, token);
    const { subject } = slots.message(slot);
    lane.trouble = { cause, detail, subject, sinceMs: lane.trouble?.sinceMs ?? nowMs };
    troubles.note(cause, detail, nowMs);
  }

  function hold(lane: LaneState): void {
    holdingLanes.add(lane);
    lane.holding = true;
  }

  function open(lane: LaneState): void {
    holdingLanes.delete(lane);
    lane.holding = false;
    lane.trouble = undefined;
    lane.probe = 0;
    lane.failures = 0;
    sendWaiting(lane);
  }

  /** Tokens still to be sent, oldest first. */
  function settleWaiting(lane: LaneState): number[] {
    const live = lane.waiting.filter((token) => {
      const slot = slots.find(token);
      return slot >= 0 && slots.phase(slot) === slotWaiting;
    });
    live.sort((one, two) => slots.order(slots.find(one)) - slots.order(slots.find(two)));
    lane.waiting = live;
    return live;
  }

  function sendWaiting(lane: LaneState): void {
    const tokens = settleWaiting(lane);
    let sent = 0;
    lane.sending = true;
    // What is given meanwhile, a will perhaps, comes behind them: it is added to the same list.
    while (sent < tokens.length) {
      const slot = slots.find(tokens[sent] ?? 0);
      // Given up meanwhile, behind one that was refused.
      if (slot < 0 || !renew(slot)) {
        sent += 1;
        continue;
      }
      if (!maySend(lane, slot)) break;
      sent += 1;
      send(lane, slot);
    }
    lane.sending = false;
    lane.waiting = tokens.slice(sent);
    if (lane.waiting.length === 0) pending.delete(lane);
  }

  function resume(lane: LaneState): void {
    if (!lane.holding) {
      sendWaiting(lane);
      return;
    }
    if (lane.sent > 0 || nowMs < lane.resumeAtMs) return;
    const [oldest] = settleWaiting(lane);
    if (oldest === undefined) {
      pending.delete(lane);
      open(lane);
      return;
    }
    const slot = slots.find(oldest);
    if (!renew(slot)) return;
    lane.waiting.shift();
    lane.probe = oldest;
    send(lane, slot);
  }

  function pump(): void {
    for (const lane of [...pending]) {
      if (!outlet.open) return;
      resume(lane);
    }
  }

  function troubleOf(lane: LaneState): LaneTrouble | undefined {
    if (lane.inFlight === 0) return undefined;
    if (!outlet.open) {
      const detail = 'NATS is away, or does not answer';
      return { cause: 'nats_away', detail, subject: undefined, sinceMs: closedAtMs ?? nowMs };
    }
    const { trouble } = lane;
    return trouble && { ...trouble, subject: Buffer.from(trouble.subject).toString() };
  }

  function sumTroubles(): TroubleSum[] {
    const sums = new Map<string, { cause: string; detail: string; lanes: number; sinceMs: number }>();
    for (const lane of holdingLanes) {
      const trouble = troubleOf(lane);
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

  function eachSent(visit: (slot: number) => void): void {
    for (let slot = 0; slot < slots.used; slot += 1) {
      if (slots.phase(slot) === slotSent) visit(slot);
    }
  }

  function settleDenied(subjects: ReadonlySet<string>): void {
    eachSent((slot) => {
      const subject = decoder.decode(slots.message(slot).subject);
      if (!subjects.has(subject)) return;
      counters.retriedRefused += 1;
      fail(slot, 'publish_denied', `the user may not publish to ${subject}`);
    });
  }

  /** For messages that wait: in the ordinary course one is stored before a whole tick has passed over it. */
  function compactWaiting(lastTickMs: number): void {
    for (let slot = 0; slot < slots.used; slot += 1) {
      const phase = slots.phase(slot);
      if (phase === slotFree || (phase === slotSent && slots.sentAtMs(slot) >= lastTickMs)) continue;
      slots.message(slot).compact();
    }
  }

  /** At the bound, what absent clients left behind and NATS refuses makes way. */
  function abandonClosed(): void {
    for (const lane of [...pending]) {
      if (!lane.closed || !lane.holding || lane.failures === 0) continue;
      for (const token of settleWaiting(lane)) {
        counters.abandoned += 1;
        forget(slots.find(token)).onRefused('given up: the client is gone and the bound is reached');
      }
      lane.waiting = [];
      options.onRoom();
    }
  }

  return {
    get count() {
      return count;
    },
    get bytes() {
      return bytes;
    },
    get underWay() {
      return underWay;
    },
    get holdingLanes() {
      return holdingLanes.size;
    },
    get standstill() {
      return troubles.standstill;
    },
    troubles: sumTroubles,
    openLane(sendUnconfirmed) {
      const lane: LaneState = {
        inFlight: 0,
        sent: 0,
        group: 0,
        holding: false,
        probe: 0,
        waiting: [],
        failures: 0,
        resumeAtMs: 0,
        trouble: undefined,
        closed: false,
        sending: false,
      };
      return {
        get inFlight() {
          return lane.inFlight;
        },
        get trouble() {
          return troubleOf(lane);
        },
        publish(message) {
          if (message.confirm) take(lane, message);
          else sendUnconfirmed(message);
        },
        retry() {
          lane.failures = 0;
          lane.resumeAtMs = 0;
        },
        close() {
          lane.closed = true;
        },
      };
    },
    departed(token, atMs) {
      const slot = slots.find(token);
      if (slot < 0 || slots.phase(slot) === slotWaiting) return false;
      const lane = slots.lane(slot);
      if (lane.holding && lane.probe !== token) {
        takeBack(slot);
        return false;
      }
      if (slots.phase(slot) === slotHeld && !renew(slot)) return false;
      setSent(slot, atMs);
      return true;
    },
    settleStored,
    settleRefused,
    settleDenied,
    loseAll() {
      for (let slot = 0; slot < slots.used; slot += 1) {
        const phase = slots.phase(slot);
        if (phase !== slotSent && phase !== slotHeld) continue;
        if (phase === slotSent) counters.retriedReconnect += 1;
        setBack(slot);
        slots.setWaiting(slot);
        wait(slots.lane(slot), slots.token(slot));
      }
      for (const lane of pending) {
        // The oldest goes first and alone: a stream that is not there yet refuses one message and not thousands.
        hold(lane);
        lane.sent = 0;
        lane.probe = 0;
        lane.failures = 0;
        lane.resumeAtMs = 0;
      }
    },
    restartTimeouts() {
      eachSent((slot) => slots.setSent(slot, nowMs));
    },
    pump,
    passTo(now) {
      nowMs = now;
    },
    tick(now) {
      compactWaiting(tickedAtMs);
      nowMs = now;
      tickedAtMs = now;
      closedAtMs = outlet.open ? undefined : (closedAtMs ?? nowMs);
      if (outlet.open) {
        eachSent((slot) => {
          if (nowMs - slots.sentAtMs(slot) < ackTimeoutMs) return;
          counters.retriedTimeout += 1;
          fail(slot, 'timeout', late);
        });
        pump();
      }
      if (options.full()) abandonClosed();
      troubles.check(holdingLanes.size > 0, counters.stored, nowMs);
    },
  };
}

function sizeOf(message: UplinkMessage): number {
  return message.subject.length + message.headers.length + message.payload.length;
}
