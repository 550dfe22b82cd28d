import { escapeControls, unicodeEscapes } from '../terminal/text.js';

/** What a payload is: JSON, other text, or any other bytes. */
export type PayloadEncoding = 'json' | 'text' | 'binary';

export interface PayloadView {
  readonly encoding: PayloadEncoding;
  /** JSON: compact, with every digit and key as it came; text: as it came; binary: empty. */
  readonly text: string;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Tells JSON, text and binary apart. Text is well-formed UTF-8 without control characters that no text has. */
export function viewPayload(payload: Uint8Array): PayloadView {
  let text: string;
  try {
    text = strictUtf8.decode(payload);
  } catch {
    return { encoding: 'binary', text: '' };
  }
  // Tab, line breaks, form feed and escape occur in text; other control characters mean packed bytes.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this looks for.
  if (/[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]/.test(text)) return { encoding: 'binary', text: '' };
  try {
    JSON.parse(text);
    return { encoding: 'json', text: compactJson(text) };
  } catch {
    return { encoding: 'text', text };
  }
}

/** Removes white space between the tokens of valid JSON; parsing it instead would lose digits of large numbers. */
function compactJson(json: string): string {
  return json.replace(
    /("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\r\n]+/g,
    (_match, string: string | undefined) => string ?? '',
  );
}

/**
 * A payload on one line for a terminal as it came, JSON too, its control characters escaped.
 *
 * @param maxCharacters where to cut it off, with `…`; counted before escaping.
 */
export function showPayload(payload: Uint8Array, maxCharacters: number): string {
  const { encoding } = viewPayload(payload);
  if (encoding === 'binary') {
    const maxBytes = Math.floor(maxCharacters / 2);
    const hex = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.length, maxBytes)).toString(
      'hex',
    );
    return `0x${hex}${payload.length > maxBytes ? '…' : ''}`;
  }
  const text = strictUtf8.decode(payload);
  if (text.length <= maxCharacters) return escapeControls(text);
  // A surrogate pair must not be cut in half.
  const cut = text.slice(0, maxCharacters).replace(/[\ud800-\udbff]$/, '');
  return `${escapeControls(cut)}…`;
}

/** The fields `encoding` and `payload` of a JSON line, as JSON text without braces. */
export function payloadFields(payload: Uint8Array): string {
  const { encoding, text } = viewPayload(payload);
  if (encoding === 'json') return `"encoding":"json","payload":${unicodeEscapes(text)}`;
  if (encoding === 'text') return `"encoding":"text","payload":${unicodeEscapes(JSON.stringify(text))}`;
  return `"encoding":"base64","payload":"${Buffer.from(payload).toString('base64')}"`;
}
