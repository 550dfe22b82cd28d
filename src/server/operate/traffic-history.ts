import { type LatencySnapshot, readQuantileMs, subtractLatency } from '../mqtt/live/latency-histogram.js';

/** Messages with devices, and bytes of their payloads. */
export interface Traffic<T = number> {
  readonly messagesIn: T;
  readonly messagesOut: T;
  readonly bytesIn: T;
  readonly bytesOut: T;
}

interface Sample extends Traffic {
  readonly atMs: number;
}

const intervalMs = 1_000;
const keptSamples = 61;
/** Rates are averages of so many seconds. */
const rateSeconds = 3;
/** Latencies are those of so many seconds. */
const latencySeconds = 10;

/** Keeps the last minute of traffic, a number a second. */
export function startTrafficHistory(
  /** What is counted since the start of the process. */
  readTotals: () => Traffic,
  readLatency: () => LatencySnapshot,
) {
  const samples: Sample[] = [{ atMs: performance.now(), ...readTotals() }];
  const latencies: LatencySnapshot[] = [readLatency()];

  function takeSample(): void {
    samples.push({ atMs: performance.now(), ...readTotals() });
    if (samples.length > keptSamples) samples.shift();
    latencies.push(readLatency());
    if (latencies.length > latencySeconds) latencies.shift();
  }

  /** A second's worth between two samples, which are not exactly a second apart. */
  function perSecond(from: Sample, to: Sample, name: keyof Traffic): number {
    const passedMs = Math.max(1, to.atMs - from.atMs);
    return Math.round(((to[name] - from[name]) * 10_000) / passedMs) / 10;
  }

  function series(name: keyof Traffic): number[] {
    return samples.slice(1).map((to, index) => perSecond(samples[index] as Sample, to, name));
  }

  function each<T>(read: (name: keyof Traffic) => T): Traffic<T> {
    return {
      messagesIn: read('messagesIn'),
      messagesOut: read('messagesOut'),
      bytesIn: read('bytesIn'),
      bytesOut: read('bytesOut'),
    };
  }

  const timer = setInterval(takeSample, intervalMs);
  timer.unref();
  return {
    /** The latest last. */
    read: (): Traffic<number[]> => each(series),
    /** Averages of the last seconds. */
    rates(): Traffic {
      const to = samples.at(-1) as Sample;
      const from = samples.at(-1 - rateSeconds) ?? (samples[0] as Sample);
      return each((name) => perSecond(from, to, name));
    },
    quantiles(): { p50Ms: number | undefined; p99Ms: number | undefined } {
      const recent = subtractLatency(readLatency(), latencies[0] as LatencySnapshot);
      return { p50Ms: readQuantileMs(recent, 0.5), p99Ms: readQuantileMs(recent, 0.99) };
    },
    close: (): void => clearInterval(timer),
  };
}
