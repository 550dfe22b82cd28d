import type { CloseReason } from '../close-reason.js';
import { fieldEnd, isMqttText } from '../field.js';
import { checkTopic } from '../topics.js';
import { readVariableInteger, variableIntegerBytes } from '../variable-integer.js';
import { type Place, type Properties, type Property, propertyById } from './property-table.js';

type Found = { -readonly [Name in keyof Properties]: unknown };

const none: Properties = Object.freeze({});
const longestLifetime = 0xffff_ffff;
/** Texts are cut from one string up to so many bytes of properties: it lives as long as one of them does. */
const maxSharedBytes = 1_024;

/** The bytes that properties are read from. */
interface Source {
  readonly packet: Buffer;
  readonly start: number;
  /** A character for each byte from `start` on. */
  readonly latin1: string | undefined;
}

/** Where the properties whose length stands at `at` end, or -1 when they do not fit into the packet. */
export function propertiesEnd(packet: Buffer, at: number): number {
  const length = readVariableInteger(packet, at);
  if (length === -1) return -1;
  const end = at + variableIntegerBytes(length) + length;
  return end > packet.length ? -1 : end;
}

/** Where the properties begin whose length stands at `at`, and fits. */
export function propertiesStart(packet: Buffer, at: number): number {
  return at + variableIntegerBytes(readVariableInteger(packet, at));
}

/** The properties of a client whose length stands at `at`; `end` is what `propertiesEnd` says. */
export function readProperties(
  packet: Buffer,
  at: number,
  end: number,
  place: Place,
): Properties | CloseReason {
  if (end === -1) return 'malformed-property';
  return decodeProperties(packet, propertiesStart(packet, at), end, place);
}

/**
 * The properties of a client from `start` to `end`, checked as far as one can without knowing the connection
 * (MQTT 5.0 §2.2.2). Binary values are views of the packet.
 */
export function decodeProperties(
  packet: Buffer,
  start: number,
  end: number,
  place: Place,
): Properties | CloseReason {
  if (start === end) return none;
  const latin1 = end - start <= maxSharedBytes ? packet.toString('latin1', start, end) : undefined;
  const source: Source = { packet, start, latin1 };
  const found: Found = {};
  let seen = 0;
  let at = start;
  while (at < end) {
    const property = propertyById[packet[at] as number];
    // An identifier that is unknown or not of this packet makes the packet malformed (§2.2.2.2).
    if (property === undefined || (property.places & place) === 0) return 'malformed-property';
    if ((property.serverPlaces & place) !== 0) return 'invalid-property';
    if ((seen & property.bit) !== 0) return 'invalid-property';
    if (property.type !== 'pair') seen |= property.bit;
    at += 1;
    const valueEnd = endOfValue(packet, at, property);
    if (valueEnd === -1 || valueEnd > end) return 'malformed-property';
    const problem = readValue(found, property, source, at, valueEnd);
    if (problem !== undefined) return problem;
    at = valueEnd;
  }
  return found as Properties;
}

/** Where the value at `at` ends, or -1. */
function endOfValue(packet: Buffer, at: number, { type, bytes }: Property): number {
  if (bytes !== undefined) return at + bytes;
  if (type === 'variable') {
    const value = readVariableInteger(packet, at);
    return value === -1 ? -1 : at + variableIntegerBytes(value);
  }
  const end = fieldEnd(packet, at);
  return type === 'pair' ? fieldEnd(packet, end) : end;
}

/** Puts the value between `start` and `end` into `found`, or answers what is wrong with it. */
function readValue(
  found: Found,
  { name, type, zero }: Property,
  source: Source,
  start: number,
  end: number,
): CloseReason | undefined {
  const { packet } = source;
  switch (type) {
    case 'text':
    case 'topic': {
      const text = readShortText(source, start + 2, end);
      if (text === undefined) return 'invalid-utf8';
      if (type === 'topic' && checkTopic(text) !== undefined) return 'invalid-property'; // [MQTT-3.3.2-14]
      found[name] = text;
      return undefined;
    }
    case 'pair': {
      const split = fieldEnd(packet, start);
      const key = readShortText(source, start + 2, split);
      const value = readShortText(source, split + 2, end);
      if (key === undefined || value === undefined) return 'invalid-utf8';
      const pairs = found[name] as [string, string][] | undefined;
      if (pairs === undefined) found[name] = [[key, value]];
      else pairs.push([key, value]);
      return undefined;
    }
    case 'binary':
      found[name] = packet.subarray(start + 2, end);
      return undefined;
    default: {
      const value =
        type === 'variable' ? readVariableInteger(packet, start) : readInteger(packet, start, end);
      if (value === 0 && zero !== undefined) return zero;
      if (type === 'flag') {
        if (value > 1) return 'invalid-property';
        found[name] = value === 1;
      } else {
        found[name] = type === 'lifetime' && value === longestLifetime ? Number.POSITIVE_INFINITY : value;
      }
      return undefined;
    }
  }
}

function readInteger(packet: Buffer, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < end; at += 1) value = value * 256 + (packet[at] as number);
  return value;
}

/** The text from `start` to `end`, or undefined when it is not MQTT text. Nearly always it is ASCII. */
function readShortText(source: Source, start: number, end: number): string | undefined {
  const { packet, latin1 } = source;
  for (let at = start; at < end; at += 1) {
    const byte = packet[at] as number;
    if (byte === 0) return undefined;
    if (byte >= 0x80)
      return isMqttText(packet.subarray(start, end)) ? packet.toString('utf8', start, end) : undefined;
  }
  return latin1 === undefined
    ? packet.toString('latin1', start, end)
    : latin1.slice(start - source.start, end - source.start);
}
