import type { Config } from '../../config.js';
import type { DevicePolicy } from '../../db/policies.js';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import type { PolicyRules } from '../../policy.js';
import { subjectsOfTemplate } from '../../subject-template.js';
import { within } from '../../time-limit.js';
import type { Coverage, WantedSubjects } from '../forward/stream/coverage.js';
import type { UnusableSubjects } from '../forward/stream/stream-config.js';
import { overlap } from '../forward/stream/subject-match.js';

/** How streams stand to subject templates; undefined without JetStream. Rejects when NATS is away. */
type ReadCoverage = (wanted: readonly WantedSubjects[]) => Promise<Coverage | undefined>;

const covered: Coverage = { uncovered: [], unusable: [] };
/** Streams change seldom; a policy that changes is looked at once. */
const lookEveryMs = 30_000;
const longestWaitMs = 2_000;

/** What a policy asks of streams, and which of its fields does. */
export interface PolicyWants extends WantedSubjects {
  readonly field: 'nats_subject' | 'ack_level';
}

/** What a policy asks of streams beside that of NATS_SUBJECT; undefined: nothing. */
export function wantedOf(
  { natsSubject, ackLevel }: Pick<PolicyRules, 'natsSubject' | 'ackLevel'>,
  settings: Pick<Config, 'natsSubject' | 'ackLevel'>,
): PolicyWants | undefined {
  if (natsSubject === null && ackLevel === null) return undefined;
  const field = natsSubject === null ? 'ack_level' : 'nats_subject';
  return { template: natsSubject ?? settings.natsSubject, level: ackLevel ?? settings.ackLevel, field };
}

/**
 * A warning, as a sentence, when no stream covers a subject template or an acknowledgement is not worth what is wanted, or when NATS
 * does not say so within 2 seconds.
 */
export async function describeCoverage(
  wanted: PolicyWants,
  readCoverage: ReadCoverage,
): Promise<string | undefined> {
  const { needed } = subjectsOfTemplate(wanted.template);
  const tooLate = () =>
    new SvcMqttError('NATS_UNREACHABLE', `NATS did not answer within ${longestWaitMs / 1_000} s`);
  try {
    const reading = within(longestWaitMs, readCoverage([wanted]), tooLate);
    const { uncovered, unusable } = (await reading) ?? covered;
    const [first] = unusable;
    if (uncovered.length === 0) {
      return first && `ack_level: ${first.problem}, so messages of these devices are not acknowledged`;
    }
    const why = first === undefined ? `no stream covers ${needed}` : first.problem;
    return `${wanted.field}: ${why}, so messages of these devices are not acknowledged until one does`;
  } catch (error) {
    const reason =
      error instanceof SvcMqttError ? messageOf(error) : `JetStream does not answer (${messageOf(error)})`;
    const what =
      wanted.field === 'nats_subject'
        ? `a stream covers ${needed}`
        : `the stream of ${needed} keeps messages as ${wanted.level} says`;
    return `${wanted.field}: whether ${what} was not checked: ${reason}`;
  }
}

/**
 * Watches that a stream takes what policies send to subjects of their own.
 *
 * @param options.onUnusable what streams of policies take and do not confirm, whenever it was read.
 */
export function openSubjectCoverage(options: {
  readCoverage: ReadCoverage;
  onUnusable(subjects: readonly UnusableSubjects[]): void;
  settings: Pick<Config, 'natsSubject' | 'ackLevel' | 'ackLevelOnBreach'>;
  log: Log;
}) {
  const { readCoverage, onUnusable, settings, log } = options;
  let checked = '';
  let policies: readonly DevicePolicy[] = [];
  let warned: readonly string[] = [];
  let broken: readonly string[] = [];

  async function look(): Promise<void> {
    const looked = checked;
    const wanted = wantedOfAll(policies);
    try {
      const { uncovered, unusable } =
        (wanted.length === 0 ? undefined : await readCoverage(wanted)) ?? covered;
      if (looked !== checked) return;
      const warns = settings.ackLevelOnBreach === 'warn';
      onUnusable(unusable.filter(({ level }) => level === undefined || !warns));
      const problems = unusable.flatMap(({ level, problem }) => (level === undefined ? [] : problem));
      for (const reason of problems) {
        if (broken.includes(reason)) continue;
        log.warn(
          { event: 'policy_subject_ack_level_broken', reason },
          'The stream of a policy does not keep messages as is promised: they are not acknowledged',
        );
      }
      broken = problems;
      for (const template of uncovered) if (!warned.includes(template)) warn(template, unusable);
      warned = uncovered;
    } catch (error) {
      log.debug({ event: 'coverage_unknown', reason: messageOf(error) }, 'Streams could not be listed');
    }
  }

  /** Only subjects of policies: the stream of NATS_SUBJECT is watched for itself. */
  function wantedOfAll(all: readonly DevicePolicy[]): WantedSubjects[] {
    return all.flatMap((policy) =>
      policy.natsSubject === null || policy.natsSubject === settings.natsSubject
        ? []
        : (wantedOf(policy, settings) ?? []),
    );
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
    /** From now on warns of every subject of these policies that no stream covers. */
    check(loaded: readonly DevicePolicy[]): void {
      policies = loaded;
      const key = [...new Set(wantedOfAll(loaded).map(({ template, level }) => `${template} ${level}`))]
        .sort()
        .join(' ');
      if (key === checked) return;
      checked = key;
      void look();
    },
    /** The same of one policy, as `describeCoverage` says it. */
    async describe(rules: PolicyRules): Promise<string | undefined> {
      const wanted = wantedOf(rules, settings);
      return wanted === undefined ? undefined : await describeCoverage(wanted, readCoverage);
    },
    close: (): void => clearInterval(timer),
  };
}
