import type { DeviceCredentials } from '../db/device-credentials.js';

/** What is remembered of a device. */
export interface CachedDevice {
  device: DeviceCredentials;
  /** Nothing since it was loaded suggests that it changed. */
  verified: boolean;
  /** When its being seen was last passed on to be written, ms of a monotonic clock. */
  seenAtMs: number;
  /** The hash of the secret of its last login here. */
  secretUsed: Buffer | undefined;
  /** That it has expired was passed on. */
  expiryTold: boolean;
}

/** Remembers a bounded number of devices; at the bound the one unused longest is forgotten. */
export interface DeviceCache {
  readonly size: number;
  /** Answers without counting as use. */
  peek(id: string): CachedDevice | undefined;
  /** Answers and counts as use. */
  use(id: string): CachedDevice | undefined;
  set(device: DeviceCredentials): void;
  delete(id: string): void;
  /** The ids, unused longest first; safe while devices come and go. */
  ids(): IterableIterator<string>;
  /** Every device needs to be loaded again. */
  doubtAll(): void;
}

export function createDeviceCache(limit: number): DeviceCache {
  // A Map keeps the order of insertion: to use a device is to insert it again.
  const entries = new Map<string, CachedDevice>();
  return {
    get size() {
      return entries.size;
    },
    peek: (id) => entries.get(id),
    use(id) {
      const entry = entries.get(id);
      if (entry === undefined) return undefined;
      entries.delete(id);
      entries.set(id, entry);
      return entry;
    },
    set(device) {
      const entry = entries.get(device.id);
      if (entry !== undefined) {
        entry.device = device;
        entry.verified = true;
        return;
      }
      if (entries.size >= limit) {
        for (const oldest of entries.keys()) {
          entries.delete(oldest);
          break;
        }
      }
      entries.set(device.id, {
        device,
        verified: true,
        seenAtMs: Number.NEGATIVE_INFINITY,
        secretUsed: undefined,
        expiryTold: false,
      });
    },
    delete(id) {
      entries.delete(id);
    },
    ids: () => entries.keys(),
    doubtAll() {
      for (const entry of entries.values()) entry.verified = false;
    },
  };
}
