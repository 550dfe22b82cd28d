import {
  type DeviceCredentials,
  isExpired,
  secretOf,
  validUntilMs,
} from '../../db/devices/device-credentials.js';
import { RecencyMap } from '../recency-map.js';
import type { Suspicion } from './live-table.js';

/** What a device has lost, so that its connections must go. */
export type LossReason = 'revoked' | 'expired' | 'deleted' | 'secret-changed' | 'type-changed';

/** What a device that was loaded again has lost, compared with what was remembered of it. */
export function lossOf(
  before: DeviceCredentials | undefined,
  now: DeviceCredentials | undefined,
  suspicion: Suspicion,
): LossReason | undefined {
  if (before === undefined && suspicion === undefined) return undefined;
  if (now === undefined) return 'deleted';
  if (now.revokedAtMs !== undefined) return before?.revokedAtMs !== undefined ? undefined : 'revoked';
  if (isExpired(now)) return 'expired';
  if (before === undefined || before.revokedAtMs !== undefined) return undefined;
  const known = [secretOf(before, 'current'), secretOf(before, 'previous')];
  // One whose grace is over by now is not taken away: its connections end, and their sessions wait for the new one.
  if (!known.some((secret) => secret !== undefined && validUntilMs(now, secret) > 0)) return 'secret-changed';
  return before.type === now.type ? undefined : 'type-changed';
}

/** Devices remembered; at it the one told longest ago is forgotten. */
const maxTold = 50_000;
/** How far the clocks of the machines that revoke may be behind. */
const clockSkewMs = 60_000;

/** Remembers what was told of devices that are not remembered themselves, so that nothing is told twice. */
export function openToldLosses(startedAtMs = Date.now()) {
  /** The loss of each, as a word and its time: a device may be revoked again before it is seen to be enabled. */
  const told = new RecencyMap<string, string>(maxTold);
  return {
    /**
     * Notes a loss and answers whether it is news: it happened since the start, and was not told.
     *
     * @param device as it is now; undefined when it is deleted.
     */
    note(id: string, reason: LossReason, device: DeviceCredentials | undefined): boolean {
      const atMs =
        reason === 'revoked' ? device?.revokedAtMs : reason === 'expired' ? device?.expiresAtMs : undefined;
      const loss = `${reason} ${atMs}`;
      const isNews = told.use(id) !== loss && (atMs === undefined || atMs >= startedAtMs - clockSkewMs);
      told.set(id, loss);
      return isNews;
    },
    /** The device may connect: what it loses next is news. */
    forget(id: string): void {
      told.delete(id);
    },
  };
}
