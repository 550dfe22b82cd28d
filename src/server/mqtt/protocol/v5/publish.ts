import type { CloseReason } from '../close-reason.js';
import type { Delivery, OutgoingPublish, PublishProperties } from '../codec.js';
import { writeField } from '../field.js';
import { variableIntegerBytes, writeVariableInteger } from '../variable-integer.js';
import { decodeProperties } from './property-reader.js';
import { Place } from './property-table.js';
import { propertiesBytes, propertiesOf, writeProperties } from './property-writer.js';

/** The properties between `start` and `end` of a PUBLISH; Correlation Data is a view of the packet. */
export function decodePublishProperties(
  packet: Buffer,
  start: number,
  end: number,
): PublishProperties | CloseReason {
  return decodeProperties(packet, start, end, Place.publish);
}

const messageList = propertiesOf(Place.will).filter(({ name }) => name !== 'willDelaySec');
const aliasId = 0x23;
const subscriptionId = 0x0b;

/**
 * Encodes PUBLISH. The caller holds the length against what the client takes. Throws a RangeError for a property of more
 * than 65,535 bytes.
 */
export function encodePublish(message: OutgoingPublish, delivery: Delivery): Buffer {
  const { qos, packetId, alias } = delivery;
  const { payload, properties, subscriptionIds = [] } = message;
  const topic = alias === undefined || alias.isNew ? message.topic : '';
  let inProperties = alias === undefined ? 0 : 3;
  if (properties !== undefined) inProperties += propertiesBytes(properties, messageList);
  for (const id of subscriptionIds) inProperties += 1 + variableIntegerBytes(id);
  const beforePayload =
    2 + Buffer.byteLength(topic) + (qos > 0 ? 2 : 0) + variableIntegerBytes(inProperties) + inProperties;
  const length = beforePayload + payload.length;

  const packet = Buffer.allocUnsafe(1 + variableIntegerBytes(length) + length);
  packet[0] = 0x30 | (delivery.dup ? 0x08 : 0) | (qos << 1) | (message.retain ? 0x01 : 0);
  let at = writeField(packet, writeVariableInteger(packet, 1, length), topic);
  if (qos > 0) at = packet.writeUInt16BE(packetId, at);
  at = writeVariableInteger(packet, at, inProperties);
  if (alias !== undefined) {
    packet[at] = aliasId;
    at = packet.writeUInt16BE(alias.number, at + 1);
  }
  if (properties !== undefined) at = writeProperties(packet, at, properties, messageList);
  for (const id of subscriptionIds) {
    packet[at] = subscriptionId;
    at = writeVariableInteger(packet, at + 1, id);
  }
  payload.copy(packet, at);
  return packet;
}
