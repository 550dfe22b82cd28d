/** Placeholders of a subject template; each stands for a token, `{topic}` for as many as the topic has levels. */
const placeholders = ['{id}', '{type}', '{topic}'];
const headerLine = 'NATS/1.0\r\n';
const encoder = new TextEncoder();

/**
 * What is wrong with a subject template, or undefined.
 *
 * Its first token is literal, so that no device reaches a subject of NATS itself; `{topic}`, having many levels, is
 * the last.
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
    if (token !== escapeToken(token)) return `"${token}" holds a character that a subject cannot carry`;
  }
  if (/^[$_]/.test(template)) return 'subjects starting with $ or _ belong to NATS itself';
  return undefined;
}

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

/** A topic as the tokens of a subject: `/` becomes `.`, and what a token cannot carry is escaped. */
export function topicToTokens(topic: string): string {
  // The usual topic has nothing to escape, and telling that is cheaper than taking it apart.
  return /^[\w/:@+=-]+$/.test(topic) && !/^\/|\/\/|\/$/.test(topic)
    ? topic.replaceAll('/', '.')
    : topic.split('/').map(escapeToken).join('.');
}

/** Reads a topic back from the tokens that `topicToTokens` made. */
export function tokensToTopic(tokens: string): string {
  return tokens.split('.').map(unescapeToken).join('/');
}

/**
 * Any text as one token of a subject: white space, control characters, `.`, `*`, `>` and `%` become `%` and two
 * digits for each byte of their UTF-8; the empty text becomes a lone `%`.
 */
export function escapeToken(text: string): string {
  return text === '' ? '%' : percentEncode(text, /[\p{Cc}\p{Z}\uFEFF.*>%]/gu);
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

function percentEncode(text: string, characters: RegExp): string {
  return text.replace(characters, (character) =>
    Array.from(
      encoder.encode(character),
      (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    ).join(''),
  );
}
