/** Buckets to each doubling: a quantile is read with an error of at most a sixteenth. */
const bucketsPerDoubling = 16;
const firstExponent = 4;
/** The longest latency that is told from longer ones: 2^31 µs, 35 minutes. */
const longestUs = 0x7fffffff;
/** A turn of the event loop is timed at its beginning, so what arrives in it may seem to come later. */
const longestTurnUs = 60_000_000;
const bucketCount = (31 - firstExponent) * bucketsPerDoubling + bucketsPerDoubling;

/** What a histogram held at one time. */
export interface LatencySnapshot {
  /** Latencies recorded. */
  readonly count: number;
  readonly sumUs: number;
  /** How many fell into each bucket; `bucketFloorUs` says where a bucket begins. */
  readonly buckets: Float64Array;
}

/**
 * Latencies in buckets that grow with the latency: linear within a doubling. Recording costs a few instructions and
 * allocates nothing, so that it can be done for every message.
 */
export function openLatencyHistogram() {
  const buckets = new Float64Array(bucketCount);
  /** Count and sum, in an array so that no number is boxed. */
  const totals = new Float64Array(2);
  return {
    /** @param us whole microseconds of 32 bits; a little below zero counts as 0, below that as the longest. */
    record(us: number): void {
      const value = us >= 0 ? us : us > -longestTurnUs ? 0 : longestUs;
      const bucket = bucketOf(value);
      buckets[bucket] = (buckets[bucket] as number) + 1;
      totals[0] = (totals[0] as number) + 1;
      totals[1] = (totals[1] as number) + value;
    },
    snapshot: (): LatencySnapshot => ({
      count: totals[0] as number,
      sumUs: totals[1] as number,
      buckets: buckets.slice(),
    }),
  };
}

function bucketOf(us: number): number {
  if (us < bucketsPerDoubling) return us;
  const shift = 31 - Math.clz32(us) - firstExponent;
  return shift * bucketsPerDoubling + (us >>> shift);
}

/** The smallest latency of a bucket, µs. */
export function bucketFloorUs(bucket: number): number {
  if (bucket < 2 * bucketsPerDoubling) return bucket;
  const shift = Math.floor(bucket / bucketsPerDoubling) - 1;
  return (bucket - shift * bucketsPerDoubling) * 2 ** shift;
}

/** What was recorded between two snapshots. */
export function subtractLatency(now: LatencySnapshot, before: LatencySnapshot): LatencySnapshot {
  return {
    count: now.count - before.count,
    sumUs: now.sumUs - before.sumUs,
    buckets: now.buckets.map((count, bucket) => count - (before.buckets[bucket] ?? 0)),
  };
}

/**
 * The latency that a share of the messages did not exceed, ms; undefined when there were none.
 *
 * @param share between 0 and 1: 0.5 for the median.
 */
export function readQuantileMs(latency: LatencySnapshot, share: number): number | undefined {
  if (latency.count === 0) return undefined;
  const wanted = Math.max(1, Math.ceil(latency.count * share));
  let seen = 0;
  for (let bucket = 0; bucket < bucketCount; bucket += 1) {
    seen += latency.buckets[bucket] ?? 0;
    if (seen >= wanted) return (bucketFloorUs(bucket) + bucketFloorUs(bucket + 1)) / 2_000;
  }
  return longestUs / 1_000;
}

/** How many latencies were below a power of two of microseconds, exactly: 2^`exponent`, from 2^4 to 2^31. */
export function countBelowPowerOfTwo(latency: LatencySnapshot, exponent: number): number {
  const end = (exponent - firstExponent + 1) * bucketsPerDoubling;
  let below = 0;
  for (let bucket = 0; bucket < end; bucket += 1) below += latency.buckets[bucket] ?? 0;
  return below;
}
