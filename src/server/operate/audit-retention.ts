import { setTimeout as sleep } from 'node:timers/promises';
import { pruneAudit } from '../../db/audit-log.js';
import type { Database } from '../../db/connection/open.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';

const defaultTimes = {
  everyMs: 3_600_000,
  /** Between two batches, so that others get at the database. */
  pauseMs: 100,
};

/**
 * Deletes what the audit log has kept for longer than it is to, now and every hour. Replicas do not get in each
 * other's way.
 */
export function startAuditRetention(options: {
  readonly db: Database;
  readonly days: number;
  readonly log: Log;
  readonly times?: typeof defaultTimes;
}): { close(): Promise<void> } {
  const { db, days, log, times = defaultTimes } = options;
  const closing = new AbortController();

  const pruneAll = async () => {
    let total = 0;
    for (let more = true; more && !closing.signal.aborted; ) {
      const batch = await pruneAudit(db, days);
      total += batch.deleted;
      more = batch.more;
      if (more) await sleep(times.pauseMs, undefined, { signal: closing.signal });
    }
    if (total > 0)
      log.info({ event: 'audit_pruned', entries: total, days }, 'Old audit entries were deleted');
  };

  const run = async () => {
    while (!closing.signal.aborted) {
      await pruneAll().catch((error: unknown) => {
        if (closing.signal.aborted) return;
        log.warn(
          { event: 'audit_prune_failed', reason: messageOf(error) },
          'Old audit entries could not be deleted',
        );
      });
      await sleep(times.everyMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };

  const running = run();
  return {
    async close() {
      closing.abort();
      await running;
    },
  };
}
