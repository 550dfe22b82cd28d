import { randomFillSync } from 'node:crypto';
import type { MessageProperties } from '../protocol/codec.js';

/** Trace id and parent id: 16 and 8 bytes. */
const idBytes = 24;
const pool = Buffer.allocUnsafe(128 * idBytes);
let used = pool.length;

/** The line of a `traceparent` of its own, sampled (W3C Trace Context §3.2). */
export function newTraceparentLine(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const traceId = pool.toString('hex', used, used + 16);
  const parentId = pool.toString('hex', used + 16, used + idBytes);
  used += idBytes;
  return `traceparent: 00-${traceId}-${parentId}-01\r\n`;
}

/** Whether the client has given its message a `traceparent`. */
export function hasTraceparent(properties: MessageProperties | undefined): boolean {
  return properties?.userProperties?.some(([name]) => name.toLowerCase() === 'traceparent') === true;
}
