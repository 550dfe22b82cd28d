import type { Log } from '../../log.js';

/** Without a failure for so long, and nothing waiting, a trouble counts as over. */
const quietMs = 2_000;
/** A cause that goes on is logged again after so long. */
const repeatMs = 600_000;
const maxCauses = 50;

/** What NATS refuses, logged once a cause when it begins and once when all is well again. */
export function openFailureLog(log: Log) {
  const causes = new Map<string, { count: number; loggedAtMs: number }>();
  let beganAtMs = 0;
  let lastAtMs = 0;
  return {
    /** @param cause stable key of the cause; `detail` is what NATS said. */
    note(cause: string, detail: string, nowMs: number): void {
      if (causes.size === 0) beganAtMs = nowMs;
      lastAtMs = nowMs;
      const known = causes.get(cause);
      if (known === undefined && causes.size >= maxCauses) return;
      const count = (known?.count ?? 0) + 1;
      const again = known === undefined || nowMs - known.loggedAtMs >= repeatMs;
      causes.set(cause, { count, loggedAtMs: again ? nowMs : known.loggedAtMs });
      if (!again) return;
      log.error(
        { event: 'uplink_not_stored', cause, detail, ...(known === undefined ? {} : { failures: count }) },
        'NATS does not store messages; they are not acknowledged and are tried again',
      );
    },
    /** Called now and then. @param waiting whether anything still waits because of a failure. */
    check(waiting: boolean, nowMs: number): void {
      if (causes.size === 0 || waiting || nowMs - lastAtMs < quietMs) return;
      const failures = Object.fromEntries([...causes].map(([cause, { count }]) => [cause, count]));
      log.info(
        { event: 'uplink_stored_again', failures, forMs: Math.round(nowMs - beganAtMs) },
        'NATS stores messages again',
      );
      causes.clear();
    },
  };
}
