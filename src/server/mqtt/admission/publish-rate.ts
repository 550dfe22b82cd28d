import { withFastGetters } from '../../fast-getters.js';
/** Who waits for a token. */
export interface RateWaiter {
  /** There may be a token now. */
  onRoom(): void;
}

/** How fast a device may send. */
export interface RateLimits {
  /** Tokens that come back in a second, over 0. */
  readonly perSecond: number;
  /** Most tokens that the bucket holds; at least one. */
  readonly burst: number;
}

/** Waiters are not called more often: a turn of the event loop for every message would cost more than the message. */
const minWaitMs = 10;
/** The waiter called last leaves tokens for the next one when it needs no more. */
const nextWaiterMs = 1;

export type PublishRate = ReturnType<typeof openPublishRate>;

/** Keeps a bucket whose limits are as wanted, else makes a full one. */
export function updatePublishRate(
  rate: PublishRate | undefined,
  limits: RateLimits | undefined,
): PublishRate | undefined {
  if (limits === undefined) return undefined;
  const same = rate?.limits.perSecond === limits.perSecond && rate.limits.burst === limits.burst;
  return same ? rate : openPublishRate(limits, performance.now());
}

/**
 * Makes a token bucket: how many messages a device may send, by all its clients on this replica.
 *
 * @param fullAtMs that of a bucket which this one goes on for; without it the bucket is full.
 */
export function openPublishRate(limits: RateLimits, nowMs: number, fullAtMs = nowMs) {
  const { perSecond } = limits;
  const burst = Math.max(1, limits.burst);
  let tokens = Math.min(burst, burst - ((fullAtMs - nowMs) * perSecond) / 1_000);
  let atMs = nowMs;
  const waiting = new Set<RateWaiter>();
  let timer: NodeJS.Timeout | undefined;

  function fill(now: number): void {
    if (now <= atMs) return;
    tokens = Math.min(burst, tokens + ((now - atMs) * perSecond) / 1_000);
    atMs = now;
  }

  function wake(): void {
    timer = undefined;
    fill(performance.now());
    if (tokens >= 1) {
      // Only one, or the first would take what there is and be the first again.
      for (const waiter of waiting) {
        waiting.delete(waiter);
        waiter.onRoom();
        break;
      }
    }
    if (waiting.size > 0) arm();
  }

  function arm(): void {
    const waitMs =
      tokens >= 1 ? nextWaiterMs : Math.max(minWaitMs, Math.ceil(((1 - tokens) * 1_000) / perSecond));
    timer ??= setTimeout(wake, waitMs).unref();
  }

  return withFastGetters({
    limits,
    /** When the bucket is full if nothing more is taken; past: it is. */
    get fullAtMs(): number {
      return atMs + ((burst - tokens) * 1_000) / perSecond;
    },
    /** Takes a token if there is one. */
    take(now: number): boolean {
      fill(now);
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
    /** Calls back once, when there may be a token: one waiter after the other, the one who asked first first. */
    wait(waiter: RateWaiter, now: number): void {
      fill(now);
      waiting.add(waiter);
      arm();
    },
    /** Takes the request back. */
    cancel(waiter: RateWaiter): void {
      waiting.delete(waiter);
      if (waiting.size > 0) return;
      clearTimeout(timer);
      timer = undefined;
    },
  });
}
