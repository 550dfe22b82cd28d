import type { Check } from './finding.js';

const toleratedMs = 2_000;
const intolerableMs = 60_000;

/** Compares the clock of another machine, asked and answered at times of this one, with this one's. */
export function checkClock(
  { ok, warning, problem }: Pick<Check, 'ok' | 'warning' | 'problem'>,
  whose: string,
  { now, askedMs, answeredMs }: { now: Date; askedMs: number; answeredMs: number },
): void {
  const uncertainMs = (answeredMs - askedMs) / 2;
  const aheadMs = now.getTime() - (askedMs + uncertainMs);
  const offMs = Math.max(0, Math.abs(aheadMs) - uncertainMs);
  if (offMs <= toleratedMs) {
    ok(`This clock and that of ${whose} agree`);
    return;
  }
  const seconds = Math.round(Math.abs(aheadMs) / 1_000);
  const find = offMs > intolerableMs ? problem : warning;
  find(
    `The clock of ${whose} is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} this one`,
    'Have both machines keep time by NTP: expiry of devices, keys and certificates depends on it',
  );
}
