import { type Log, limitLog } from '../../../log.js';
import type { NatsErrorReport } from './nats-internals.js';

/** What the server complains about is forgotten after so long, so that it is logged again when it goes on. */
const errorsKeptMs = 60_000;
const maxErrorsKept = 1_000;
/** A missing permission can be one for each device. */
const maxErrorsLogged = 10;
/** By which replicas see each other: without it each shows itself alone. */
const fleetSubjects = /^(?:\$SRV\.|svc-mqtt\.fleet\.)/;

/** Logs what the server complains about, above all missing permissions, once a minute for each subject. */
export function openErrorReport(log: Log): { report(error: NatsErrorReport): void; close(): void } {
  const limited = limitLog(log, { maxLines: maxErrorsLogged, windowMs: errorsKeptMs });
  const seen = new Set<string>();
  let sinceMs = performance.now();
  return {
    report({ data, permissionContext }) {
      const { operation, subject } = permissionContext ?? {};
      const key = `${data} ${operation} ${subject}`;
      const nowMs = performance.now();
      if (nowMs - sinceMs >= errorsKeptMs) {
        seen.clear();
        sinceMs = nowMs;
      }
      if (seen.has(key)) return;
      if (seen.size < maxErrorsKept) seen.add(key);
      if (subject !== undefined && fleetSubjects.test(subject)) {
        log.debug(
          { event: 'fleet_denied', operation, subject },
          'A permission to see other replicas is missing',
        );
        return;
      }
      limited.error('nats_error', { code: data, operation, subject }, 'NATS reported an error');
    },
    close: () => limited.close(),
  };
}
