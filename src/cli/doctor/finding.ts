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

export const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail });
export const skipped = (check: string, detail: string): Finding => ({ check, status: 'skipped', detail });
export const warning = (check: string, detail: string, action: string): Finding => ({
  check,
  status: 'warning',
  detail,
  action,
});
export const problem = (check: string, detail: string, action: string): Finding => ({
  check,
  status: 'problem',
  detail,
  action,
});

/** A failure as a finding. */
export function toFinding(check: string, error: unknown): Finding {
  const suggestion = error instanceof SvcMqttError ? error.suggestion : undefined;
  return problem(check, messageOf(error), suggestion ?? 'See what the message names');
}

const late = Symbol('late');

/**
 * Runs one check for a bounded time; a failure becomes a finding and nothing else, so that the others go on.
 *
 * @param work gives its findings as it comes to them: those of before a failure stay.
 */
export async function runCheck(
  check: string,
  timeoutMs: number,
  work: (add: (finding: Finding) => void) => Promise<void>,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let open = true;
  const add = (finding: Finding) => {
    if (open) findings.push(finding);
  };
  const timer = new AbortController();
  try {
    const outcome = await Promise.race([
      work(add),
      delay(timeoutMs, late, { signal: timer.signal }).catch(() => undefined),
    ]);
    if (outcome === late) {
      const detail = `The check did not end within ${timeoutMs / 1_000} s`;
      add(problem(check, detail, 'See whether what it asks is overloaded or frozen'));
    }
  } catch (error) {
    add(toFinding(check, error));
  } finally {
    open = false;
    timer.abort();
  }
  return findings;
}
