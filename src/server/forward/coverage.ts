import type { NatsConnection } from 'nats';
import { subjectsOfTemplate } from '../../subject-template.js';
import { covers } from './subject-match.js';

const timeoutMs = 5_000;

/**
 * Of subject templates, those of which no stream takes every subject: messages there are not stored, or only some.
 *
 * @throws NatsError when JetStream does not answer.
 */
export async function findUncovered(
  connection: NatsConnection,
  templates: readonly string[],
): Promise<string[]> {
  const manager = await connection.jetstreamManager({ checkAPI: false, timeout: timeoutMs });
  const subjects: string[] = [];
  for await (const { config } of manager.streams.list()) subjects.push(...(config.subjects ?? []));
  return templates.filter((template) => {
    const { needed } = subjectsOfTemplate(template);
    return !subjects.some((subject) => covers(subject, needed));
  });
}
