import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { openPublishRate, updatePublishRate } from '../../src/server/mqtt/admission/publish-rate.js';
import { openSpentRates } from '../../src/server/mqtt/admission/spent-rates.js';

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

  it('gives the same when it is put away and opened again in between', () => {
    const steps = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 400 }), away: fc.boolean() }));
    fc.assert(
      // Whole tokens come back at whole milliseconds, so that both count without fractions.
      fc.property(fc.integer({ min: 1, max: 20 }), steps, (burst, all) => {
        const kept = openPublishRate({ perSecond: 1_000, burst }, 0);
        let nowMs = 0;
        const spent = openSpentRates({ maxDevices: 1, nowMs: () => nowMs });
        let rate = openPublishRate({ perSecond: 1_000, burst }, 0);
        for (const { gap, away } of all) {
          if (away) spent.put('device', rate);
          nowMs += gap;
          if (away) rate = spent.take('device') ?? openPublishRate({ perSecond: 1_000, burst }, nowMs);
          expect(spent.size).toBe(0);
          expect(rate.take(nowMs)).toBe(kept.take(nowMs));
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

describe('rates of devices that have left', () => {
  let nowMs = 0;
  /** A rate of which `seconds` have to pass until all of it has come back. */
  const spentFor = (seconds: number) => {
    const rate = openPublishRate({ perSecond: 1, burst: 10 }, nowMs);
    for (let count = 0; count < seconds; count += 1) rate.take(nowMs);
    return rate;
  };
  const open = (maxDevices: number) => {
    nowMs = 0;
    return openSpentRates({ maxDevices, nowMs: () => nowMs });
  };

  it('are kept until all of them has come back, and no longer', () => {
    const spent = open(10);
    for (const [device, seconds] of Object.entries({ none: 0, some: 2, all: 10 })) {
      spent.put(device, spentFor(seconds));
    }
    expect(spent.size).toBe(2);
    nowMs = 2_000;
    spent.sweep();
    expect(spent.size).toBe(1);
    expect(spent.take('some')).toBeUndefined();
    const rate = spent.take('all');
    expect([rate?.take(nowMs), rate?.take(nowMs), rate?.take(nowMs)]).toEqual([true, true, false]);
    expect(spent.size).toBe(0);
  });

  it('are replaced when the device leaves again, and forgotten when nothing is used up any more', () => {
    const spent = open(10);
    spent.put('device', spentFor(10));
    spent.put('device', spentFor(1));
    expect(spent.take('device')?.fullAtMs).toBe(1_000);
    spent.put('device', spentFor(10));
    spent.put('device', spentFor(0));
    expect(spent.size).toBe(0);
  });

  it('are bounded: the one put away longest ago is forgotten', () => {
    const spent = open(2);
    for (const device of ['a', 'b', 'a', 'c']) spent.put(device, spentFor(10));
    expect(spent.size).toBe(2);
    expect([spent.take('b'), spent.take('a')?.fullAtMs, spent.take('c')?.fullAtMs]).toEqual([
      undefined,
      10_000,
      10_000,
    ]);
  });
});
