import type { DevicePolicy } from '../db/policies.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { subjectsOfTemplate } from '../subject-template.js';

/** Watches that a stream takes what policies send to subjects of their own. */
export interface SubjectCoverage {
  /** Warns of every subject that no stream covers, when the policies name other subjects than before. */
  check(policies: readonly DevicePolicy[]): void;
  /** The same of one subject template, as a sentence, or nothing. Also nothing when NATS does not answer. */
  describe(template: string): Promise<string | undefined>;
}

/** @param options.findUncovered answers undefined when nobody can tell: without JetStream, or while NATS is away. */
export function openSubjectCoverage(options: {
  findUncovered(templates: readonly string[]): Promise<readonly string[] | undefined>;
  log: Log;
}): SubjectCoverage {
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
    async describe(template) {
      const uncovered = await find([template]);
      return uncovered.length === 0
        ? undefined
        : `nats_subject: no stream covers ${subjectsOfTemplate(template).needed}, so messages of these devices are not acknowledged until one does`;
    },
  };
}
