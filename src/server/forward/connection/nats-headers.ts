import { headerBlockOf } from './nats-internals.js';
import type { Msg } from './nats-library.js';

/**
 * The header block of a message, the line with its status first; the empty text when it has none. The library's own object takes
 * several times as long to make.
 */
export function headerTextOf(message: Msg): string {
  const { buffer, byteOffset, length } = headerBlockOf(message);
  return Buffer.from(buffer, byteOffset, length).toString();
}

/** A field of a header block, by the name as it was written; the empty text when there is none. */
export function findHeader(text: string, name: string): string {
  const start = text.indexOf(`\r\n${name}:`);
  if (start < 0) return '';
  const from = start + name.length + 3;
  return text.slice(from, text.indexOf('\r\n', from)).trim();
}
