/** Steps between two powers of two: a quantile is at most 1/64 too high. */
const stepsBits = 6;
const steps = 1 << stepsBits;
const buckets = (31 - stepsBits + 1) * steps;

/** Times in µs, counted in buckets whose width grows with the time: recording one allocates nothing. */
export interface Histogram {
  readonly count: number;
  record(us: number): void;
  clear(): void;
  /** The bucket counts, for another process. */
  toJson(): number[];
}

export interface Quantiles {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

export function openHistogram(): Histogram {
  const counts = new Float64Array(buckets);
  let count = 0;
  return {
    get count() {
      return count;
    },
    record(us) {
      const value = us > 0x7fff_ffff ? 0x7fff_ffff : us | 0;
      const shift = 32 - Math.clz32(value >>> stepsBits);
      // Below two times `steps` every µs has a bucket of its own.
      const index = shift <= 1 ? value : shift * steps + ((value >>> (shift - 1)) - steps);
      counts[index] = (counts[index] as number) + 1;
      count += 1;
    },
    clear() {
      counts.fill(0);
      count = 0;
    },
    toJson: () => [...counts],
  };
}

export function readQuantiles(counts: readonly number[]): Quantiles {
  const total = counts.reduce((sum, each) => sum + each, 0);
  const at = (share: number) => {
    let left = Math.max(1, Math.ceil(total * share));
    for (const [index, each] of counts.entries()) {
      left -= each;
      if (each > 0 && left <= 0) return upperBound(index);
    }
    return 0;
  };
  return { p50Us: at(0.5), p99Us: at(0.99), p999Us: at(0.999), maxUs: at(1) };
}

function upperBound(index: number): number {
  const shift = Math.floor(index / steps);
  if (shift <= 1) return index;
  return (((index % steps) + steps + 1) << (shift - 1)) - 1;
}
