import { checkSubjectTemplate, unsafeInToken } from '../../subject-template.js';

const headerLine = 'NATS/1.0\r\n';
const encoder = new TextEncoder();

/**
 * Prepares the subjects of one device: a function from topic to subject. The subjects of two different topics are
 * different when the template has `{topic}`.
 *
 * @param template one that `checkSubjectTemplate` has nothing against.
 */
export function compileSubject(
  template: string,
  device: { readonly id: string; readonly type: string },
): (topic: string) => string {
  const subject = template
    .split('.')
    .map((token) => {
      if (token === '{id}') return escapeToken(device.id);
      return token === '{type}' ? escapeToken(device.type) : token;
    })
    .join('.');
  if (!template.endsWith('{topic}')) return () => subject;
  const start = subject.slice(0, -'{topic}'.length);
  return (topic) => start + topicToTokens(topic);
}

/**
 * The subject of one device's messages: the template with the id filled in and wildcards for what else differs.
 *
 * @returns undefined when no subject singles a device out, or the template is not one.
 */
export function deviceSubject(template: string, id: string): string | undefined {
  if (checkSubjectTemplate(template) !== undefined) return undefined;
  const tokens = template.split('.');
  if (!tokens.includes('{id}')) return undefined;
  const wildcards: Readonly<Record<string, string>> = {
    '{id}': escapeToken(id),
    '{type}': '*',
    '{topic}': '>',
  };
  return tokens.map((token) => wildcards[token] ?? token).join('.');
}

/** A topic as the tokens of a subject: `/` becomes `.`, and what a token cannot carry is escaped. */
export function topicToTokens(topic: string): string {
  // The usual topic has nothing to escape, and telling that is cheaper than taking it apart.
  return /^[\w/:@+=-]+$/.test(topic) && !/^\/|\/\/|\/$/.test(topic)
    ? topic.replaceAll('/', '.')
    : topic.split('/').map(escapeToken).join('.');
}

/** Reads a topic back from the tokens that `topicToTokens` made. */
export function tokensToTopic(tokens: string): string {
  // The usual topic has nothing escaped.
  return tokens.includes('%') ? tokens.split('.').map(unescapeToken).join('/') : tokens.replaceAll('.', '/');
}

/** The topic of a subject; what is not an escape that `escapeToken` makes stays as it is. */
export function subjectToTopic(subject: string): string {
  try {
    return tokensToTopic(subject);
  } catch {
    return subject.replaceAll('.', '/');
  }
}

/**
 * Any text as one token of a subject: white space, control characters, `.`, `*`, `>` and `%` become `%` and two
 * digits for each byte of their UTF-8; the empty text becomes a lone `%`.
 */
export function escapeToken(text: string): string {
  return text === '' ? '%' : percentEncode(text, unsafeInToken);
}

/** Reads back what `percentEncode` made; a text that it cannot have made is answered as it is. */
export function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Reads back what `escapeToken` made. */
export function unescapeToken(token: string): string {
  return token === '%' ? '' : decodeURIComponent(token);
}

/**
 * Encodes the NATS headers of a message.
 *
 * `Mqtt-Topic` is the topic as published. A header cannot hold control characters nor white space at its ends: such
 * a topic is percent-encoded, and `Mqtt-Topic-Encoding: percent` says so. `Mqtt-Retain: 1` is there when the
 * device asked to retain the message.
 */
export function encodeHeaders(topic: string, retain = false): Uint8Array {
  const plain = !/\p{Cc}/u.test(topic) && topic === topic.trim() && topic !== '';
  const lines = plain
    ? `Mqtt-Topic: ${topic}\r\n`
    : `Mqtt-Topic: ${percentEncode(topic, /[\p{Cc}\p{Z}\uFEFF%]/gu)}\r\nMqtt-Topic-Encoding: percent\r\n`;
  return encoder.encode(`${headerLine}${lines}${retain ? 'Mqtt-Retain: 1\r\n' : ''}\r\n`);
}

/**
 * Reads the topic from the headers of a message; undefined when it did not come from a gateway.
 *
 * @param header answers a header's value, or the empty text when there is none.
 */
export function readTopicHeader(header: (name: string) => string): string | undefined {
  const value = header('Mqtt-Topic');
  if (header('Mqtt-Topic-Encoding') !== 'percent') return value === '' ? undefined : value;
  try {
    return decodeURIComponent(value);
  } catch {
    return undefined;
  }
}

/** Each of the characters as `%` and two digits for each byte of its UTF-8. */
export function percentEncode(text: string, characters: RegExp): string {
  return text.replace(characters, encodeCharacter);
}

/** For each byte. */
const escapes = Array.from(
  { length: 256 },
  (_, byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
);

function encodeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  if (code < 0x80) return escapes[code] as string;
  let text = '';
  for (const byte of encoder.encode(character)) text += escapes[byte];
  return text;
}
