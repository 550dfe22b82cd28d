import { withFastGetters } from '../../fast-getters.js';
import type { UplinkMessage } from '../forwarder.js';

/** Slots a token can name; also the most messages that can be in flight. */
export const slotSpan = 2 ** 20;
const lastToken = Number.MAX_SAFE_INTEGER - slotSpan;

export const slotFree = 0;
/** Taken, and to be sent. */
export const slotWaiting = 1;
/** Sent, and not settled. */
export const slotSent = 2;
/** Handed over to be sent, soon. */
export const slotHeld = 3;

export type Slots<L> = ReturnType<typeof openSlots<L>>;

/**
 * The messages in flight, in arrays with a list of free places, so that taking and releasing one allocates nothing.
 *
 * A message is known by its token: the slot in the low 20 bits, above them how often the slot has been used. A token
 * of an earlier use never equals the current one, so a late answer cannot settle another message.
 */
export function openSlots<L>() {
  const messages: (UplinkMessage | undefined)[] = [];
  const lanes: (L | undefined)[] = [];
  const tokens: number[] = [];
  const orders: number[] = [];
  const phases: number[] = [];
  const sentAt: number[] = [];
  const free: number[] = [];
  let taken = 0;
  let bytes = 0;
  let underWay = 0;

  function held<T>(values: (T | undefined)[], slot: number): T {
    const value = values[slot];
    if (value === undefined) throw new Error(`slot ${slot} is not taken`);
    return value;
  }

  /** The slot of a token, or -1 when the token is not the current one of its slot. */
  function find(token: number): number {
    const slot = token % slotSpan;
    return tokens[slot] === token && phases[slot] !== slotFree ? slot : -1;
  }

  function setPhase(slot: number, phase: number): void {
    if (phases[slot] !== phase && messages[slot]?.batchable === true) {
      if (phases[slot] === slotSent) underWay -= 1;
      if (phase === slotSent) underWay += 1;
    }
    phases[slot] = phase;
  }

  const orderOf = (slot: number) => held(orders, slot);

  return withFastGetters({
    /** Slots that have ever been used; those to look through are below. */
    get used() {
      return messages.length;
    },
    /** Messages in flight. */
    get count() {
      return messages.length - free.length;
    },
    /** Their bytes. */
    get bytes() {
      return bytes;
    },
    /** Messages to NATS_SUBJECT that were sent and are not answered. */
    get underWay() {
      return underWay;
    },
    /** Takes a slot, phase `slotWaiting`, and answers the token. */
    take(message: UplinkMessage, lane: L): number {
      const slot = free.pop() ?? messages.length;
      if (slot >= slotSpan) throw new Error('more messages in flight than slots');
      const last = tokens[slot] ?? slot;
      const token = last > lastToken ? slot + slotSpan : last + slotSpan;
      tokens[slot] = token;
      messages[slot] = message;
      lanes[slot] = lane;
      taken += 1;
      bytes += sizeOf(message);
      orders[slot] = taken;
      phases[slot] = slotWaiting;
      sentAt[slot] = 0;
      return token;
    },
    find,
    /** Holds the message against the policy of now, which can change its size. See `UplinkMessage.renew`. */
    renew(slot: number): string | undefined {
      const message = held(messages, slot);
      bytes -= sizeOf(message);
      const problem = message.renew();
      bytes += sizeOf(message);
      return problem;
    },
    release(slot: number): void {
      bytes -= sizeOf(held(messages, slot));
      setPhase(slot, slotFree);
      messages[slot] = undefined;
      lanes[slot] = undefined;
      free.push(slot);
    },
    token: (slot: number) => held(tokens, slot),
    message: (slot: number) => held(messages, slot),
    lane: (slot: number) => held(lanes, slot),
    /** Counts up with every message taken: the order of a lane. */
    order: orderOf,
    phase: (slot: number) => phases[slot] ?? slotFree,
    /** 0: never. */
    sentAtMs: (slot: number) => sentAt[slot] ?? 0,
    setWaiting: (slot: number) => setPhase(slot, slotWaiting),
    setSent(slot: number, nowMs: number): void {
      setPhase(slot, slotSent);
      sentAt[slot] = nowMs;
    },
    setHeld: (slot: number) => setPhase(slot, slotHeld),
    /** Tokens in the order in which their messages were taken, without those that name none any more. */
    sort: (some: readonly number[]) =>
      some.filter((token) => find(token) >= 0).sort((one, two) => orderOf(find(one)) - orderOf(find(two))),
    eachSent(visit: (slot: number) => void): void {
      for (let slot = 0; slot < messages.length; slot += 1) if (phases[slot] === slotSent) visit(slot);
    },
  });
}

function sizeOf(message: UplinkMessage): number {
  return message.subject.length + message.headers.length + message.payload.length;
}
