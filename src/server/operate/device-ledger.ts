import type { Database } from '../../db/connection/open.js';
import {
  addToLedger,
  addUnwritten,
  findLedger,
  type Ledger,
  type LedgerAddition,
} from '../../db/devices/device-ledger.js';
import { messageOf } from '../../errors.js';
import { type LedgerCounts, noCounts } from '../../ledger-counts.js';
import type { Log } from '../../log.js';
import { LedgerEntry } from '../mqtt/live/ledger-entry.js';

/** The ledger of all devices: what is noted of their messages goes to the database in batches. */
export type DeviceLedger = ReturnType<typeof startDeviceLedger>;

/** A device is written at most so often, and what is lost with a process is of this time. */
const writeAfterMs = 60_000;
const tickMs = 1_000;
/** Most devices written in a second, by all replicas together: of a larger fleet each is written less often. */
const rowsPerSecond = 1_000;
/** How long the number of replicas is remembered. */
const recountMs = 30_000;
/** Most devices that wait to be written; others are noted as long as they are here. */
const maxWaiting = 500_000;
const closeTimeoutMs = 5_000;

/** Who asks while one device after another is written is answered with what there is. */
const maxReads = 3;

interface Noted {
  readonly entry: LedgerEntry;
  /** `performance.now()` of the first that was noted. */
  readonly sinceMs: number;
  /** The same as `Date.now()`, earlier where that could not be written before. */
  firstSeenAtMs: number;
}

/** @param options.countReplicas how many write to this database; undefined: that cannot be known. */
export function startDeviceLedger(options: {
  db: Database;
  log: Log;
  isLive(): boolean;
  countReplicas(): Promise<number | undefined>;
}) {
  const { db, log, isLive } = options;
  /** The one that has waited longest first. */
  const waiting = new Map<string, Noted>();
  let writing: Promise<boolean> | undefined;
  /** Counts the writings. */
  let written = 0;
  let replicas = 1;
  let countedMs = Number.NEGATIVE_INFINITY;

  /** Most devices that this replica writes in a second. */
  async function readShare(): Promise<number> {
    if (performance.now() - countedMs >= recountMs) {
      countedMs = performance.now();
      replicas = (await options.countReplicas().catch(() => undefined)) ?? replicas;
    }
    return Math.ceil(rowsPerSecond / replicas);
  }

  function onChanged(entry: LedgerEntry): void {
    const other = waiting.get(entry.deviceId)?.entry;
    if (other !== undefined) {
      // Of one that the device had before: messages of its last connection were still under way.
      giveBack(other, take(entry, Date.now()), Date.now());
      return;
    }
    if (waiting.size >= maxWaiting) return;
    entry.isWaiting = true;
    waiting.set(entry.deviceId, { entry, sinceMs: performance.now(), firstSeenAtMs: Date.now() });
  }

  /** Writes those that have waited for long enough; false: there are none, or it did not work. */
  async function write(sinceMs: number, isLast: boolean): Promise<boolean> {
    const [first] = waiting.values();
    if (first === undefined || first.sinceMs > sinceMs || !isLive()) return false;
    const most = isLast ? rowsPerSecond : await readShare();
    const batch: Noted[] = [];
    for (const each of waiting.values()) {
      if (batch.length === most || each.sinceMs > sinceMs) break;
      batch.push(each);
    }
    if (batch.length === 0) return false;
    written += 1;
    const additions = batch.map(({ entry, firstSeenAtMs }) => take(entry, firstSeenAtMs));
    for (const { entry } of batch) {
      entry.isWaiting = false;
      waiting.delete(entry.deviceId);
    }
    try {
      await addToLedger(db, additions);
      return true;
    } catch (error) {
      log.debug({ event: 'ledger_failed', reason: messageOf(error) }, 'The ledger could not be written');
      for (const [index, { entry, firstSeenAtMs }] of batch.entries())
        giveBack(entry, additions[index] as LedgerAddition, firstSeenAtMs);
      return false;
    }
  }

  /** What could not be written, or was noted elsewhere, is noted once more, unless something newer is there. */
  function giveBack(entry: LedgerEntry, addition: LedgerAddition, firstSeenAtMs: number): void {
    const { counts } = entry;
    for (const name of Object.keys(noCounts) as (keyof LedgerCounts)[]) counts[name] += addition[name];
    entry.lastRefusal ??=
      addition.last_refused_at === undefined
        ? undefined
        : { atMs: Date.parse(addition.last_refused_at), reason: addition.last_refused_reason ?? '' };
    if (entry.stream === undefined) {
      entry.stream = addition.last_stream;
      entry.sequence = addition.last_sequence ?? 0;
    }
    entry.address ??= addition.last_address;
    if (!entry.isWaiting) onChanged(entry);
    const noted = waiting.get(entry.deviceId);
    if (noted !== undefined) noted.firstSeenAtMs = Math.min(noted.firstSeenAtMs, firstSeenAtMs);
  }

  function begin(sinceMs: number, isLast = false): Promise<boolean> {
    writing = write(sinceMs, isLast).finally(() => {
      writing = undefined;
    });
    return writing;
  }

  /** What is noted of a device and not written yet; undefined: nothing. */
  function unwritten(deviceId: string): Ledger | undefined {
    const noted = waiting.get(deviceId);
    return noted && describe(noted.entry, noted.firstSeenAtMs);
  }

  const timer = setInterval(() => {
    if (writing === undefined) void begin(performance.now() - writeAfterMs);
  }, tickMs);
  timer.unref();

  return {
    /** Where to note what becomes of a device's messages. */
    of: (deviceId: string): LedgerEntry =>
      waiting.get(deviceId)?.entry ?? new LedgerEntry(deviceId, onChanged),
    unwritten,
    /**
     * What is written of a device, by all replicas, and what is noted and not written yet; undefined: nothing.
     *
     * @param elsewhere what other replicas have noted and not written.
     * @throws SvcMqttError DATABASE_*.
     */
    async read(deviceId: string, elsewhere: readonly Ledger[] = []): Promise<Ledger | undefined> {
      for (let reads = 1; ; reads += 1) {
        while (writing !== undefined) await writing;
        const before = written;
        const found = await findLedger(db, deviceId);
        // What is written meanwhile would be missed, or counted twice.
        if (written !== before && reads < maxReads) continue;
        // In the order in which they will be written.
        const noted = [unwritten(deviceId) ?? [], elsewhere]
          .flat()
          .sort((one, other) => one.firstSeenAt.getTime() - other.firstSeenAt.getTime());
        return noted.reduce<Ledger | undefined>(addUnwritten, found);
      }
    },
    /** Writes what waits, as far as that is possible soon. */
    async close(): Promise<void> {
      clearInterval(timer);
      await writing;
      const endMs = performance.now() + closeTimeoutMs;
      while (performance.now() < endMs && (await begin(Number.POSITIVE_INFINITY, true)));
      if (waiting.size > 0)
        log.warn(
          { event: 'ledger_incomplete', devices: waiting.size },
          'What was counted of some devices could not be written',
        );
    },
  };
}

/** What of an entry is to be written, which is then as if nothing had been noted. */
function take(entry: LedgerEntry, firstSeenAtMs: number): LedgerAddition {
  const { deviceId, counts, lastRefusal, stream, sequence, address } = entry;
  entry.counts = { ...noCounts };
  entry.lastRefusal = undefined;
  entry.stream = undefined;
  entry.sequence = 0;
  entry.address = undefined;
  return {
    device_id: deviceId,
    ...counts,
    last_refused_at: lastRefusal && new Date(lastRefusal.atMs).toISOString(),
    last_refused_reason: lastRefusal?.reason,
    last_stream: stream,
    last_sequence: stream === undefined ? undefined : sequence,
    last_address: address,
    first_seen_at: new Date(firstSeenAtMs).toISOString(),
  };
}

/** What of an entry is not written yet. */
function describe(
  { counts, lastRefusal, stream, sequence, address }: LedgerEntry,
  firstSeenAtMs: number,
): Ledger {
  return {
    ...counts,
    lastRefusedAt: lastRefusal === undefined ? null : new Date(lastRefusal.atMs),
    lastRefusedReason: lastRefusal?.reason ?? null,
    lastStream: stream ?? null,
    lastSequence: stream === undefined ? null : sequence,
    firstSeenAt: new Date(firstSeenAtMs),
    lastAddress: address ?? null,
  };
}
