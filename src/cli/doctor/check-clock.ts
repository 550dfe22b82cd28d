import { type Finding, ok, problem, warning } from './finding.js';

const toleratedMs = 2_000;
const intolerableMs = 60_000;

/** Compares the clock of another machine, asked and answered at times of this one, with this one's. */
export function checkClock(
  whose: string,
  { now, askedMs, answeredMs }: { now: Date; askedMs: number; answeredMs: number },
): Finding {
  const uncertainMs = (answeredMs - askedMs) / 2;
  const aheadMs = now.getTime() - (askedMs + uncertainMs);
  const offMs = Math.max(0, Math.abs(aheadMs) - uncertainMs);
  if (offMs <= toleratedMs) return ok('clock', `This clock and that of ${whose} agree`);
  const seconds = Math.round(Math.abs(aheadMs) / 1_000);
  const detail = `The clock of ${whose} is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} this one`;
  const action =
    'Have both machines keep time by NTP: expiry of devices, keys and certificates depends on it';
  return offMs > intolerableMs ? problem('clock', detail, action) : warning('clock', detail, action);
}
