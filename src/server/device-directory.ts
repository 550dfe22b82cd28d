import { startChangeFeed } from '../db/change-feed.js';
import {
  type DeviceCredentials,
  isExpired,
  loadCredentials,
  secretOf,
  validUntilMs,
  type WhichSecret,
} from '../db/device-credentials.js';
import type { Database } from '../db/open.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { createDeviceCache } from './device-cache.js';
import { createDeviceLoader, type Loaded } from './device-loader.js';
import { startDeviceUses } from './device-uses.js';
import { createToldLosses } from './told-losses.js';

/** What a look-up of a device answers; `away`: the database did not answer and the device is not remembered. */
export type LookUp =
  | { readonly found: 'yes'; readonly device: DeviceCredentials }
  | { readonly found: 'no' }
  | { readonly found: 'away' };

/** What is remembered, and how look-ups since the start were answered: from memory or not. */
export interface DeviceCacheState {
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
}

export type LossReason = 'revoked' | 'expired' | 'deleted' | 'secret-changed' | 'type-changed';

/**
 * The server's view of the devices: look-ups through a bounded cache, kept true by NOTIFY and a periodic sweep of
 * changes, and answering known devices while the database is away.
 */
export interface DeviceDirectory {
  /** The database answers. */
  readonly live: boolean;
  cacheState(): DeviceCacheState;
  /**
   * Looks a device up; from the cache when it is known and kept true, else batched with other look-ups.
   *
   * @param untilMs `performance.now()` until which an answer of the database is waited for when the device is not
   *   remembered, and when the database does not answer or has not for long. Default: as long as `holdMs` says.
   */
  find(id: string, untilMs?: number): Promise<LookUp>;
  /** Notes that a device is connected or sent something; written to the database at most once a minute. */
  seen(id: string): void;
  /**
   * Notes that a device has logged in, with one of its secrets or by other means. The first use of a new secret ends
   * the one before, where that was to be kept until then only.
   */
  loggedIn(device: DeviceCredentials, secret?: WhichSecret): void;
  close(): Promise<void>;
}

const retryMs = 250;
/** The longest id that the database holds. */
const maxIdLength = 128;
/** Most devices loaded one by one because they changed; at it everything remembered is checked instead. */
const maxSuspects = 50_000;
const idsPerCheck = 1_000;
/** Devices looked at again with every sweep, whatever was notified: a cache of 10,000 within 50 s. */
const idsPerSweep = 100;

/**
 * Starts the directory.
 *
 * What keeps it true: a notification or sweep names a changed device, and it is loaded again at once. Whenever
 * notifications may have been missed, every remembered device is doubted, which means that the next look-up asks
 * the database, and every connected and then every remembered device is loaded again in batches. Besides, a few
 * remembered devices are loaded again with every sweep, so that even a change that nothing tells of, as with triggers
 * switched off, is found in time.
 *
 * @param options.holdMs for so long a look-up waits for a database that fails; one that has been away for longer is not
 *   waited for.
 * @param options.connectedIds ids of devices connected now: re-checked whenever changes may have been missed.
 * @param options.onPoliciesChanged called when the policies changed or may have.
 * @param options.onLost called when a device was revoked or deleted, has expired, or got another type or a secret
 *   in place of all before: its connections must go. Of a device that is not remembered the same loss may be found
 *   again, with whatever changes of it: then it is no news. What is now known of it comes with it.
 * @param options.onRefreshed called with a device that may have changed otherwise: connections may have logged in
 *   with a secret that is no longer valid, or will end at another time than was known.
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED or DATABASE_SCHEMA.
 */
export async function startDeviceDirectory(options: {
  db: Database;
  cacheSize: number;
  holdMs: number;
  log: Log;
  connectedIds(): Iterable<string>;
  onLost(id: string, reason: LossReason, isNews: boolean, device: DeviceCredentials | undefined): void;
  onPoliciesChanged?(): void;
  onRefreshed(device: DeviceCredentials): void;
}): Promise<DeviceDirectory> {
  const { db, log, holdMs, onLost, onRefreshed } = options;
  const cache = createDeviceCache(options.cacheSize);
  /** Devices to be loaded because they were reported changed, or to make sure; until that has succeeded. */
  const suspects = new Map<string, 'changed' | 'unsure'>();
  const losses = createToldLosses();
  let live = false;
  /** When the database went away; Infinity while it is not. */
  let awaySinceMs = Number.POSITIVE_INFINITY;
  /** Look-ups that wait look again when the database has come or gone. */
  const waiting = new Set<() => void>();
  let hits = 0;
  let misses = 0;
  let closed = false;
  /** Counts the occasions on which everything was doubted. */
  let doubts = 0;

  const uses = startDeviceUses({ db, cache, log, isLive: () => live });
  const loader = createDeviceLoader({
    fetch: async (ids) => (await loadCredentials(db, ids)).map(uses.withoutEnded),
    timeoutMs: db.timeoutMs,
    onLoaded(id, device) {
      const entry = cache.peek(id);
      const suspicion = suspects.get(id);
      const reason = lossOf(entry?.device, device, suspicion);
      const told = reason === 'expired' && entry?.expiryTold === true;
      suspects.delete(id);
      if (device === undefined) cache.delete(id);
      else if (entry !== undefined) {
        cache.set(device);
        entry.expiryTold = reason === 'expired';
      }
      if (closed || told) return;
      if (reason !== undefined) {
        const isNews = losses.note(id, reason, device);
        onLost(id, reason, isNews || entry !== undefined, device);
        return;
      }
      if (device !== undefined && device.revokedAtMs === undefined) losses.forget(id);
      if (device !== undefined && (entry !== undefined || suspicion !== undefined)) onRefreshed(device);
    },
    onFailed(error) {
      log.debug(
        { event: 'device_look_up_failed', reason: messageOf(error) },
        'devices could not be looked up',
      );
    },
  });

  const onChanged = (ids: readonly string[]) => {
    for (const id of ids) {
      suspects.set(id, 'changed');
      const entry = cache.peek(id);
      if (entry !== undefined) entry.verified = false;
      loader.changed(id);
      void loader.load(id);
    }
    if (suspects.size > maxSuspects) {
      suspects.clear();
      checkAll();
    }
  };

  const checkAll = () => {
    doubts += 1;
    cache.doubtAll();
    const mine = doubts;
    void checkInBatches(() => !closed && live && doubts === mine);
  };
  /** Loads the connected and then the remembered devices again, a batch at a time, as long as `isCurrent`. */
  const checkInBatches = async (isCurrent: () => boolean) => {
    const connected = new Set(options.connectedIds());
    for (const id of connected) loader.changed(id);
    const remembered = [...cache.ids()].filter((id) => !connected.has(id));
    for (const batch of [...batchesOf(connected), ...batchesOf(remembered)]) {
      let rest: readonly string[] = batch;
      while (rest.length > 0) {
        if (!isCurrent()) return;
        for (const id of rest) if (!suspects.has(id)) suspects.set(id, 'unsure');
        const results = await Promise.all(rest.map((id) => loader.load(id)));
        rest = rest.filter((_, index) => results[index] === 'away');
        if (rest.length > 0) await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
  };

  let next = cache.ids();
  const onSweep = () => {
    for (const id of suspects.keys()) void loader.load(id);
    for (let count = 0; count < idsPerSweep; count += 1) {
      const { value: id, done } = next.next();
      if (done) {
        next = cache.ids();
        return;
      }
      if (!suspects.has(id)) suspects.set(id, 'unsure');
      void loader.load(id);
    }
  };

  const wakeAll = () => {
    for (const wake of [...waiting]) wake();
  };

  const feed = await startChangeFeed(db, log, {
    onLive() {
      live = true;
      awaySinceMs = Number.POSITIVE_INFINITY;
      checkAll();
      wakeAll();
    },
    onAway() {
      live = false;
      awaySinceMs = performance.now();
      wakeAll();
    },
    onChanged,
    onAnyChanged: checkAll,
    onPoliciesChanged: () => options.onPoliciesChanged?.(),
    onSweep,
  }).catch(async (error: unknown) => {
    await uses.close();
    throw error;
  });

  /** Waits for so long, or until the database has come or gone, or there is an answer. */
  const waitFor = async (ms: number, answer?: Promise<Loaded>): Promise<Loaded | 'none'> => {
    let wake = () => {};
    const woken = new Promise<'none'>((resolve) => {
      wake = () => resolve('none');
    });
    const timer = setTimeout(wake, Math.max(0, ms));
    waiting.add(wake);
    try {
      return await (answer === undefined ? woken : Promise.race([answer, woken]));
    } finally {
      clearTimeout(timer);
      waiting.delete(wake);
    }
  };

  const find = async (id: string, untilMs = performance.now() + holdMs): Promise<LookUp> => {
    if (id.length > maxIdLength) return { found: 'no' };
    const startMs = performance.now();
    let asked = false;
    let failed = false;
    while (true) {
      const entry = cache.use(id);
      // What is reported changed is not answered as it was, not even while the database is away.
      const known = suspects.get(id) === 'changed' ? undefined : entry?.device;
      const nowMs = performance.now();
      const endMs = known === undefined ? untilMs : Math.min(untilMs, startMs + db.timeoutMs);
      if (known !== undefined && (entry?.verified || !live || failed || nowMs >= endMs)) {
        if (!asked) hits += 1;
        return { found: 'yes', device: known };
      }
      if (!asked) misses += 1;
      const isInVain = !asked && nowMs - awaySinceMs >= holdMs;
      asked = true;
      if (closed || isInVain || nowMs >= endMs) return { found: 'away' };
      if (failed || !live) {
        await waitFor(live ? Math.min(retryMs, endMs - nowMs) : endMs - nowMs);
        failed = false;
        continue;
      }
      const loaded = await waitFor(endMs - performance.now(), loader.load(id));
      if (loaded === undefined) return { found: 'no' };
      if (typeof loaded !== 'string') {
        cache.set(loaded);
        return { found: 'yes', device: loaded };
      }
      failed = loaded === 'away';
    }
  };

  const close = async () => {
    closed = true;
    await uses.close();
    live = false;
    wakeAll();
    await feed.close();
  };
  let closing: Promise<void> | undefined;
  return {
    get live() {
      return live;
    },
    cacheState: () => ({ size: cache.size, hits, misses }),
    find,
    seen: (id) => uses.seen(id),
    loggedIn(device, secret) {
      uses.seen(device.id, secret === undefined ? undefined : secretOf(device, secret)?.hash);
      // By the secret that the device has used the next rotation decides which of the two it keeps.
      if (device.previousSecret !== undefined) uses.writeSeen();
      if (secret !== 'current' || device.previousSecret?.untilUsed !== true) return;
      const ended = uses.endPrevious(device);
      const entry = cache.peek(device.id);
      if (entry?.device === device) entry.device = ended;
      onRefreshed(ended);
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** What a device that was loaded again has lost, compared with what was remembered of it. */
function lossOf(
  before: DeviceCredentials | undefined,
  now: DeviceCredentials | undefined,
  suspicion: 'changed' | 'unsure' | undefined,
): LossReason | undefined {
  if (before === undefined && suspicion === undefined) return undefined;
  if (now === undefined) return 'deleted';
  if (now.revokedAtMs !== undefined) return before?.revokedAtMs !== undefined ? undefined : 'revoked';
  if (isExpired(now)) return 'expired';
  if (before === undefined || before.revokedAtMs !== undefined) return undefined;
  const known = [secretOf(before, 'current'), secretOf(before, 'previous')];
  if (!known.some((secret) => secret !== undefined && validUntilMs(now, secret) > Date.now())) {
    return 'secret-changed';
  }
  return before.type === now.type ? undefined : 'type-changed';
}

function* batchesOf<T>(items: Iterable<T>): Generator<T[]> {
  let batch: T[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length < idsPerCheck) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
