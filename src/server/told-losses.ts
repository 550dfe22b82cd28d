import type { DeviceCredentials } from '../db/device-credentials.js';
import type { LossReason } from './device-directory.js';

/** Remembers what was told of devices that the cache may not hold, so that nothing is told twice. */
export interface ToldLosses {
  /**
   * Notes a loss and answers whether it is news: it happened since the start, and was not told.
   *
   * @param device as it is now; undefined when it is deleted.
   */
  note(id: string, reason: LossReason, device: DeviceCredentials | undefined): boolean;
  /** The device may connect: what it loses next is news. */
  forget(id: string): void;
}

/** Devices remembered; at it the one told longest ago is forgotten. */
const maxTold = 50_000;
/** How far the clocks of the machines that revoke may be behind. */
const clockSkewMs = 60_000;

export function createToldLosses(startedAtMs = Date.now()): ToldLosses {
  /** The loss of each, as a word and its time: a device may be revoked again before it is seen to be enabled. */
  const told = new Map<string, string>();
  return {
    note(id, reason, device) {
      const atMs =
        reason === 'revoked' ? device?.revokedAtMs : reason === 'expired' ? device?.expiresAtMs : undefined;
      const loss = `${reason} ${atMs}`;
      const isNews = told.get(id) !== loss && (atMs === undefined || atMs >= startedAtMs - clockSkewMs);
      told.delete(id);
      told.set(id, loss);
      if (told.size > maxTold) {
        for (const oldest of told.keys()) {
          told.delete(oldest);
          break;
        }
      }
      return isNews;
    },
    forget(id) {
      told.delete(id);
    },
  };
}
