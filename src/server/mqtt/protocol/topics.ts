import { isWellFormedFilter } from '../../../topic-template.js';
import type { CloseReason } from './close-reason.js';

/** Topic names and filters (MQTT 3.1.1 §4.7). */

/** Bounds of topic names and filters. */
export interface TopicLimits {
  /** Most bytes of the UTF-8 text. */
  readonly maxTopicBytes: number;
  readonly maxTopicLevels: number;
}

/** Of a filter, whatever is configured: each subscription keeps its filter, and every delivery is held against it. */
const maxFilterBytes = 1_024;

/** Which of the bounds a topic name is over. */
export function checkTopicSize(
  topic: string,
  limits: TopicLimits,
): 'topic-too-long' | 'topic-too-deep' | undefined {
  const { maxTopicBytes, maxTopicLevels } = limits;
  if (isLongerThan(topic, maxTopicBytes)) return 'topic-too-long';
  return hasMoreLevels(topic, maxTopicLevels) ? 'topic-too-deep' : undefined;
}

/** Which of the bounds a filter is over. */
export function checkFilterSize(
  filter: string,
  limits: TopicLimits,
): 'topic-too-long' | 'topic-too-deep' | undefined {
  const maxTopicBytes = Math.min(limits.maxTopicBytes, maxFilterBytes);
  return checkTopicSize(filter, { ...limits, maxTopicBytes });
}

function isLongerThan(text: string, maxBytes: number): boolean {
  // No character takes more than three bytes for each of its UTF-16 units.
  return text.length > maxBytes || (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes);
}

export function hasMoreLevels(text: string, maxLevels: number): boolean {
  let levels = 1;
  for (let at = text.indexOf('/'); at !== -1; at = text.indexOf('/', at + 1)) {
    levels += 1;
    if (levels > maxLevels) return true;
  }
  return levels > maxLevels;
}

/** Checks a topic name: not empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2]. */
export function checkTopic(topic: string): CloseReason | undefined {
  if (topic.length === 0) return 'empty-topic';
  return topic.includes('+') || topic.includes('#') ? 'topic-with-wildcards' : undefined;
}

/** A topic name in a text from elsewhere: what it is encoded to is well-formed, and must be without U+0000 [MQTT-1.5.3-1] [MQTT-1.5.3-2]. */
export function isTopic(text: string): boolean {
  return checkTopic(text) === undefined && !text.includes('\0');
}

/** Checks a topic filter: `#` alone in the last level, `+` alone in its level [MQTT-4.7.1-2] [MQTT-4.7.1-3]. */
export function checkFilter(filter: string): CloseReason | undefined {
  if (filter.length === 0) return 'empty-topic';
  return isWellFormedFilter(filter) ? undefined : 'malformed-filter';
}

/** What a SUBSCRIBE asks for: a filter, and the name of the share where it is to be shared with other clients. */
export interface FilterParts {
  readonly shareName: string | undefined;
  readonly filter: string;
}

export const sharePrefix = '$share/';

/**
 * Parts `$share/<name>/<filter>` (MQTT 5.0 §4.8.2). Any other filter stands for itself.
 *
 * @returns undefined when the name or the filter behind it is not well-formed [MQTT 5.0 MQTT-4.8.2-1, 4.8.2-2].
 */
export function partFilter(text: string): FilterParts | undefined {
  if (!text.startsWith(sharePrefix)) return { shareName: undefined, filter: text };
  const nameEnd = text.indexOf('/', sharePrefix.length);
  if (nameEnd === -1) return undefined;
  const shareName = text.slice(sharePrefix.length, nameEnd);
  const filter = text.slice(nameEnd + 1);
  if (shareName === '' || /[+#]/.test(shareName) || checkFilter(filter) !== undefined) return undefined;
  return { shareName, filter };
}

/**
 * A topic name matches a filter. A filter that begins with a wildcard does not match a topic that begins with `$`
 * [MQTT-4.7.2-1].
 */
export function matches(filter: string, topic: string): boolean {
  return covers(filter, topic);
}

/**
 * Every topic that `inner` matches, `outer` matches too. A topic name is the filter that matches only itself, so
 * this decides the matching of topics as well.
 */
export function covers(outer: string, inner: string): boolean {
  if (inner.startsWith('$') && (isLevel(outer, 0, '+') || isLevel(outer, 0, '#'))) return false;
  // Level by level, without parting the texts: each message is held against the filters of each client that may have it.
  let at = 0;
  let other = 0;
  while (at <= outer.length) {
    // `a/#` matches `a` itself too, so it covers the filter `a` as well as everything below.
    if (isLevel(outer, at, '#')) return true;
    if (other > inner.length || isLevel(inner, other, '#')) return false;
    const end = levelEnd(outer, at);
    const otherEnd = levelEnd(inner, other);
    if (!isLevel(outer, at, '+') && !isSame(outer, at, end, inner, other, otherEnd)) return false;
    at = end + 1;
    other = otherEnd + 1;
  }
  return other > inner.length;
}

function isLevel(text: string, at: number, wildcard: '+' | '#'): boolean {
  return text[at] === wildcard && (at + 1 === text.length || text[at + 1] === '/');
}

function levelEnd(text: string, at: number): number {
  const end = text.indexOf('/', at);
  return end === -1 ? text.length : end;
}

function isSame(one: string, at: number, end: number, other: string, otherAt: number, otherEnd: number) {
  if (end - at !== otherEnd - otherAt) return false;
  for (let index = at; index < end; index += 1)
    if (one.charCodeAt(index) !== other.charCodeAt(index - at + otherAt)) return false;
  return true;
}
