import { messageOf } from '../../../../errors.js';
import type { LimitedLog } from '../../../../log.js';
import type { Presence } from '../../../forward/state/presence.js';
import { keyPrefix } from './session-key.js';
import { disown } from './session-record.js';
import type { SessionStore } from './session-store.js';

const lookEveryMs = 2_000;
/** A replica is dead when NATS has answered and it was missing for so long. */
const deadAfterMs = 10_000;
/** A replica that lives so long after a device was lost has ended the sessions of its connections: it is missed earlier. */
const endsWithinMs = 30_000;
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
  /** Sessions of lost devices that another replica had, by key: as whose, and as which connection's. */
  const leftTo = new Map<string, { owner: string; epoch: number; sinceMs: number }>();
  let running = false;

  async function look(): Promise<void> {
    if (running || !store.caughtUp || !store.reachable) return;
    running = true;
    try {
      await removeOfDevices();
      if (presence === undefined) return;
      for (const name of missing.keys())
        if (!presence.known || presence.alive.has(name)) missing.delete(name);
      if (!presence.known) return;
      await removeLeftToDead(presence);
      await partWithDead(presence);
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
    const left: [key: string, owner: string][] = [];
    for (const key of store.keys()) {
      if (!lost.has(key.slice(0, key.indexOf('.') + 1)) || options.isHere(key)) continue;
      const owner = owned.get(key);
      if (owner === undefined) keys.push(key);
      else left.push([key, owner]);
    }
    await forEach(keys, (key) => store.remove(key, undefined));
    if (presence !== undefined) await forEach(left, ([key, owner]) => leaveTo(owner, key));
    for (const device of lost) devices.delete(device);
    if (keys.length > 0)
      log.info(
        'sessions_removed',
        { sessions: keys.length, devices: lost.size },
        'Sessions of lost devices are removed',
      );
  }

  /** The replica that has the connection ends its session itself, if it lives. */
  async function leaveTo(owner: string, key: string): Promise<void> {
    const found = await store.load(key);
    if (found !== undefined) leftTo.set(key, { owner, epoch: found.epoch, sinceMs: performance.now() });
  }

  async function removeLeftToDead({ alive }: Presence): Promise<void> {
    const nowMs = performance.now();
    const keys: string[] = [];
    for (const [key, { owner, sinceMs }] of leftTo) {
      if (isDead(owner, alive, nowMs)) keys.push(key);
      else if (!store.has(key) || (alive.has(owner) && nowMs - sinceMs >= endsWithinMs)) leftTo.delete(key);
    }
    await forEach(keys, removeLeft);
  }

  async function removeLeft(key: string): Promise<void> {
    const left = leftTo.get(key);
    const found = await store.load(key);
    // Its client may be back meanwhile, if the device may connect again.
    if (found !== undefined && found.epoch === left?.epoch) await store.remove(key, found.revision);
    leftTo.delete(key);
  }

  function isDead(name: string, alive: ReadonlySet<string>, nowMs: number): boolean {
    if (alive.has(name)) return false;
    const sinceMs = missing.get(name) ?? nowMs;
    missing.set(name, sinceMs);
    return nowMs - sinceMs >= deadAfterMs;
  }

  async function partWithDead({ alive }: Presence): Promise<void> {
    const nowMs = performance.now();
    const keys = [...store.owned()].filter(([, owner]) => isDead(owner, alive, nowMs));
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
