/** Variable byte integers (MQTT 5.0 §1.5.5). */

/**
 * The value at `start`, or -1 when it does not fit, has more than four bytes, or more bytes than it needs
 * [MQTT-1.5.5-1]. So its size follows from its value.
 */
export function readVariableInteger(packet: Buffer, start: number): number {
  let value = 0;
  for (let index = 0; index < 4; index += 1) {
    const byte = packet[start + index];
    if (byte === undefined) return -1;
    value |= (byte & 0x7f) << (7 * index);
    if (byte < 0x80) return byte === 0 && index > 0 ? -1 : value;
  }
  return -1;
}

export function variableIntegerBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  return value < 0x200000 ? 3 : 4;
}

/** Answers where the value that it writes at `offset` ends. */
export function writeVariableInteger(target: Buffer, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  while (rest >= 0x80) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>= 7;
  }
  target[at++] = rest;
  return at;
}
