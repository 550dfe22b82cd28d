import { messageOf } from '../../../../errors.js';
import type { LimitedLog } from '../../../../log.js';
import type { Presence } from '../../../forward/state/presence.js';
import { keyPrefix } from './session-key.js';
import { disown } from './session-record.js';
import type { SessionStore } from './session-store.js';

const lookEveryMs = 2_000;
/** A replica is dead when NATS has answered and it was missing for so long. */
const deadAfterMs = 10_000;
const atOnce = 64;

/**
 * Looks after the sessions of replicas that died, and of devices that are no more. A session whose replica is dead is marked as away, so that it expires: by the replica that comes first by name, while the
 * others look on. Every write is fenced, so a client that comes back at that moment keeps its session.
 */
export function openSessionReaper(options: {
  store: SessionStore;
  /** Undefined: replicas do not know of each other. */
  presence: Presence | undefined;
  /** The connections of this replica are its own matter. */
  isHere(key: string): boolean;
  log: LimitedLog;
}) {
  const { store, presence, log } = options;
  /** Replicas that are missing, and since when. */
  const missing = new Map<string, number>();
  const devices = new Set<string>();
  let running = false;

  async function look(): Promise<void> {
    if (running || !store.caughtUp || !store.reachable) return;
    running = true;
    try {
      await removeOfDevices();
      if (presence !== undefined) await partWithDead(presence);
    } catch (error) {
      log.debug('sessions_not_reaped', { reason: messageOf(error) }, 'Tried again');
    } finally {
      running = false;
    }
  }

  async function removeOfDevices(): Promise<void> {
    if (devices.size === 0) return;
    const lost = new Set(devices);
    const owned = store.owned();
    const keys: string[] = [];
    for (const key of store.keys()) {
      // The replica that has the connection ends its session itself.
      if (lost.has(key.slice(0, key.indexOf('.') + 1)) && !owned.has(key) && !options.isHere(key))
        keys.push(key);
    }
    await forEach(keys, (key) => store.remove(key, undefined));
    for (const device of lost) devices.delete(device);
    if (keys.length > 0)
      log.info(
        'sessions_removed',
        { sessions: keys.length, devices: lost.size },
        'Sessions of lost devices are removed',
      );
  }

  async function partWithDead({ known, alive }: Presence): Promise<void> {
    if (!known) {
      missing.clear();
      return;
    }
    const nowMs = performance.now();
    for (const name of missing.keys()) if (alive.has(name)) missing.delete(name);
    const keys: [key: string, owner: string][] = [];
    for (const [key, owner] of store.owned()) {
      if (alive.has(owner)) continue;
      const sinceMs = missing.get(owner) ?? nowMs;
      missing.set(owner, sinceMs);
      if (nowMs - sinceMs >= deadAfterMs) keys.push([key, owner]);
    }
    if (keys.length === 0 || [...alive].sort()[0] !== store.owner) return;
    await forEach(keys, ([key, owner]) => markAway(key, owner));
    log.info(
      'sessions_parted',
      { sessions: keys.length },
      'Sessions of replicas that died are marked as away',
    );
  }

  async function markAway(key: string, owner: string): Promise<void> {
    const found = await store.load(key);
    if (found === undefined || typeof found.record === 'string' || found.record.owner !== owner) return;
    if (found.record.expirySec === 0) {
      await store.remove(key, found.revision);
      return;
    }
    const away = { ...disown(found.record), awaySinceMs: Date.now() };
    await store.write(key, away, found.revision, store.nextWriteId());
  }

  const timer = setInterval(() => void look(), lookEveryMs);
  timer.unref();
  return {
    /** The device has lost its sessions: those that are away are removed. */
    removeDevice(deviceId: string): void {
      if (!store.durable) return;
      devices.add(keyPrefix(deviceId));
    },
    close: () => clearInterval(timer),
  };
}

async function forEach<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const item = items[next] as T;
      next += 1;
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
