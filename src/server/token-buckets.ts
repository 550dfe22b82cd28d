import { RecencyMap } from './recency-map.js';

/** A token bucket for each of a bounded number of keys, to slow what one peer may do. */
export type TokenBuckets = ReturnType<typeof createTokenBuckets>;

/** What comes back is added up in parts, whose sum can miss the last digits of a token: who waited as long as was said gets it. */
const token = 1 - 1e-9;

/**
 * Makes buckets that are full when first used. At `maxKeys` the key used longest ago is forgotten, and with it what it
 * has used up; it is the one whose bucket had most time to fill.
 *
 * @param options.capacity most tokens of one bucket, at least 1.
 * @param options.perSecond tokens that come back in a second, over 0.
 * @param options.nowMs a monotonic clock.
 */
export function createTokenBuckets(options: {
  readonly capacity: number;
  readonly perSecond: number;
  readonly maxKeys: number;
  readonly nowMs?: () => number;
}) {
  const { capacity, perSecond, maxKeys, nowMs = () => performance.now() } = options;
  const buckets = new RecencyMap<string, { tokens: number; atMs: number }>(maxKeys);

  const fill = (key: string) => {
    const now = nowMs();
    const bucket = buckets.use(key);
    if (bucket === undefined) {
      const full = { tokens: capacity, atMs: now };
      buckets.set(key, full);
      return full;
    }
    bucket.tokens = Math.min(capacity, bucket.tokens + ((now - bucket.atMs) * perSecond) / 1_000);
    bucket.atMs = now;
    return bucket;
  };

  const untilToken = (tokens: number) =>
    tokens >= token ? 0 : Math.ceil(((token - tokens) * 1_000) / perSecond);

  return {
    /** How long until the key's bucket has a token, in ms; 0: it has one. Takes none, and remembers nothing. */
    wait(key: string): number {
      const bucket = buckets.get(key);
      if (bucket === undefined) return 0;
      const tokens = bucket.tokens + ((nowMs() - bucket.atMs) * perSecond) / 1_000;
      return untilToken(tokens);
    },
    /**
     * Takes a token of the key's bucket.
     *
     * @returns 0 when there was one; else how long until there will be, in ms, and none is taken.
     */
    take(key: string): number {
      const bucket = fill(key);
      const waitMs = untilToken(bucket.tokens);
      if (waitMs === 0) bucket.tokens -= 1;
      return waitMs;
    },
    /** Gives a token back that was taken in vain, never over the capacity. */
    giveBack(key: string): void {
      const bucket = buckets.get(key);
      if (bucket !== undefined) bucket.tokens = Math.min(capacity, bucket.tokens + 1);
    },
    /** Keys remembered. */
    get size(): number {
      return buckets.size;
    },
  };
}
