import type { DeviceCredentials } from '../db/device-credentials.js';

/** What loading a device gave: the device, undefined when it does not exist, or `away`. */
export type Loaded = DeviceCredentials | undefined | 'away';

/** Loads devices in batches: everything asked for in one turn of the event loop goes into few queries. */
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
  underWay: boolean;
  again: boolean;
}

const idsPerQuery = 1_000;

/**
 * Creates a loader.
 *
 * @param options.fetch reads the devices that exist among the ids.
 * @param options.timeoutMs longest wait for an answer; after it the database counts as away.
 * @param options.onLoaded called with every answer of the database, before those who asked get it.
 */
export function createDeviceLoader(options: {
  fetch(ids: readonly string[]): Promise<DeviceCredentials[]>;
  timeoutMs: number;
  onLoaded(id: string, device: DeviceCredentials | undefined): void;
  onFailed(error: unknown): void;
}): DeviceLoader {
  const loads = new Map<string, Load>();
  let queued: string[] = [];

  const enqueue = (id: string) => {
    if (queued.length === 0) setImmediate(flush);
    queued.push(id);
  };
  const flush = () => {
    const ids = queued;
    queued = [];
    for (let at = 0; at < ids.length; at += idsPerQuery) void run(ids.slice(at, at + idsPerQuery));
  };
  const run = async (ids: readonly string[]) => {
    for (const id of ids) {
      const load = loads.get(id);
      if (load !== undefined) load.underWay = true;
    }
    let found: Map<string, DeviceCredentials> | undefined;
    try {
      const rows = await withTimeout(options.fetch(ids), options.timeoutMs);
      found = new Map(rows.map((row) => [row.id, row]));
    } catch (error) {
      options.onFailed(error);
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
      loads.set(id, { promise, settle, underWay: false, again: false });
      enqueue(id);
      return promise;
    },
    changed(id) {
      const load = loads.get(id);
      if (load?.underWay === true) load.again = true;
    },
  };
}

async function withTimeout<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
