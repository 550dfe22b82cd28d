import type { DeviceCredentials } from '../../db/devices/device-credentials.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import type { LiveTable } from './live-table.js';
import type { Loaded } from './row-loader.js';

/** What a look-up of a device answers; `away`: the database did not answer and the device is not remembered. */
export type LookUp =
  | { readonly found: 'yes'; readonly device: DeviceCredentials }
  | { readonly found: 'no' }
  | { readonly found: 'away' };

const retryMs = 250;
/** The longest id that the database holds. */
const maxIdLength = 128;

/**
 * Opens look-ups of devices, held while the database does not answer.
 *
 * @param options.holdMs as that of the device directory.
 */
export function openDeviceLookUps(options: {
  table: LiveTable<DeviceCredentials>;
  feed: ChangeFeed;
  holdMs: number;
}) {
  const { table, feed, holdMs } = options;
  /** Look-ups that wait look again when the database has come or gone. */
  const waiting = new Set<() => void>();
  let hits = 0;
  let misses = 0;
  let closed = false;

  const wakeAll = () => {
    for (const wake of [...waiting]) wake();
  };
  const unfollow = feed.follow('devices', { onLive: wakeAll, onAway: wakeAll });

  /** Waits for so long, or until the database has come or gone, or there is an answer. */
  const waitFor = async <T = never>(ms: number, answer?: Promise<T>): Promise<T | 'none'> => {
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

  return {
    /** How many were answered from memory, and how many not. */
    get hits() {
      return hits;
    },
    get misses() {
      return misses;
    },
    /** As `DeviceDirectory.find`. */
    async find(id: string, untilMs = performance.now() + holdMs): Promise<LookUp> {
      if (id.length > maxIdLength) return { found: 'no' };
      const startMs = performance.now();
      let asked = false;
      let failed = false;
      while (true) {
        const known = table.use(id);
        const live = feed.live && !closed;
        const nowMs = performance.now();
        const endMs = known === undefined ? untilMs : Math.min(untilMs, startMs + feed.timeoutMs);
        if (known !== undefined && (known.verified || !live || failed || nowMs >= endMs)) {
          if (!asked) hits += 1;
          return { found: 'yes', device: known.row };
        }
        if (!asked) misses += 1;
        const isInVain = !asked && nowMs - feed.awaySinceMs >= holdMs;
        asked = true;
        if (closed || isInVain || nowMs >= endMs) return { found: 'away' };
        if (failed || !live) {
          await waitFor(live ? Math.min(retryMs, endMs - nowMs) : endMs - nowMs);
          failed = false;
          continue;
        }
        const loaded: Loaded<DeviceCredentials> | 'none' = await waitFor(
          endMs - performance.now(),
          table.load(id),
        );
        if (loaded === 'none') continue;
        if ('error' in loaded) failed = true;
        else if (loaded.row === undefined) return { found: 'no' };
        else {
          table.remember(loaded.row);
          return { found: 'yes', device: loaded.row };
        }
      }
    },
    /** Answers what is held, and from now on without waiting. */
    close(): void {
      closed = true;
      unfollow();
      wakeAll();
    },
  };
}
