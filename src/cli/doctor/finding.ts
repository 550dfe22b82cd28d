import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, SvcMqttError } from '../../errors.js';

/** `warning`: works and should be looked at. `skipped`: could not be looked at, for a reason that is told. */
export type FindingStatus = 'ok' | 'warning' | 'problem' | 'skipped';

/** What one check has found. */
export interface Finding {
  /** A short stable name, such as `database` or `stream`. */
  readonly check: string;
  readonly status: FindingStatus;
  /** What is so, in a sentence without a full stop. */
  readonly detail: string;
  /** What to do about it; always there with a warning or a problem. */
  readonly action?: string | undefined;
}

/** Takes what a check finds, under its name. */
export interface Check {
  ok(detail: string): void;
  skipped(detail: string): void;
  warning(detail: string, action: string): void;
  problem(detail: string, action: string): void;
  /** A failure as a problem, with where it came about if its message does not say so. */
  failure(error: unknown, where?: string): void;
  /** Takes findings under another name, to stand among these. */
  named(name: string): Check;
  /** What was found so far, under other names too. */
  readonly findings: readonly Finding[];
}

function openCheck(check: string, findings: Finding[]): Check {
  const take = (status: FindingStatus) => (detail: string, action?: string) => {
    findings.push({ check, status, detail, action });
  };
  const problem = take('problem');
  return {
    ok: take('ok'),
    skipped: take('skipped'),
    warning: take('warning'),
    problem,
    failure(error, where = '') {
      const message = messageOf(error);
      const suggestion = error instanceof SvcMqttError ? error.suggestion : undefined;
      const detail = message.includes(where) ? message : `${message} (${where})`;
      problem(detail, suggestion ?? 'See what the message names');
    },
    named: (name) => openCheck(name, findings),
    findings,
  };
}

const late = Symbol('late');

/**
 * Runs one check for a bounded time; a failure becomes a finding and nothing else, so that the others go on.
 *
 * @param work gives its findings as it comes to them: those of before a failure stay.
 */
export async function runCheck(
  name: string,
  timeoutMs: number,
  work: (check: Check) => Promise<void>,
): Promise<Finding[]> {
  const check = openCheck(name, []);
  const timer = new AbortController();
  try {
    const outcome = await Promise.race([
      work(check),
      delay(timeoutMs, late, { signal: timer.signal }).catch(() => undefined),
    ]);
    if (outcome === late) {
      const detail = `The check did not end within ${timeoutMs / 1_000} s`;
      check.problem(detail, 'See whether what it asks is overloaded or frozen');
    }
  } catch (error) {
    check.failure(error);
  } finally {
    timer.abort();
  }
  // What comes late is not among them.
  return [...check.findings];
}
