import { createInterestSummary, everything, prefixOf } from '../../../forward/state/interest-summary.js';
import { partFilter } from '../../protocol/topics.js';
import { isOwn } from '../commands/command-topics.js';
import type { StoredSubscription } from './session-record.js';

/** Bytes that a session's record has for it in its headers; with more, everything counts as wanted. */
const maxBytes = 1_024;
/** What stands for the prefix of topics whose first level is empty: a header has no place for an empty text. */
const behindSlash = '/+';

/**
 * What the topics begin with whose messages a session takes from the stream: percent-encoded, one behind the other. Empty when it
 * takes none: those at the device's own `cmd/` are commands, and what is shared is given to who is connected.
 */
export function describeWants(deviceId: string, subscriptions: readonly StoredSubscription[]): string {
  const prefixes: string[] = [];
  for (const { name } of subscriptions) {
    const parts = partFilter(name);
    if (parts === undefined || parts.shareName !== undefined || isOwn(parts, deviceId)) continue;
    prefixes.push(prefixOf(parts.filter) || behindSlash);
  }
  if (prefixes.length === 0) return '';
  const text = [...new Set(prefixes)].sort().map(encodeURIComponent).join(' ');
  return text.length > maxBytes ? encodeURIComponent(everything) : text;
}

/** What stored sessions want of messages between devices: nothing is kept of one that wants none, and equal texts once. */
export function createSessionWants() {
  const summary = createInterestSummary();
  /** How many sessions have a text, by it. */
  const texts = new Map<string, { readonly text: string; count: number }>();
  const ofSessions = new Map<string, string>();

  function forEachPrefix(text: string, call: (prefix: string) => void): void {
    for (const part of text.split(' ')) call(decode(part));
  }

  function release(text: string): void {
    const known = texts.get(text);
    if (known === undefined) return;
    known.count -= 1;
    if (known.count > 0) return;
    texts.delete(text);
    forEachPrefix(text, (prefix) => summary.remove(prefix));
  }

  function set(key: string, text: string): void {
    const before = ofSessions.get(key);
    if (before === text || (before === undefined && text === '')) return;
    if (text === '') {
      ofSessions.delete(key);
    } else {
      const known = texts.get(text) ?? { text, count: 0 };
      known.count += 1;
      ofSessions.set(key, known.text);
      if (known.count === 1) {
        texts.set(text, known);
        forEachPrefix(text, (prefix) => summary.add(prefix));
      }
    }
    if (before !== undefined) release(before);
  }

  return {
    /** @param text as `describeWants` made it. */
    set,
    /** Forgets the sessions that are gone. */
    keep(isThere: (key: string) => boolean): void {
      for (const key of ofSessions.keys()) if (!isThere(key)) set(key, '');
    },
    /** Some session could want a message of this topic. */
    match: (topic: string): boolean => ofSessions.size > 0 && summary.match(topic),
  };
}

/** What no gateway made is taken for all that there is. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return everything;
  }
}
