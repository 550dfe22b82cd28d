import { isUtf8 } from 'node:buffer';

/** The packets' fields (MQTT 3.1.1 §1.5). One that is read and does not fit into the packet ends at -1. */

/** Where the length-prefixed field at `start` ends, or -1. */
export function fieldEnd(packet: Buffer, start: number): number {
  if (start < 0 || start + 2 > packet.length) return -1;
  const end = start + 2 + packet.readUInt16BE(start);
  return end > packet.length ? -1 : end;
}

/** Well-formed UTF-8 without U+0000 [MQTT-1.5.3-1] [MQTT-1.5.3-2]. */
export function isMqttText(bytes: Uint8Array): boolean {
  return isUtf8(bytes) && bytes.indexOf(0) === -1;
}

/** The text of the length-prefixed field from `start` to `end`, or undefined when it is not MQTT text. */
export function readText(packet: Buffer, start: number, end: number): string | undefined {
  const bytes = packet.subarray(start + 2, end);
  return isMqttText(bytes) ? bytes.toString('utf8') : undefined;
}

/** Writes text or bytes behind their length, and answers where they end. */
export function writeField(target: Buffer, offset: number, value: string | Buffer): number {
  const start = offset + 2;
  const bytes = typeof value === 'string' ? writeText(target, start, value) : value.copy(target, start);
  target[offset] = bytes >> 8;
  target[offset + 1] = bytes & 0xff;
  return start + bytes;
}

/** Short ASCII text is written faster without leaving JavaScript. Answers how many bytes it has. */
function writeText(target: Buffer, offset: number, text: string): number {
  if (text.length > 40) return target.write(text, offset);
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code >= 0x80) return target.write(text, offset);
    target[offset + index] = code;
  }
  return text.length;
}
