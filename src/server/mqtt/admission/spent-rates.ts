import { openPublishRate, type PublishRate, type RateLimits } from './publish-rate.js';

/**
 * What devices that are not remembered have used up of their publish rates, until all of it has come back: a device that
 * connects anew does not have its burst anew. Keeps two numbers of each device, since a rate takes ten times as much memory. At
 * `maxDevices` the one put away longest ago is forgotten: it had most time to come back.
 *
 * @param options.nowMs a monotonic clock, that of the rates.
 */
export function openSpentRates(options: { maxDevices: number; nowMs?: () => number }) {
  const { maxDevices, nowMs = () => performance.now() } = options;
  const spent = new Map<string, { limits: RateLimits; fullAtMs: number }>();
  return {
    /** Puts the rate of a device away; it has nobody waiting. */
    put(deviceId: string, { limits, fullAtMs }: PublishRate): void {
      spent.delete(deviceId);
      if (fullAtMs <= nowMs()) return;
      if (spent.size >= maxDevices) {
        const [oldest] = spent.keys();
        spent.delete(oldest as string);
      }
      spent.set(deviceId, { limits, fullAtMs });
    },
    /** Answers the rate of a device as it was put away; undefined: there was none, or all has come back. */
    take(deviceId: string): PublishRate | undefined {
      const found = spent.get(deviceId);
      spent.delete(deviceId);
      const now = nowMs();
      if (found === undefined || found.fullAtMs <= now) return undefined;
      return openPublishRate(found.limits, now, found.fullAtMs);
    },
    /** Forgets the rates of which all has come back. */
    sweep(): void {
      const now = nowMs();
      for (const [deviceId, { fullAtMs }] of spent) if (fullAtMs <= now) spent.delete(deviceId);
    },
    /** Devices of which something is kept. */
    get size() {
      return spent.size;
    },
  };
}
