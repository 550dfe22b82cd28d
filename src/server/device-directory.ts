import type { DeviceCredentials } from '../db/devices.js';
import type { Database } from '../db/open.js';
import type { Log } from '../log.js';

/** What a look-up of a device answers; `away`: the database does not answer and the device is not remembered. */
export type LookUp =
  | { readonly found: 'yes'; readonly device: DeviceCredentials }
  | { readonly found: 'no' }
  | { readonly found: 'away' };

/**
 * The server's view of the devices: look-ups through a bounded cache, kept true by NOTIFY and a periodic sweep of
 * changed rows, and answering known devices while the database is away.
 */
export interface DeviceDirectory {
  /** The database answers. */
  readonly live: boolean;
  /** Looks a device up; from the cache when it is known and kept true, else batched with other look-ups. */
  find(id: string): Promise<LookUp>;
  /** Notes that a device is connected or sent something; written to the database at most once a minute. */
  seen(id: string): void;
  close(): Promise<void>;
}

/**
 * Starts the directory.
 *
 * @param options.connectedIds ids of devices connected now: re-checked whenever changes may have been missed.
 * @param options.onLost called when a device was revoked or deleted, or its secret changed: its connections must go.
 */
export async function startDeviceDirectory(_options: {
  db: Database;
  cacheSize: number;
  log: Log;
  connectedIds(): Iterable<string>;
  onLost(id: string, reason: 'revoked' | 'deleted' | 'secret-changed' | 'type-changed'): void;
}): Promise<DeviceDirectory> {
  throw new Error('not built');
}
