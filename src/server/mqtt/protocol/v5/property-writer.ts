import type { UserProperties } from '../codec.js';
import { writeField } from '../field.js';
import { variableIntegerBytes, writeVariableInteger } from '../variable-integer.js';
import { type Place, type Properties, type Property, properties } from './property-table.js';

const longestLifetime = 0xffff_ffff;
const maxTextBytes = 0xffff;

/** The properties that a server may send at a place. */
export function propertiesOf(place: Place): readonly Property[] {
  return properties.filter((property) => (property.places & place) !== 0);
}

/** Bytes of those of `list` that have a value, without their length. Throws a RangeError for what no field can hold. */
export function propertiesBytes(values: Properties, list: readonly Property[]): number {
  let bytes = 0;
  for (const { name, type, bytes: fixed } of list) {
    const value = values[name];
    if (value === undefined) continue;
    if (type === 'pair') {
      for (const [key, text] of value as UserProperties) bytes += 1 + fieldBytes(key) + fieldBytes(text);
    } else if (type === 'variable') {
      bytes += 1 + variableIntegerBytes(value as number);
    } else {
      bytes += 1 + (fixed ?? fieldBytes(value as string | Buffer));
    }
  }
  return bytes;
}

/** Writes those of `list` that have a value, without their length, and answers where they end. */
export function writeProperties(
  target: Buffer,
  offset: number,
  values: Properties,
  list: readonly Property[],
): number {
  let at = offset;
  for (const { id, name, type } of list) {
    const value = values[name];
    if (value === undefined) continue;
    if (type === 'pair') {
      for (const pair of value as UserProperties) {
        target[at] = id;
        at = writeField(target, writeField(target, at + 1, pair[0]), pair[1]);
      }
      continue;
    }
    target[at++] = id;
    switch (type) {
      case 'flag':
        target[at++] = Number(value);
        break;
      case 'uint16':
        at = target.writeUInt16BE(value as number, at);
        break;
      case 'uint32':
      case 'lifetime':
        at = target.writeUInt32BE(Math.min(value as number, longestLifetime), at);
        break;
      case 'variable':
        at = writeVariableInteger(target, at, value as number);
        break;
      default:
        at = writeField(target, at, value as string | Buffer);
    }
  }
  return at;
}

function fieldBytes(value: string | Buffer): number {
  const bytes = typeof value === 'string' ? Buffer.byteLength(value) : value.length;
  if (bytes > maxTextBytes) throw new RangeError(`a property of ${bytes} bytes: 65,535 are the most`);
  return 2 + bytes;
}
