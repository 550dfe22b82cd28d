import { findDeadLetterProblem } from '../../server/forward/dead-letters.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import type { Check } from './finding.js';

const suggestion = 'Give DEAD_LETTER_SUBJECT a subject of its own, such as dead.letters, and a stream for it';

/**
 * Whether what is refused is kept: by a stream that is none of those which refuse it.
 *
 * @param templates where messages of devices go, and what says so.
 * @param streams those that take them.
 */
export async function checkDeadLetters(
  { ok, warning, problem }: Check,
  subject: string,
  templates: readonly { readonly template: string; readonly source: string }[],
  streams: ReadonlySet<string>,
  inspector: NatsInspector,
): Promise<void> {
  for (const { template, source } of templates) {
    const conflict = findDeadLetterProblem(subject, template, source);
    if (conflict !== undefined)
      return problem(`DEAD_LETTER_SUBJECT cannot be "${subject}": ${conflict}`, suggestion);
  }
  const covering = (await inspector.findStreams(subject)).find((stream) => stream.covering);
  if (covering === undefined)
    return warning(
      `No stream takes ${subject}: refused messages reach only who subscribes to it at that moment`,
      `Run: nats stream add DEAD --subjects ${subject} --storage file --max-age 30d --max-bytes 1GB --defaults`,
    );
  const { name, messages } = covering;
  if (streams.has(name))
    return problem(
      `Stream ${name} takes ${subject}, and stores what devices send: serve does not start`,
      suggestion,
    );
  ok(`Stream ${name} holds ${formatCount(messages, 'message')} that were refused`);
}
