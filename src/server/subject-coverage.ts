import { setTimeout as delay } from 'node:timers/promises';
import type { DevicePolicy } from '../db/policies.js';
import { messageOf, SvcMqttError } from '../errors.js';
import type { Log } from '../log.js';
import { subjectsOfTemplate } from '../subject-template.js';

/** Watches that a stream takes what policies send to subjects of their own. */
export interface SubjectCoverage {
  /** Warns of every subject that no stream covers, when the policies name other subjects than before. */
  check(policies: readonly DevicePolicy[]): void;
  /** The same of one subject template, as `describeCoverage` says it. */
  describe(template: string): Promise<string | undefined>;
}

/** Of subject templates, those that no stream covers; undefined without JetStream. Rejects when NATS is away. */
type FindUncovered = (templates: readonly string[]) => Promise<readonly string[] | undefined>;

const longestWaitMs = 2_000;

/** A warning, as a sentence, when no stream covers a subject template, or when NATS does not say so within 2 seconds. */
export async function describeCoverage(
  template: string,
  findUncovered: FindUncovered,
): Promise<string | undefined> {
  const { needed } = subjectsOfTemplate(template);
  const done = new AbortController();
  const tooLate = delay(longestWaitMs, undefined, { signal: done.signal }).then(() => {
    throw new SvcMqttError('NATS_UNREACHABLE', `NATS did not answer within ${longestWaitMs / 1_000} s`);
  });
  try {
    const uncovered = (await Promise.race([findUncovered([template]), tooLate])) ?? [];
    return uncovered.length === 0
      ? undefined
      : `nats_subject: no stream covers ${needed}, so messages of these devices are not acknowledged until one does`;
  } catch (error) {
    const reason =
      error instanceof SvcMqttError ? messageOf(error) : `JetStream does not answer (${messageOf(error)})`;
    return `nats_subject: whether a stream covers ${needed} was not checked: ${reason}`;
  } finally {
    done.abort();
  }
}

export function openSubjectCoverage(options: { findUncovered: FindUncovered; log: Log }): SubjectCoverage {
  const { findUncovered, log } = options;
  let checked = '';

  const find = async (templates: readonly string[]): Promise<readonly string[]> => {
    try {
      return (await findUncovered(templates)) ?? [];
    } catch (error) {
      log.debug({ event: 'coverage_unknown', reason: messageOf(error) }, 'Streams could not be listed');
      return [];
    }
  };
  return {
    check(policies) {
      const templates = [...new Set(policies.flatMap(({ natsSubject }) => natsSubject ?? []))].sort();
      const key = templates.join(' ');
      if (key === checked) return;
      checked = key;
      void find(templates).then((uncovered) => {
        for (const template of uncovered) {
          const types = policies.flatMap(({ type, natsSubject }) => (natsSubject === template ? type : []));
          log.warn(
            {
              event: 'policy_subject_not_covered',
              subject: subjectsOfTemplate(template).needed,
              types: types.slice(0, 20),
            },
            'No stream takes every subject of a policy: messages of its devices are not stored and not acknowledged',
          );
        }
      });
    },
    describe: (template) => describeCoverage(template, findUncovered),
  };
}
