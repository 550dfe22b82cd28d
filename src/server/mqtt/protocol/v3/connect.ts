import type { CloseReason } from '../close-reason.js';
import type { Connect, Will } from '../codec.js';
import { fieldEnd, readText } from '../field.js';
import type { ProtocolVersion, QoS } from '../packet-type.js';

const protocolNames: Readonly<Record<string, ProtocolVersion>> = { MQIsdp: 3, MQTT: 4 };

/**
 * Decodes and checks CONNECT. `protocol-version` and `identifier-rejected` are to be answered with a CONNACK, every
 * other reason without.
 */
export function decodeConnect(packet: Buffer, bodyOffset: number): Connect | CloseReason {
  const nameEnd = fieldEnd(packet, bodyOffset);
  if (nameEnd === -1 || nameEnd + 4 > packet.length) return 'malformed-packet';
  const name = readText(packet, bodyOffset, nameEnd);
  if (name === undefined) return 'invalid-utf8';
  const expectedLevel = Object.hasOwn(protocolNames, name) ? protocolNames[name] : undefined;
  if (expectedLevel === undefined) return 'protocol-name'; // [MQTT-3.1.2-1]
  if (packet[nameEnd] !== expectedLevel) return 'protocol-version'; // [MQTT-3.1.2-2]

  const flags = packet[nameEnd + 1] as number;
  const flagProblem = checkConnectFlags(flags, expectedLevel);
  if (flagProblem !== undefined) return flagProblem;
  const fields = decodePayload(packet, nameEnd + 4, flags, expectedLevel);
  if (typeof fields === 'string') return fields;

  const clean = (flags & 0x02) !== 0;
  // An empty client id is for 3.1.1 and clean sessions only [MQTT-3.1.3-7] [MQTT-3.1.3-8].
  if (fields.clientId === '' && (!clean || expectedLevel === 3)) return 'identifier-rejected';
  // Each by its name, for properties behind a spread take several microseconds.
  return {
    version: expectedLevel,
    clientId: fields.clientId,
    cleanStart: clean,
    sessionExpirySec: clean ? 0 : Number.POSITIVE_INFINITY,
    keepaliveSec: packet.readUInt16BE(nameEnd + 2),
    // What MQTT 3 cannot say.
    receiveMaximum: 65_535,
    maxPacketBytes: Number.POSITIVE_INFINITY,
    topicAliasMaximum: 0,
    wantsResponseInformation: false,
    wantsProblemInformation: false,
    userProperties: [],
    authenticationMethod: undefined,
    userName: fields.userName,
    password: fields.password,
    will: fields.will,
  };
}

/** In MQTT 3.1 the lowest bit is unused, and those of a will are disregarded without one. */
function checkConnectFlags(flags: number, version: ProtocolVersion): CloseReason | undefined {
  const will = (flags & 0x04) !== 0;
  const willQos = (flags >> 3) & 0x03;
  if (version !== 3 && (flags & 0x01) !== 0) return 'reserved-bits'; // [MQTT-3.1.2-3]
  if (willQos === 3 && (will || version !== 3)) return 'invalid-qos'; // [MQTT-3.1.2-14]
  if (version !== 3 && !will && (flags & 0x38) !== 0) return 'reserved-bits'; // [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
  if ((flags & 0xc0) === 0x40) return 'password-without-user-name'; // [MQTT-3.1.2-22]
  return undefined;
}

/**
 * Client id, will topic, will message, user name, password, in that order [MQTT-3.1.3-1]. In MQTT 3.1 the remaining
 * length has precedence over the flags of the last two, and what stands there without its flag is disregarded.
 */
function decodePayload(
  packet: Buffer,
  start: number,
  flags: number,
  version: ProtocolVersion,
): Pick<Connect, 'clientId' | 'will' | 'userName' | 'password'> | CloseReason {
  const clientIdEnd = fieldEnd(packet, start);
  let end = clientIdEnd;
  const willTopicStart = end;
  if ((flags & 0x04) !== 0) end = fieldEnd(packet, fieldEnd(packet, end));
  const userNameStart = end;
  const hasUserName = (flags & 0x80) !== 0 && (version !== 3 || end !== packet.length);
  if (hasUserName) end = fieldEnd(packet, end);
  const passwordStart = end;
  const hasPassword = (flags & 0x40) !== 0 && (version !== 3 || end !== packet.length);
  if (hasPassword) end = fieldEnd(packet, end);
  const mayGoOn = version === 3 && (flags & 0xc0) !== 0xc0;
  if (end === -1 || (end < packet.length && !mayGoOn)) return 'malformed-packet';

  const clientId = readText(packet, start, clientIdEnd);
  if (clientId === undefined) return 'invalid-utf8';
  let will: Will | undefined;
  if ((flags & 0x04) !== 0) {
    const topicEnd = fieldEnd(packet, willTopicStart);
    const topic = readText(packet, willTopicStart, topicEnd);
    if (topic === undefined) return 'invalid-utf8';
    if (topic === '') return 'empty-topic';
    if (/[+#]/.test(topic)) return 'topic-with-wildcards';
    will = {
      topic,
      payload: Buffer.from(packet.subarray(topicEnd + 2, userNameStart)),
      qos: ((flags >> 3) & 0x03) as QoS,
      retain: (flags & 0x20) !== 0,
      delaySec: 0,
      properties: undefined,
    };
  }
  let userName: string | undefined;
  if (hasUserName) {
    userName = readText(packet, userNameStart, passwordStart);
    if (userName === undefined) return 'invalid-utf8';
  }
  const password = hasPassword ? packet.subarray(passwordStart + 2, end) : undefined;
  return { clientId, will, userName, password };
}
