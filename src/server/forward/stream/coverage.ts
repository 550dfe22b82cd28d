import { subjectsOfTemplate } from '../../../subject-template.js';
import type { NatsConnection } from '../connection/nats-library.js';
import { manageStreams } from './stream.js';
import { findStreamProblem, type UnusableSubjects } from './stream-config.js';
import { covers, overlap } from './subject-match.js';

/** How streams stand to what devices send to subjects of their policies. */
export interface Coverage {
  /** The subject templates of which no stream takes and confirms every subject: messages there are not stored, or only some. */
  readonly uncovered: readonly string[];
  /** Of the same templates, subjects whose stream does not confirm: a message would be stored anew at each attempt. */
  readonly unusable: readonly UnusableSubjects[];
}

/** @param domain see `manageStreams`. @throws NatsError when JetStream does not answer. */
export async function readCoverage(
  connection: NatsConnection,
  domain: string | undefined,
  templates: readonly string[],
): Promise<Coverage> {
  const manager = await manageStreams(connection, domain);
  const needed = templates.map((template) => subjectsOfTemplate(template).needed);
  const usable: string[] = [];
  const unusable: UnusableSubjects[] = [];
  for await (const { config } of manager.streams.list()) {
    const { subjects = [] } = config;
    const problem = findStreamProblem({ ...config, subjects });
    if (problem === undefined) usable.push(...subjects);
    else if (subjects.some((subject) => needed.some((each) => overlap(subject, each))))
      unusable.push({ subjects, problem });
  }
  return {
    uncovered: templates.filter(
      (_, index) => !usable.some((subject) => covers(subject, needed[index] ?? '')),
    ),
    unusable,
  };
}
