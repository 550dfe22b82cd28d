import type { Database } from '../../db/connection/open.js';
import {
  type DeviceCredentials,
  loadCredentials,
  secretOf,
  type WhichSecret,
} from '../../db/devices/device-credentials.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { type LookUp, openDeviceLookUps } from './device-look-ups.js';
import { type LossReason, lossOf, openToldLosses } from './device-losses.js';
import { DeviceNote, startDeviceUses } from './device-uses.js';
import { type LoadedRow, openLiveTable } from './live-table.js';

export type { LookUp } from './device-look-ups.js';
export type { LossReason } from './device-losses.js';

/** The server's view of the devices: look-ups in a live table of them, and what they have lost, as it happens. */
export type DeviceDirectory = ReturnType<typeof startDeviceDirectory>;

/** Devices looked at again with every sweep, whatever was notified: a cache of 10,000 within 50 s. */
const devicesPerSweep = 100;

/**
 * Starts the directory.
 *
 * @param options.holdMs for so long a look-up waits for a database that fails; one that has been away for longer is not
 *   waited for.
 * @param options.connectedIds ids of devices connected now: re-checked whenever changes may have been missed.
 * @param options.onLost called when a device was revoked or deleted, has expired, or got another type or a secret
 *   in place of all before: its connections must go. Of a device that is not remembered the same loss may be found
 *   again, with whatever changes of it: then it is no news. What is now known of it comes with it.
 * @param options.onRefreshed called with a device that may have changed otherwise: connections may have logged in
 *   with a secret that is no longer valid, or will end at another time than was known.
 */
export function startDeviceDirectory(options: {
  db: Database;
  feed: ChangeFeed;
  cacheSize: number;
  holdMs: number;
  log: Log;
  connectedIds(): Iterable<string>;
  onLost(id: string, reason: LossReason, isNews: boolean, device: DeviceCredentials | undefined): void;
  onRefreshed(device: DeviceCredentials): void;
}) {
  const { db, feed, log, holdMs, onLost, onRefreshed } = options;
  const losses = openToldLosses();
  /** Look-ups that failed in a row while the database answered: of which one says nothing, as of a connection that ended. */
  let failures = 0;

  const fetchDevices = async (ids: readonly string[]) => {
    try {
      const found = await loadCredentials(db, ids);
      if (failures > 1) log.info({ event: 'devices_readable' }, 'Devices can be looked up again');
      failures = 0;
      return found.map((device) => uses.withoutEnded(device));
    } catch (error) {
      if (feed.live) {
        failures += 1;
        if (failures === 2) {
          log.warn(
            { event: 'devices_not_readable', reason: messageOf(error) },
            'The database answers, but not when devices are looked up; known devices can still connect',
          );
        }
      }
      throw error;
    }
  };

  const onLoaded = ({ id, row, before, note, suspicion }: LoadedRow<DeviceCredentials, DeviceNote>) => {
    const reason = lossOf(before, row, suspicion);
    const told = reason === 'expired' && note?.expiryTold === true;
    if (note !== undefined) note.expiryTold = reason === 'expired';
    if (told) return;
    if (reason !== undefined) {
      const isNews = losses.note(id, reason, row);
      onLost(id, reason, isNews || before !== undefined, row);
      return;
    }
    if (row !== undefined && row.revokedAtMs === undefined) losses.forget(id);
    if (row !== undefined && (before !== undefined || suspicion !== undefined)) onRefreshed(row);
  };
  const table = openLiveTable({
    feed,
    table: 'devices',
    limit: options.cacheSize,
    rowsPerSweep: devicesPerSweep,
    fetch: fetchDevices,
    rowsInUse: options.connectedIds,
    makeNote: () => new DeviceNote(),
    onLoaded,
    onFailed(error) {
      log.debug(
        { event: 'device_look_up_failed', reason: messageOf(error) },
        'devices could not be looked up',
      );
    },
  });
  const uses = startDeviceUses({ db, table, log, isLive: () => feed.live });
  const lookUps = openDeviceLookUps({ table, feed, holdMs });
  const unfollow = feed.follow('devices', {
    onSweep() {
      // Where nobody connects and no device is remembered, nothing else would find that they can be looked up again.
      if (failures > 1) void table.load('');
    },
  });

  let closing: Promise<void> | undefined;
  return {
    /** Why devices cannot be looked up, in words without an address; undefined: they can be. */
    get problem(): string | undefined {
      if (!feed.live) return 'does not answer';
      return failures > 1 ? 'answers, but not when devices are looked up' : undefined;
    },
    /** What is remembered, and how look-ups since the start were answered: from memory or not. */
    cacheState: () => ({ size: table.size, hits: lookUps.hits, misses: lookUps.misses }),
    /**
     * Looks a device up; from the cache when it is known and kept true, else batched with other look-ups.
     *
     * @param untilMs `performance.now()` until which an answer of the database is waited for when the device is not
     *   remembered, and when the database does not answer or has not for long. Default: as long as `holdMs` says.
     */
    find: (id: string, untilMs?: number): Promise<LookUp> => lookUps.find(id, untilMs),
    /** Notes that a device is connected or sent something; written to the database at most once a minute. */
    seen: (id: string): void => uses.seen(id),
    /**
     * Notes that a device has logged in, with one of its secrets or by other means. The first use of a new secret ends
     * the one before, where that was to be kept until then only.
     */
    loggedIn(device: DeviceCredentials, secret?: WhichSecret): void {
      uses.seen(device.id, secret === undefined ? undefined : secretOf(device, secret)?.hash);
      // By the secret that the device has used the next rotation decides which of the two it keeps.
      if (device.previousSecret !== undefined) uses.writeSeen();
      if (secret !== 'current' || device.previousSecret?.untilUsed !== true) return;
      const ended = uses.endPrevious(device);
      const known = table.peek(device.id);
      if (known?.row === device) known.row = ended;
      onRefreshed(ended);
    },
    close(): Promise<void> {
      unfollow();
      table.close();
      lookUps.close();
      closing ??= uses.close();
      return closing;
    },
  };
}
