/** Templates of the topics that devices of one type may use: MQTT topic filters with `{id}` and `{type}`. */

/** Most levels of a topic or filter: the session engine's matcher takes no more. */
export const maxTopicLevels = 100;
/** Most characters of a template. */
const maxTemplateLength = 256;

const level = '(?:[^\\p{Cc}\\p{Cs}/{}+#]*(?:\\{(?:id|type)\\}[^\\p{Cc}\\p{Cs}/{}+#]*)?|\\+)';
/** What `checkTopicTemplate` takes, for readers of the HTTP API's specification; a test holds both together. */
export const topicTemplatePattern = `^(?!\\$)(?=.{1,${maxTemplateLength}}$)(?:#|${level}(?:/${level}){0,${maxTopicLevels - 1}}|(?:${level}/){1,${maxTopicLevels - 1}}#)$`;

/** What a device may publish to and subscribe to when its type has no policy: its own topics only. */
export const defaultTemplates = {
  publish: ['raw.{id}', 'raw/{id}', 'raw/{id}/#'],
  subscribe: ['cmd/{id}/#'],
} as const;

const placeholder = /\{(?:id|type)\}/;

/** Whether wildcards stand where they may: `#` alone in the last level, `+` alone in its level (MQTT 3.1.1 §4.7.1). */
export function isWellFormedFilter(filter: string): boolean {
  const levels = filter.split('/');
  return levels.every(
    (level, index) =>
      (level.length <= 1 || !/[+#]/.test(level)) && (level !== '#' || index === levels.length - 1),
  );
}

/**
 * Checks a template. A level holds at most one placeholder, so that no two devices fill it with the same text.
 *
 * @returns what is wrong, in words that follow the template, or undefined when nothing is.
 */
export function checkTopicTemplate(template: unknown): string | undefined {
  if (typeof template !== 'string') return 'must be a text';
  if (template === '') return 'must not be empty';
  if (template.length > maxTemplateLength) return `must not be longer than ${maxTemplateLength} characters`;
  if (/[\p{Cc}\p{Cs}]/u.test(template)) return 'must not contain control characters';
  if (template.startsWith('$')) return 'starts with $, and such topics are never for devices';
  if (!isWellFormedFilter(template))
    return 'has a misplaced wildcard: + and # stand alone, # in the last level';
  const levels = template.split('/');
  if (levels.length > maxTopicLevels) return `must not have more than ${maxTopicLevels} levels`;
  for (const level of levels) {
    const rest = level.replace(placeholder, '');
    if (placeholder.test(rest)) return 'has two placeholders in one level; put a / between them';
    if (/[{}]/.test(rest)) return 'has braces that are no placeholder; there are {id} and {type}';
  }
  return undefined;
}

/** Puts id and type into a template, or answers undefined when a value would widen what it is meant to confine. */
export function fillTemplate(template: string, device: { id: string; type: string }): string | undefined {
  let safe = true;
  const filter = template.replace(/\{(id|type)\}/g, (_token, name: 'id' | 'type') => {
    const value = device[name];
    if (value === '' || /[/+#]/.test(value)) safe = false;
    return value;
  });
  return safe ? filter : undefined;
}

/** A filter that matches every topic that any device could use by a template, and perhaps more. */
export function widenTemplate(template: string): string {
  return template
    .split('/')
    .map((level) => (placeholder.test(level) ? '+' : level))
    .join('/');
}

/** Whether there is a topic name that both filters match. */
export function filtersOverlap(one: string, other: string): boolean {
  return levelsMeet(one.split('/'), other.split('/'), (left, right) => left === right);
}

/**
 * Whether a topic could match one template filled for one device and another filled for another device of the same
 * type. A template without `{id}` so meets itself.
 */
export function templatesMeet(one: string, other: string): boolean {
  return levelsMeet(one.split('/'), other.split('/'), (left, right) =>
    left === right ? !left.includes('{id}') : canBeEqual(left, right),
  );
}

function levelsMeet(
  ones: readonly string[],
  others: readonly string[],
  meet: (one: string, other: string) => boolean,
): boolean {
  for (let index = 0; ; index += 1) {
    const [one, other] = [ones[index], others[index]];
    if (one === '#' || other === '#') return true;
    if (one === undefined || other === undefined) return one === other;
    if (one !== '+' && other !== '+' && !meet(one, other)) return false;
  }
}

/** Whether two different levels can be filled to the same text. */
function canBeEqual(one: string, other: string): boolean {
  const [before, after] = one.split(placeholder);
  const [otherBefore, otherAfter] = other.split(placeholder);
  if (before === undefined || otherBefore === undefined) return true;
  if (after === undefined && otherAfter === undefined) return false;
  if (otherAfter === undefined) return surrounds(before, after ?? '', other);
  if (after === undefined) return surrounds(otherBefore, otherAfter, one);
  return (
    (before.startsWith(otherBefore) || otherBefore.startsWith(before)) &&
    (after.endsWith(otherAfter) || otherAfter.endsWith(after))
  );
}

function surrounds(before: string, after: string, text: string): boolean {
  return text.length > before.length + after.length && text.startsWith(before) && text.endsWith(after);
}
