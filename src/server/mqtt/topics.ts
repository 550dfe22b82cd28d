import { isWellFormedFilter } from '../../topic-template.js';
import type { CloseReason } from './close-reason.js';

/** Topic names and filters (MQTT 3.1.1 §4.7). */

/** Most characters of a filter: each subscription keeps it, and every delivery is held against it. */
export const maxFilterLength = 1_024;

/** Checks a topic name: not empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2]. */
export function checkTopic(topic: string): CloseReason | undefined {
  if (topic.length === 0) return 'empty-topic';
  return topic.includes('+') || topic.includes('#') ? 'topic-with-wildcards' : undefined;
}

/** Checks a topic filter: `#` alone in the last level, `+` alone in its level [MQTT-4.7.1-2] [MQTT-4.7.1-3]. */
export function checkFilter(filter: string): CloseReason | undefined {
  if (filter.length === 0) return 'empty-topic';
  return isWellFormedFilter(filter) ? undefined : 'malformed-filter';
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
  return coversLevels(outer.split('/'), inner.split('/'));
}

/** The same for levels that were split before. */
export function coversLevels(wide: readonly string[], narrow: readonly string[]): boolean {
  if (narrow[0]?.startsWith('$') === true && (wide[0] === '+' || wide[0] === '#')) return false;
  for (let index = 0; index < wide.length; index++) {
    const level = wide[index];
    // `a/#` matches `a` itself too, so it covers the filter `a` as well as everything below.
    if (level === '#') return true;
    const other = narrow[index];
    if (other === undefined || other === '#') return false;
    if (level !== '+' && level !== other) return false;
  }
  return narrow.length === wide.length;
}
