import type { AckLevel } from '../../../ack-level.js';
import { subjectsOfTemplate } from '../../../subject-template.js';
import type { NatsConnection } from '../connection/nats-library.js';
import { judgeDurability } from './durability.js';
import type { ServerSync } from './server-sync.js';
import { manageStreams } from './stream.js';
import { findStreamProblem, readUsableStream, type UnusableSubjects } from './stream-config.js';
import { covers, overlap } from './subject-match.js';

/** How streams stand to what devices send to subjects of their policies. */
export interface Coverage {
  /** The subject templates of which no stream takes and confirms every subject: messages there are not stored, or only some. */
  readonly uncovered: readonly string[];
  /** Of the same templates, subjects whose stream does not confirm: a message would be stored anew at each attempt. */
  readonly unusable: readonly UnusableSubjects[];
}

/** Subjects to which devices send, as a template, and what their acknowledgements are to be worth. */
export interface WantedSubjects {
  readonly template: string;
  readonly level: AckLevel;
}

/** @param domain see `manageStreams`. @throws NatsError when JetStream does not answer. */
export async function readCoverage(
  connection: NatsConnection,
  domain: string | undefined,
  wanted: readonly WantedSubjects[],
  sync: ServerSync,
): Promise<Coverage> {
  const manager = await manageStreams(connection, domain);
  const needed = wanted.map(({ template }) => subjectsOfTemplate(template).needed);
  const usable: string[] = [];
  const unusable: UnusableSubjects[] = [];
  for await (const info of manager.streams.list()) {
    const { config } = info;
    const { subjects = [] } = config;
    const problem = findStreamProblem({ ...config, subjects });
    const sentTo = wanted.filter((_, index) =>
      subjects.some((subject) => overlap(subject, needed[index] ?? '')),
    );
    if (problem === undefined) usable.push(...subjects);
    else if (sentTo.length > 0) unusable.push({ subjects, problem });
    const levels = new Set(sentTo.map(({ level }) => level));
    levels.delete('stored');
    if (problem !== undefined || levels.size === 0) continue;
    const { keeping } = readUsableStream(info, false);
    const { breaches } = judgeDurability(keeping, await sync.read(connection, keeping, levels.has('synced')));
    for (const level of levels) {
      const { reason } = breaches[level] ?? {};
      if (reason === undefined) continue;
      unusable.push({ subjects, level, problem: `acknowledgements are not ${level}: ${reason}` });
    }
  }
  return {
    uncovered: [
      ...new Set(
        wanted
          .filter((_, index) => !usable.some((subject) => covers(subject, needed[index] ?? '')))
          .map(({ template }) => template),
      ),
    ],
    unusable,
  };
}
