import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bucketFloorUs,
  countBelowPowerOfTwo,
  openLatencyHistogram,
  readQuantileMs,
  subtractLatency,
} from '../../src/server/mqtt/live/latency-histogram.js';

const latencyUs = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 0x7fffffff }));
const latencies = fc.array(latencyUs, { minLength: 1, maxLength: 200 });

function record(values: readonly number[]) {
  const histogram = openLatencyHistogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

describe('the latency histogram', () => {
  test('reads quantiles within a sixteenth of the exact ones', () => {
    fc.assert(
      fc.property(latencies, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const sorted = values.toSorted((one, two) => one - two);
        const exact = sorted[Math.max(1, Math.ceil(values.length * share)) - 1] as number;
        const read = (readQuantileMs(record(values).snapshot(), share) as number) * 1_000;
        expect(Math.abs(read - exact)).toBeLessThanOrEqual(1 + exact / 16);
      }),
    );
  });

  test('counts what is below a power of two exactly', () => {
    fc.assert(
      fc.property(latencies, fc.integer({ min: 4, max: 31 }), (values, exponent) => {
        const expected = values.filter((value) => value < 2 ** exponent).length;
        expect(countBelowPowerOfTwo(record(values).snapshot(), exponent)).toBe(expected);
      }),
    );
  });

  test('puts every latency into the bucket that begins at or below it', () => {
    fc.assert(
      fc.property(latencyUs, (value) => {
        const bucket = record([value]).snapshot().buckets.indexOf(1);
        expect(bucketFloorUs(bucket)).toBeLessThanOrEqual(value);
        expect(bucketFloorUs(bucket + 1)).toBeGreaterThan(value);
      }),
    );
  });

  test('tells what was recorded between two snapshots, sum included', () => {
    const histogram = record([10, 10, 10]);
    const before = histogram.snapshot();
    histogram.record(5_000);
    const between = subtractLatency(histogram.snapshot(), before);
    expect(between).toMatchObject({ count: 1, sumUs: 5_000 });
    expect(readQuantileMs(between, 0.5)).toBeCloseTo(5, 0);
    expect(before.count).toBe(3);
  });

  test('has no quantile without a latency', () => {
    expect(readQuantileMs(openLatencyHistogram().snapshot(), 0.5)).toBeUndefined();
  });

  test('takes a latency before the beginning of the turn as none, and one beyond 32 bits as the longest', () => {
    expect(record([-1_000]).snapshot().sumUs).toBe(0);
    expect(record([-0x80000000]).snapshot().sumUs).toBe(0x7fffffff);
  });
});
