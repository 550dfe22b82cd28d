import { hostname } from 'node:os';
import type { Database } from '../../db/connection/open.js';
import { type DeviceCredentials, endPreviousSecrets, markSeen } from '../../db/devices/device-credentials.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { within } from '../../time-limit.js';
import type { LiveTable } from './live-table.js';

/** What is kept with a device that is remembered. */
export class DeviceNote {
  /** When its being seen was last passed on to be written, ms of a monotonic clock. */
  seenAtMs = Number.NEGATIVE_INFINITY;
  /** The hash of the secret of its last login here. */
  secretUsed: Buffer | undefined;
  /** That it has expired was passed on. */
  expiryTold = false;
}

/** A little more than the minute that the database insists on, so that no write is in vain. */
const seenEveryMs = 62_000;
const writeEveryMs = 2_000;
/** Most devices waiting to be written; at it further ones wait for their next sign of life. */
const maxWaiting = 200_000;
const idsPerWrite = 2_000;
const closeTimeoutMs = 2_000;
/** Who ends previous secrets: this replica. */
const actor = { kind: 'server', name: hostname() } as const;

/** Starts to write what is noted of devices that use the server, every two seconds, while the database is live. */
export function startDeviceUses(options: {
  db: Database;
  table: LiveTable<DeviceCredentials, DeviceNote>;
  log: Log;
  isLive(): boolean;
}) {
  const { db, table, log, isLive } = options;
  let nowMs = performance.now();
  const sightings = openWriter<Buffer | undefined>({
    isLive,
    write: (batch) => markSeen(db, batch.map(toUse)),
    onFailed(reason) {
      log.debug({ event: 'last_seen_failed', reason }, 'last_seen_at could not be written');
    },
  });
  const endings = openWriter<Buffer>({
    isLive,
    write: (batch) => endPreviousSecrets(db, actor, batch.map(toUse)),
    onFailed(reason) {
      log.debug(
        { event: 'previous_secret_failed', reason },
        'the end of previous secrets could not be written',
      );
    },
  });
  /** Sightings last: they skip rows that are being written, and an ending writes the row of the same device. */
  const writeAll = async () => {
    await endings.write();
    await sightings.write();
  };
  const timer = setInterval(() => {
    nowMs = performance.now();
    void writeAll();
  }, writeEveryMs);

  /** The device as it is by what was noted: the database need not know yet that a new secret has been used. */
  const withoutEnded = (device: DeviceCredentials): DeviceCredentials => {
    const { previousSecret } = device;
    if (previousSecret === undefined || endings.waiting.get(device.id)?.equals(device.secretHash) !== true)
      return device;
    // As the database has it then: that there was one tells that the rotation had a grace.
    return { ...device, previousSecret: { ...previousSecret, untilMs: longAgoMs, untilUsed: false } };
  };
  return {
    /** Notes that a device is there, and the hash of the secret of its login, when it has just logged in. */
    seen(id: string, secretHash?: Buffer): void {
      const note = table.peek(id)?.note;
      if (note !== undefined) {
        const sameSecret = secretHash === undefined || note.secretUsed?.equals(secretHash) === true;
        if (sameSecret && nowMs - note.seenAtMs < seenEveryMs) return;
        note.seenAtMs = nowMs;
        note.secretUsed = secretHash ?? note.secretUsed;
        table.use(id);
      }
      sightings.put(id, secretHash ?? sightings.waiting.get(id));
    },
    /** Writes what was seen without waiting for the round. */
    writeSeen(): void {
      setImmediate(() => void writeAll());
    },
    /** Notes that the current secret was used, which ends the one before; answers the device without that. */
    endPrevious(device: DeviceCredentials): DeviceCredentials {
      endings.put(device.id, device.secretHash);
      // Not left to the timer: the other replicas learn of it from the database.
      setImmediate(() => void writeAll());
      return withoutEnded(device);
    },
    withoutEnded,
    /** Writes what waits, as far as that is possible soon. */
    async close(): Promise<void> {
      clearInterval(timer);
      await within(closeTimeoutMs, writeAll()).catch(() => {});
    },
  };
}

/** As `endPreviousSecrets` writes it. */
const longAgoMs = 1_000;

function toUse<T>([id, secretHash]: readonly [string, T]) {
  return { id, secretHash };
}

/** Opens a store of values by id that wait to be written, the last of each id. */
function openWriter<T>(options: {
  isLive(): boolean;
  /** Answers the ids that are to be written again with the next round. */
  write(batch: readonly (readonly [string, T])[]): Promise<readonly string[]>;
  onFailed(reason: string): void;
}) {
  const waiting = new Map<string, T>();
  let writing: Promise<void> | undefined;
  const run = async () => {
    const again = new Map<string, T>();
    while (waiting.size > 0 && options.isLive()) {
      const batch = [...take(waiting, idsPerWrite)];
      let missed: ReadonlySet<string>;
      try {
        missed = new Set(await options.write(batch));
      } catch (error) {
        options.onFailed(messageOf(error));
        break;
      }
      for (const [id, value] of batch) {
        if (waiting.get(id) !== value) continue;
        waiting.delete(id);
        if (missed.has(id)) again.set(id, value);
      }
    }
    for (const [id, value] of again) if (!waiting.has(id)) waiting.set(id, value);
  };
  return {
    waiting: waiting as ReadonlyMap<string, T>,
    put(id: string, value: T): void {
      if (waiting.size < maxWaiting || waiting.has(id)) waiting.set(id, value);
    },
    /** Writes what waits, in batches; what cannot be written waits on. */
    write(): Promise<void> {
      writing ??= run().finally(() => {
        writing = undefined;
      });
      return writing;
    },
  };
}

function* take<T>(items: Iterable<T>, count: number): Generator<T> {
  let left = count;
  for (const item of items) {
    if (left === 0) return;
    left -= 1;
    yield item;
  }
}
