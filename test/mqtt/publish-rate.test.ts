import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { openPublishRate, updatePublishRate } from '../../src/server/mqtt/publish-rate.js';

describe('a token bucket', () => {
  const limits = fc.record({
    perSecond: fc.integer({ min: 1, max: 5_000 }),
    burst: fc.integer({ min: 1, max: 1_000 }),
  });
  const pauses = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 300 });

  it('never gives more in any span than the burst and what came back in it, and at least what a full one has', () => {
    fc.assert(
      fc.property(limits, pauses, (wanted, gaps) => {
        const rate = openPublishRate(wanted, 0);
        const takenAtMs: number[] = [];
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          if (rate.take(nowMs)) takenAtMs.push(nowMs);
        }
        for (const [first, fromMs] of takenAtMs.entries()) {
          for (let last = first; last < takenAtMs.length; last += 1) {
            const spanMs = (takenAtMs[last] as number) - fromMs;
            expect(last - first + 1).toBeLessThanOrEqual(
              wanted.burst + (spanMs * wanted.perSecond) / 1_000 + 1e-6,
            );
          }
        }
        expect(takenAtMs.length).toBeGreaterThanOrEqual(Math.min(gaps.length, wanted.burst));
      }),
    );
  });

  it('takes exactly the messages that a naive count allows', () => {
    fc.assert(
      // Whole tokens come back at whole milliseconds, so that the reference needs no fractions.
      fc.property(fc.integer({ min: 1, max: 20 }), pauses, (burst, gaps) => {
        const rate = openPublishRate({ perSecond: 1_000, burst }, 0);
        let tokens = burst;
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          tokens = Math.min(burst, tokens + gap);
          const allowed = tokens >= 1;
          if (allowed) tokens -= 1;
          expect(rate.take(nowMs)).toBe(allowed);
        }
      }),
    );
  });

  it('holds at least one token, however small the burst', () => {
    const rate = openPublishRate({ perSecond: 1, burst: 0 }, 0);
    expect([rate.take(0), rate.take(1), rate.take(1_000)]).toEqual([true, false, true]);
  });

  it('calls those who wait one after the other, the first one first, and nobody who has taken it back', async () => {
    const rate = openPublishRate({ perSecond: 100, burst: 1 }, performance.now());
    const called: string[] = [];
    const waiter = (name: string) => ({
      onRoom: () => {
        called.push(name);
        if (!rate.take(performance.now())) throw new Error('called without a token');
      },
    });
    const gone = waiter('gone');
    rate.take(performance.now());
    for (const each of [waiter('a'), gone, waiter('b')]) rate.wait(each, performance.now());
    rate.cancel(gone);
    await vi.waitFor(() => expect(called).toEqual(['a', 'b']));
  });

  it('is kept while its limits stay, and replaced or dropped when they change', () => {
    const rate = updatePublishRate(undefined, { perSecond: 5, burst: 25 });
    expect(rate).toBeDefined();
    expect(updatePublishRate(rate, { perSecond: 5, burst: 25 })).toBe(rate);
    expect(updatePublishRate(rate, { perSecond: 6, burst: 25 })?.limits.perSecond).toBe(6);
    expect(updatePublishRate(rate, undefined)).toBeUndefined();
  });
});
