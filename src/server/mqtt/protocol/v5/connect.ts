import { isUtf8 } from 'node:buffer';
import type { CloseReason } from '../close-reason.js';
import type { Connect, MessageProperties, Will } from '../codec.js';
import { fieldEnd, readText } from '../field.js';
import type { QoS } from '../packet-type.js';
import { checkTopic } from '../topics.js';
import { propertiesEnd, readProperties } from './property-reader.js';
import { Place, type Properties } from './property-table.js';

/**
 * Decodes and checks the CONNECT of MQTT 5.0 (§3.1) from its flags on, which stand behind protocol name and version. The
 * client id may be empty, and there may be a password without a user name.
 */
export function decodeConnect5(packet: Buffer, flagsAt: number): Connect | CloseReason {
  const propertiesAt = flagsAt + 3;
  if (propertiesAt > packet.length) return 'malformed-packet';
  const flags = packet[flagsAt] as number;
  const flagProblem = checkConnectFlags(flags);
  if (flagProblem !== undefined) return flagProblem;

  const clientIdStart = propertiesEnd(packet, propertiesAt);
  const properties = readProperties(packet, propertiesAt, clientIdStart, Place.connect);
  if (typeof properties === 'string') return properties;
  const { authenticationMethod, authenticationData } = properties;
  if (authenticationData !== undefined && authenticationMethod === undefined) return 'invalid-property'; // §3.1.2.11.10
  const payload = decodePayload(packet, clientIdStart, flags);
  if (typeof payload === 'string') return payload;
  return {
    version: 5,
    clientId: payload.clientId,
    cleanStart: (flags & 0x02) !== 0,
    sessionExpirySec: properties.sessionExpirySec ?? 0,
    keepaliveSec: packet.readUInt16BE(flagsAt + 1),
    receiveMaximum: properties.receiveMaximum ?? 65_535,
    maxPacketBytes: properties.maxPacketBytes ?? Number.POSITIVE_INFINITY,
    topicAliasMaximum: properties.topicAliasMaximum ?? 0,
    wantsResponseInformation: properties.wantsResponseInformation ?? false,
    wantsProblemInformation: properties.wantsProblemInformation ?? true,
    userProperties: properties.userProperties ?? [],
    authenticationMethod,
    userName: payload.userName,
    password: payload.password,
    will: payload.will,
  };
}

function checkConnectFlags(flags: number): CloseReason | undefined {
  if ((flags & 0x01) !== 0) return 'reserved-bits'; // [MQTT-3.1.2-3]
  if ((flags & 0x18) === 0x18) return 'invalid-qos'; // [MQTT-3.1.2-12]
  // A QoS or retain of a will that is not there [MQTT-3.1.2-11] [MQTT-3.1.2-13].
  return (flags & 0x04) === 0 && (flags & 0x38) !== 0 ? 'reserved-bits' : undefined;
}

/** Client id, will, user name, password, in that order [MQTT-3.1.3-1]. */
function decodePayload(
  packet: Buffer,
  start: number,
  flags: number,
): Pick<Connect, 'clientId' | 'will' | 'userName' | 'password'> | CloseReason {
  const clientIdEnd = fieldEnd(packet, start);
  if (clientIdEnd === -1) return 'malformed-packet';
  const clientId = readText(packet, start, clientIdEnd);
  if (clientId === undefined) return 'invalid-utf8'; // [MQTT-3.1.3-4]

  let end = clientIdEnd;
  let will: Will | undefined;
  if ((flags & 0x04) !== 0) {
    const decoded = decodeWill(packet, end, flags);
    if (typeof decoded === 'string') return decoded;
    will = decoded.will;
    end = decoded.end;
  }
  const userNameStart = end;
  if ((flags & 0x80) !== 0) end = fieldEnd(packet, end);
  const passwordStart = end;
  if ((flags & 0x40) !== 0) end = fieldEnd(packet, end);
  if (end !== packet.length) return 'malformed-packet';

  let userName: string | undefined;
  if ((flags & 0x80) !== 0) {
    userName = readText(packet, userNameStart, passwordStart);
    if (userName === undefined) return 'invalid-utf8'; // [MQTT-3.1.3-12]
  }
  const password = (flags & 0x40) !== 0 ? packet.subarray(passwordStart + 2, end) : undefined;
  return { clientId, will, userName, password };
}

/** Its properties, topic and payload (§3.1.3.2 to §3.1.3.4). A will outlives the packet, so its bytes are copied. */
function decodeWill(packet: Buffer, start: number, flags: number): { will: Will; end: number } | CloseReason {
  const topicStart = propertiesEnd(packet, start);
  const properties = readProperties(packet, start, topicStart, Place.will);
  if (typeof properties === 'string') return properties;
  const topicEnd = fieldEnd(packet, topicStart);
  const end = fieldEnd(packet, topicEnd);
  if (end === -1) return 'malformed-packet';
  const topic = readText(packet, topicStart, topicEnd);
  if (topic === undefined) return 'invalid-utf8'; // [MQTT-3.1.3-11]
  const topicProblem = checkTopic(topic);
  if (topicProblem !== undefined) return topicProblem;
  const payload = Buffer.from(packet.subarray(topicEnd + 2, end));
  if (properties.isText === true && !isUtf8(payload)) return 'payload-not-utf8';
  const will: Will = {
    topic,
    payload,
    qos: ((flags >> 3) & 0x03) as QoS,
    retain: (flags & 0x20) !== 0,
    delaySec: properties.willDelaySec ?? 0,
    properties: messageProperties(properties),
  };
  return { will, end };
}

function messageProperties(properties: Properties): MessageProperties | undefined {
  const { willDelaySec: _, correlationData, ...rest } = properties;
  if (correlationData !== undefined) return { ...rest, correlationData: Buffer.from(correlationData) };
  return Object.keys(rest).length === 0 ? undefined : rest;
}
