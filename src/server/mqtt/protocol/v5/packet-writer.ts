import { variableIntegerBytes, writeVariableInteger } from '../variable-integer.js';
import type { Properties, Property } from './property-table.js';
import { propertiesBytes, writeProperties } from './property-writer.js';

/** A packet of `head` and those properties that fit. */
export function encodePacket(
  firstByte: number,
  head: readonly number[],
  properties: Properties,
  list: readonly Property[],
  maxPacketBytes: number,
): Buffer {
  const fitting = fitProperties(head.length, properties, list, maxPacketBytes);
  return writePacket(firstByte, head, fitting, list, propertiesBytes(fitting, list));
}

/**
 * The same with a reason code behind `head`, as short as it can be: without properties their length is left out, and
 * with it a code of 0.
 */
export function encodeReasoned(
  firstByte: number,
  head: readonly number[],
  reasonCode: number,
  properties: Properties,
  list: readonly Property[],
  maxPacketBytes: number,
): Buffer {
  const fitting = fitProperties(head.length + 1, properties, list, maxPacketBytes);
  const inProperties = propertiesBytes(fitting, list);
  if (inProperties > 0) return writePacket(firstByte, [...head, reasonCode], fitting, list, inProperties);
  const body = reasonCode === 0 ? head : [...head, reasonCode];
  return Buffer.from([firstByte, body.length, ...body]);
}

function writePacket(
  firstByte: number,
  head: readonly number[],
  properties: Properties,
  list: readonly Property[],
  inProperties: number,
): Buffer {
  const length = bodyBytes(head.length, inProperties);
  const packet = Buffer.allocUnsafe(1 + variableIntegerBytes(length) + length);
  packet[0] = firstByte;
  let at = writeVariableInteger(packet, 1, length);
  for (const byte of head) packet[at++] = byte;
  writeProperties(packet, writeVariableInteger(packet, at, inProperties), properties, list);
  return packet;
}

/**
 * User Properties, and then the Reason String, are left out of a packet that would be too large for the client
 * [MQTT-3.2.2-19] [MQTT-3.2.2-20].
 */
function fitProperties(
  headBytes: number,
  properties: Properties,
  list: readonly Property[],
  maxPacketBytes: number,
): Properties {
  if (maxPacketBytes === Number.POSITIVE_INFINITY) return properties;
  const length = bodyBytes(headBytes, propertiesBytes(properties, list));
  if (1 + variableIntegerBytes(length) + length <= maxPacketBytes) return properties;
  const { userProperties, reasonString, ...rest } = properties;
  if (userProperties === undefined) return rest;
  return fitProperties(headBytes, { ...rest, reasonString }, list, maxPacketBytes);
}

function bodyBytes(headBytes: number, inProperties: number): number {
  return headBytes + variableIntegerBytes(inProperties) + inProperties;
}
