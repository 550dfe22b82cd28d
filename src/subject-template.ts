/** Templates of NATS subjects: `{id}`, `{type}` and, last, `{topic}`, each a token of its own. */

/** Placeholders of a subject template; each stands for a token, `{topic}` for as many as the topic has levels. */
const placeholders = ['{id}', '{type}', '{topic}'];

/** Characters that one token of a subject cannot carry, a half of a surrogate pair among them, and the one that escapes them. */
export const unsafeInToken = /[\p{Cc}\p{Cs}\p{Z}\uFEFF.*>%]/gu;

/** How subjects begin that mean something else to a gateway, and what. */
const taken = [
  ['cmd', 'devices would get it as commands'],
  ['call', 'devices would be asked it'],
  ['event.device', 'services would take it for events of devices'],
  ['svc-mqtt', 'replicas tell each other things there'],
] as const;
/** A template that may become an event of a device too: a device or a type can be called `device`, or a topic begin so. */
const mayBeEvent = String.raw`event\.\{(?:topic\}|[a-z]+\}\.)`;
const mayBeEventPattern = new RegExp(`^${mayBeEvent}`);

/** What would become of messages on a subject that a gateway has another use for; undefined: it has none. */
export function findOtherUse(subject: string): string | undefined {
  if (mayBeEventPattern.test(subject)) return 'services could take it for events of devices';
  return taken.find(([first]) => `${subject}.`.startsWith(`${first}.`))?.[1];
}

const notTaken = `(?!${mayBeEvent}|(?:${taken.map(([first]) => first.replace('.', '\\.')).join('|')})(?:\\.|$))`;
const word = '[^\\p{Cc}\\p{Cs}\\p{Z}\\uFEFF.*>%{}]+';
/** What `checkSubjectTemplate` takes, for readers of the HTTP API's specification; a test holds both together. */
export const subjectTemplatePattern = `^(?![$_])${notTaken}${word}(?:\\.(?:${word}|\\{id\\}|\\{type\\}))*(?:\\.\\{topic\\})?$`;

/**
 * What is wrong with a subject template, or undefined.
 *
 * Its first token is literal, so that no device reaches a subject of NATS itself, or one that a gateway has another use for;
 * `{topic}`, having many levels, is the last.
 */
export function checkSubjectTemplate(template: string): string | undefined {
  const tokens = template.split('.');
  if (tokens.includes('')) return 'it has an empty token';
  for (const [index, token] of tokens.entries()) {
    if (placeholders.includes(token)) {
      if (index === 0) return `it starts with ${token}: the first token must be a word, as in raw.{id}`;
      if (token === '{topic}' && index !== tokens.length - 1) return '{topic} must be the last token';
      continue;
    }
    if (/[{}]/.test(token)) {
      return `"${token}" is not a token: a placeholder stands alone between dots, and is one of ${placeholders.join(' ')}`;
    }
    if (/[*>]/.test(token)) return `"${token}" holds a wildcard`;
    if (token.search(unsafeInToken) >= 0) return `"${token}" holds a character that a subject cannot carry`;
  }
  if (/^[$_]/.test(template)) return 'subjects starting with $ or _ belong to NATS itself';
  return findOtherUse(template);
}

/**
 * What a stream must cover for a template, and what a new stream is made to cover. They differ where the template
 * ends in placeholders: `raw.{id}` needs `raw.*`, and a new stream takes `raw.>`.
 */
export function subjectsOfTemplate(template: string): { readonly needed: string; readonly offered: string } {
  const tokens = template.split('.').map((token) => {
    if (token === '{topic}') return '>';
    return placeholders.includes(token) ? '*' : token;
  });
  let end = tokens.length;
  while (tokens[end - 1] === '*' || tokens[end - 1] === '>') end -= 1;
  return {
    needed: tokens.join('.'),
    offered: (end === tokens.length ? tokens : [...tokens.slice(0, end), '>']).join('.'),
  };
}
