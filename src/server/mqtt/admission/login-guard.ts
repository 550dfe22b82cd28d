import { createTokenBuckets } from '../../token-buckets.js';
import type { LimitName } from '../live/limit-names.js';
import type { CloseReason } from '../protocol/close-reason.js';

/** Keys remembered of each kind; at it the one that failed longest ago is forgotten. */
const maxKeys = 100_000;
/** The longest device id there is: longer ones are nobody's, and cost no look-up. */
const maxDeviceIdLength = 128;
const minute = 60;

/** Logins that were wrong, as distinct from those that came at a bad time. */
const failures: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'bad-credentials',
  'certificate-mismatch',
  'certificate-unknown',
]);

export type LoginGuard = ReturnType<typeof openLoginGuard>;

/**
 * Refuses logins after too many wrong ones, for as long as it takes until one of them is a minute's share ago, without
 * asking the database.
 *
 * Nobody locks a device out: wrong logins as a device count for the address from which they come only, and the device
 * that logged in last from an address is always looked at from there, however many others fail beside it.
 *
 * @param options.perDevice wrong logins as one device from one address in a minute; 0: no bound.
 * @param options.perAddress wrong logins from one address in a minute; a right one makes up for a wrong one; 0: no bound.
 * @param options.maxDevices devices whose last address is remembered; at it the one that logged in longest ago is forgotten.
 */
export function openLoginGuard(options: {
  readonly perDevice: number;
  readonly perAddress: number;
  readonly maxDevices: number;
  readonly nowMs?: () => number;
}) {
  const byDevice = openBuckets(options.perDevice, options.nowMs);
  const byAddress = openBuckets(options.perAddress, options.nowMs);
  /** Where each device logged in last. */
  const homes = new Map<string, string>();

  return {
    /**
     * The bound that refuses a login, or undefined.
     *
     * @param claims ids of the device that the client may be: its user name, or else every name of its certificate, some of
     *   which may be shared by many. It is refused as a device when it would be as each of them.
     * @param address its address group, see `addressGroup`.
     */
    check(claims: readonly string[], address: string): LimitName | undefined {
      if (claims.some((deviceId) => homes.get(deviceId) === address)) return undefined;
      if (byAddress !== undefined && byAddress.wait(address) > 0) return 'failed-logins-per-address';
      if (byDevice === undefined || claims.length === 0) return undefined;
      const isUsedUp = claims.every((deviceId) => byDevice.wait(pairOf(deviceId, address)) > 0);
      return isUsedUp ? 'failed-logins-per-device' : undefined;
    },

    onSuccess(deviceId: string, address: string): void {
      byAddress?.giveBack(address);
      if (byDevice === undefined && byAddress === undefined) return;
      homes.delete(deviceId);
      homes.set(deviceId, address);
      if (homes.size <= options.maxDevices) return;
      for (const oldest of homes.keys()) {
        homes.delete(oldest);
        return;
      }
    },

    onRefused(claims: readonly string[], address: string, reason: CloseReason): void {
      if (!failures.has(reason)) return;
      byAddress?.take(address);
      for (const deviceId of claims) {
        if (deviceId.length <= maxDeviceIdLength) byDevice?.take(pairOf(deviceId, address));
      }
    },
  };
}

function openBuckets(perMinute: number, nowMs: (() => number) | undefined) {
  if (perMinute === 0) return undefined;
  const bounds = { capacity: perMinute, perSecond: perMinute / minute, maxKeys };
  return createTokenBuckets(nowMs === undefined ? bounds : { ...bounds, nowMs });
}

/** An address has no space. */
function pairOf(deviceId: string, address: string): string {
  return `${address} ${deviceId}`;
}
