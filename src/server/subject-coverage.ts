import { setTimeout as delay } from 'node:timers/promises';
import type { DevicePolicy } from '../db/policies.js';
import { messageOf, SvcMqttError } from '../errors.js';
import type { Log } from '../log.js';
import { subjectsOfTemplate } from '../subject-template.js';
import type { Coverage } from './forward/stream/coverage.js';
import type { UnusableSubjects } from './forward/stream/stream-config.js';
import { overlap } from './forward/stream/subject-match.js';

/** Watches that a stream takes what policies send to subjects of their own. */
export interface SubjectCoverage {
  /** From now on warns of every subject of these policies that no stream covers. */
  check(policies: readonly DevicePolicy[]): void;
  /** The same of one subject template, as `describeCoverage` says it. */
  describe(template: string): Promise<string | undefined>;
  close(): void;
}

/** How streams stand to subject templates; undefined without JetStream. Rejects when NATS is away. */
type ReadCoverage = (templates: readonly string[]) => Promise<Coverage | undefined>;

const covered: Coverage = { uncovered: [], unusable: [] };
/** Streams change seldom; a policy that changes is looked at once. */
const lookEveryMs = 30_000;
const longestWaitMs = 2_000;

/** A warning, as a sentence, when no stream covers a subject template, or when NATS does not say so within 2 seconds. */
export async function describeCoverage(
  template: string,
  readCoverage: ReadCoverage,
): Promise<string | undefined> {
  const { needed } = subjectsOfTemplate(template);
  const done = new AbortController();
  const tooLate = delay(longestWaitMs, undefined, { signal: done.signal }).then(() => {
    throw new SvcMqttError('NATS_UNREACHABLE', `NATS did not answer within ${longestWaitMs / 1_000} s`);
  });
  try {
    const { uncovered, unusable } = (await Promise.race([readCoverage([template]), tooLate])) ?? covered;
    if (uncovered.length === 0) return undefined;
    const [first] = unusable;
    const why = first === undefined ? `no stream covers ${needed}` : first.problem;
    return `nats_subject: ${why}, so messages of these devices are not acknowledged until one does`;
  } catch (error) {
    const reason =
      error instanceof SvcMqttError ? messageOf(error) : `JetStream does not answer (${messageOf(error)})`;
    return `nats_subject: whether a stream covers ${needed} was not checked: ${reason}`;
  } finally {
    done.abort();
  }
}

/**
 * @param options.onUnusable what streams of policies take and do not confirm, whenever it was read.
 */
export function openSubjectCoverage(options: {
  readCoverage: ReadCoverage;
  onUnusable(subjects: readonly UnusableSubjects[]): void;
  log: Log;
}): SubjectCoverage {
  const { readCoverage, onUnusable, log } = options;
  let checked = '';
  let policies: readonly DevicePolicy[] = [];
  let warned: readonly string[] = [];

  async function look(): Promise<void> {
    const looked = checked;
    const templates = templatesOf(policies);
    try {
      const { uncovered, unusable } =
        (templates.length === 0 ? undefined : await readCoverage(templates)) ?? covered;
      if (looked !== checked) return;
      onUnusable(unusable);
      for (const template of uncovered) if (!warned.includes(template)) warn(template, unusable);
      warned = uncovered;
    } catch (error) {
      log.debug({ event: 'coverage_unknown', reason: messageOf(error) }, 'Streams could not be listed');
    }
  }

  function warn(template: string, unusable: readonly UnusableSubjects[]): void {
    const { needed } = subjectsOfTemplate(template);
    const types = policies.flatMap(({ type, natsSubject }) => (natsSubject === template ? type : []));
    const reason = unusable.find(({ subjects }) =>
      subjects.some((subject) => overlap(subject, needed)),
    )?.problem;
    log.warn(
      { event: 'policy_subject_not_covered', subject: needed, types: types.slice(0, 20), reason },
      'No stream takes and confirms every subject of a policy: messages of its devices are not stored and not acknowledged',
    );
  }

  const timer = setInterval(look, lookEveryMs);
  timer.unref();
  return {
    check(loaded) {
      policies = loaded;
      const key = templatesOf(loaded).join(' ');
      if (key === checked) return;
      checked = key;
      void look();
    },
    describe: (template) => describeCoverage(template, readCoverage),
    close: () => clearInterval(timer),
  };
}

function templatesOf(policies: readonly DevicePolicy[]): string[] {
  return [...new Set(policies.flatMap(({ natsSubject }) => natsSubject ?? []))].sort();
}
