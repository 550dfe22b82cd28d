import type { Log } from '../../log.js';

/** Without a failure for so long, and nothing waiting, a trouble counts as over. */
const quietMs = 2_000;
/** A cause that goes on is logged again after so long. */
const repeatMs = 600_000;
const maxCauses = 50;
/** JetStream's codes for a server without resources left. */
const spaceCodes = ['10023 ', '10047 '];
/** Nothing is said of a standstill shorter than this: the next answer may be a confirmation. */
const standstillMs = 1_000;

/** Nothing is stored. */
export interface Standstill {
  /** Of the first failure after the last message that was stored, ms since 1970. */
  readonly sinceMs: number;
  /** For everybody: without the subjects that messages go to, which name devices. */
  readonly reason: string;
  /** The server has no space for more. */
  readonly outOfSpace?: boolean;
}

/** What NATS refuses, logged once a cause when it begins and once when all is well again. */
export interface Troubles {
  /** @param cause stable key of the cause; `detail` is what NATS said. */
  note(cause: string, detail: string, nowMs: number): void;
  /**
   * Called now and then.
   *
   * @param waiting whether anything still waits because of a failure.
   * @param stored how many messages have been stored so far.
   */
  check(waiting: boolean, stored: number, nowMs: number): void;
  /** Undefined while messages are stored, or none is to be. */
  readonly standstill: Standstill | undefined;
}

export function openTroubles(log: Log): Troubles {
  const causes = new Map<string, { count: number; loggedAtMs: number }>();
  let beganAtMs = 0;
  let lastAtMs = 0;
  let storedBefore = 0;
  let standstill: (Standstill & { readonly beganAtMs: number }) | undefined;
  return {
    note(cause, detail, nowMs) {
      if (causes.size === 0) beganAtMs = nowMs;
      lastAtMs = nowMs;
      standstill = {
        beganAtMs: standstill?.beganAtMs ?? nowMs,
        sinceMs: standstill?.sinceMs ?? Date.now(),
        reason: cause === 'publish_denied' ? 'NATS does not let the user publish' : detail,
        outOfSpace: spaceCodes.some((code) => cause.startsWith(code)),
      };
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
    check(waiting, stored, nowMs) {
      if (stored !== storedBefore) standstill = undefined;
      storedBefore = stored;
      if (causes.size === 0 || waiting || nowMs - lastAtMs < quietMs) return;
      const failures = Object.fromEntries([...causes].map(([cause, { count }]) => [cause, count]));
      log.info(
        { event: 'uplink_stored_again', failures, forMs: Math.round(nowMs - beganAtMs) },
        'NATS stores messages again',
      );
      causes.clear();
      standstill = undefined;
    },
    get standstill() {
      return standstill !== undefined && performance.now() - standstill.beganAtMs >= standstillMs
        ? standstill
        : undefined;
    },
  };
}
