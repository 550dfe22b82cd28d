import { setTimeout as delay } from 'node:timers/promises';
import type { Database } from '../../db/connection/open.js';
import { isExpired, loadCredentials } from '../../db/devices/device-credentials.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';

const devicesAtOnce = 500;
const pauseMs = 50;
const retryMs = 10_000;

/**
 * Looks once, in the background, for devices that have sessions and are revoked, expired or deleted: that may have happened
 * while no replica ran.
 */
export function startSessionCheck(options: {
  db: Database;
  /** Ids of the devices that have sessions; undefined while that is not known. */
  readDevices(): Set<string> | undefined;
  onLost(deviceId: string): void;
  log: Log;
}): { close(): void } {
  const { db, log } = options;
  const closing = new AbortController();
  const { signal } = closing;

  async function check(): Promise<void> {
    let known = options.readDevices();
    while (known === undefined) {
      await delay(pauseMs * 10, undefined, { signal, ref: false });
      known = options.readDevices();
    }
    const ids = [...known];
    for (let start = 0; start < ids.length; start += devicesAtOnce) {
      const batch = ids.slice(start, start + devicesAtOnce);
      const good = await load(batch);
      for (const id of batch) if (!good.has(id)) options.onLost(id);
      await delay(pauseMs, undefined, { signal, ref: false });
    }
  }

  async function load(ids: readonly string[]): Promise<Set<string>> {
    for (;;) {
      try {
        const devices = await loadCredentials(db, ids);
        const good = devices.filter((device) => device.revokedAtMs === undefined && !isExpired(device));
        return new Set(good.map(({ id }) => id));
      } catch (error) {
        log.debug({ event: 'session_check_waits', reason: messageOf(error) }, 'the database is away');
        await delay(retryMs, undefined, { signal, ref: false });
      }
    }
  }

  check().catch((error: unknown) => {
    if (!signal.aborted)
      log.error({ event: 'session_check_failed', err: error }, 'sessions were not checked');
  });
  return { close: () => closing.abort() };
}
