import { headerBlockOf } from './nats-internals.js';
import type { Msg } from './nats-library.js';

/**
 * The header block of a message, the line with its status first; the empty text when it has none. The library's own object takes
 * several times as long to make.
 */
export function headerTextOf(message: Msg): string {
  return headerBlockOf(message).toString();
}

/** What a line with a field begins with, by its name: the names are few, and looked for in every message. */
const beginnings = new Map<string, string>();

function beginningOf(name: string): string {
  let beginning = beginnings.get(name);
  if (beginning === undefined) {
    beginning = `\r\n${name}:`;
    beginnings.set(name, beginning);
  }
  return beginning;
}

/** A field of a header block, by its name as the program writes it; the empty text when there is none. */
export function findHeader(text: string, name: string): string {
  const beginning = beginningOf(name);
  return valueBehind(text, beginning, text.indexOf(beginning));
}

/** The same of a field that NATS has added: it stands behind what was sent, which may have one of this name, too. */
export function findAddedHeader(text: string, name: string): string {
  const beginning = beginningOf(name);
  return valueBehind(text, beginning, text.lastIndexOf(beginning));
}

function valueBehind(text: string, beginning: string, start: number): string {
  if (start < 0) return '';
  const from = start + beginning.length;
  return text.slice(from, text.indexOf('\r\n', from)).trim();
}

/** The fields of a header block in their order, as they were sent: NATS passes on more than its client libraries read. */
export function* fieldsOf(text: string): Iterable<readonly [name: string, value: string]> {
  for (const line of text.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon > 0) yield [line.slice(0, colon), line.slice(colon + 1).trim()];
  }
}

/** What NATS answers by itself when nobody listens to the subject. */
export function isNoResponders(answer: Msg): boolean {
  return answer.data.length === 0 && headerTextOf(answer).startsWith('NATS/1.0 503');
}
