import type { Log } from '../../log.js';

/** Without a failure for so long, and nothing waiting, a trouble counts as over. */
const quietMs = 2_000;
const maxCauses = 50;

/** What NATS refuses, logged once a cause when it begins and once when all is well again. */
export interface Troubles {
  /** @param cause stable key of the cause; `detail` is what NATS said. */
  note(cause: string, detail: string, nowMs: number): void;
  /** Called now and then. @param waiting whether anything still waits because of a failure. */
  check(waiting: boolean, nowMs: number): void;
}

export function openTroubles(log: Log): Troubles {
  const counts = new Map<string, number>();
  let beganAtMs = 0;
  let lastAtMs = 0;
  return {
    note(cause, detail, nowMs) {
      if (counts.size === 0) beganAtMs = nowMs;
      lastAtMs = nowMs;
      const count = counts.get(cause);
      if (count === undefined) {
        if (counts.size >= maxCauses) return;
        log.error(
          { event: 'uplink_not_stored', cause, detail },
          'NATS does not store messages; they are not acknowledged and are tried again',
        );
      }
      counts.set(cause, (count ?? 0) + 1);
    },
    check(waiting, nowMs) {
      if (counts.size === 0 || waiting || nowMs - lastAtMs < quietMs) return;
      log.info(
        {
          event: 'uplink_stored_again',
          failures: Object.fromEntries(counts),
          forMs: Math.round(nowMs - beganAtMs),
        },
        'NATS stores messages again',
      );
      counts.clear();
    },
  };
}
