import type { DeviceCredentials } from '../db/device-credentials.js';
import { within } from '../time-limit.js';

/** What loading a device gave: the device, undefined when it does not exist, or `away`. */
export type Loaded = DeviceCredentials | undefined | 'away';

/**
 * Loads devices in batches, one query after the other: while one is under way, what is asked for gathers for the next. In a
 * storm of connects a query for a few devices costs both sides more than the devices themselves; and a slow database is
 * asked less often and for more at once, where many small queries would queue up until each came too late.
 */
export interface DeviceLoader {
  /** Loads a device; requests for the same id share one load. */
  load(id: string): Promise<Loaded>;
  /**
   * Says that a device has changed: a load of it that is under way may have read it before, so it is loaded
   * again before anyone gets an answer.
   */
  changed(id: string): void;
}

interface Load {
  readonly promise: Promise<Loaded>;
  readonly settle: (loaded: Loaded) => void;
  readonly askedAtMs: number;
  underWay: boolean;
  again: boolean;
}

const idsPerQuery = 1_000;

/**
 * Creates a loader.
 *
 * @param options.fetch reads the devices that exist among the ids.
 * @param options.timeoutMs longest wait for the answer to a query, and for a query while others fail; after it the
 *   database counts as away.
 * @param options.onLoaded called with every answer of the database, before those who asked get it.
 */
export function createDeviceLoader(options: {
  fetch(ids: readonly string[]): Promise<DeviceCredentials[]>;
  timeoutMs: number;
  onLoaded(id: string, device: DeviceCredentials | undefined): void;
  onFailed(error: unknown): void;
}): DeviceLoader {
  const loads = new Map<string, Load>();
  const queued: string[] = [];
  let flushing = false;
  let busy = false;

  const enqueue = (id: string) => {
    queued.push(id);
    if (!flushing) setImmediate(flush);
    flushing = true;
  };
  const flush = () => {
    flushing = false;
    if (busy || queued.length === 0) return;
    busy = true;
    void run(queued.splice(0, idsPerQuery)).finally(() => {
      busy = false;
      flush();
    });
  };
  /** Answers those who have waited for a query as long as one may take: behind a failed one their turn comes too late. */
  const giveUp = () => {
    const dueMs = performance.now() - options.timeoutMs;
    for (const id of queued.splice(0)) {
      const load = loads.get(id);
      if (load !== undefined && load.askedAtMs <= dueMs) {
        loads.delete(id);
        load.settle('away');
      } else queued.push(id);
    }
  };
  const run = async (ids: readonly string[]) => {
    for (const id of ids) {
      const load = loads.get(id);
      if (load !== undefined) load.underWay = true;
    }
    let found: Map<string, DeviceCredentials> | undefined;
    try {
      const rows = await within(options.timeoutMs, options.fetch(ids));
      found = new Map(rows.map((row) => [row.id, row]));
    } catch (error) {
      options.onFailed(error);
      giveUp();
    }
    for (const id of ids) {
      const load = loads.get(id);
      if (load === undefined) continue;
      if (found !== undefined && load.again) {
        load.again = false;
        load.underWay = false;
        enqueue(id);
        continue;
      }
      loads.delete(id);
      if (found !== undefined) options.onLoaded(id, found.get(id));
      load.settle(found === undefined ? 'away' : found.get(id));
    }
  };

  return {
    load(id) {
      const existing = loads.get(id);
      if (existing !== undefined) return existing.promise;
      let settle: (loaded: Loaded) => void = () => {};
      const promise = new Promise<Loaded>((resolve) => {
        settle = resolve;
      });
      loads.set(id, { promise, settle, askedAtMs: performance.now(), underWay: false, again: false });
      enqueue(id);
      return promise;
    },
    changed(id) {
      const load = loads.get(id);
      if (load?.underWay === true) load.again = true;
    },
  };
}
