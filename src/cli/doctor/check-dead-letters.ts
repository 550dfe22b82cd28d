import { findDeadLetterProblem } from '../../server/forward/dead-letters.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import { type Finding, ok, problem, warning } from './finding.js';

const suggestion = 'Give DEAD_LETTER_SUBJECT a subject of its own, such as dead.letters, and a stream for it';

/**
 * Whether what is refused is kept: by a stream that is none of those which refuse it.
 *
 * @param templates where messages of devices go, and what says so.
 * @param streams those that take them.
 */
export async function checkDeadLetters(
  subject: string,
  templates: readonly { readonly template: string; readonly source: string }[],
  streams: ReadonlySet<string>,
  inspector: NatsInspector,
): Promise<Finding> {
  for (const { template, source } of templates) {
    const conflict = findDeadLetterProblem(subject, template, source);
    if (conflict !== undefined)
      return problem('dead-letters', `DEAD_LETTER_SUBJECT cannot be "${subject}": ${conflict}`, suggestion);
  }
  const covering = (await inspector.findStreams(subject)).find((stream) => stream.covering);
  if (covering === undefined)
    return warning(
      'dead-letters',
      `No stream takes ${subject}: refused messages reach only who subscribes to it at that moment`,
      `Run: nats stream add DEAD --subjects ${subject} --storage file --max-age 30d --max-bytes 1GB --defaults`,
    );
  if (streams.has(covering.name))
    return problem(
      'dead-letters',
      `Stream ${covering.name} takes ${subject}, and stores what devices send: serve does not start`,
      suggestion,
    );
  return ok(
    'dead-letters',
    `Stream ${covering.name} holds ${formatCount(covering.messages, 'message')} that were refused`,
  );
}
