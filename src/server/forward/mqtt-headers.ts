import type { MessageProperties, UserProperties } from '../message-properties.js';
import { fieldsOf } from './connection/nats-headers.js';
import { percentDecode, percentEncode } from './subject.js';

/**
 * MQTT 5's properties of a message as NATS headers, and back. `docs/mqtt5.md` has the table.
 *
 * A User Property is a header of its name. One whose name NATS or the gateway uses itself, or whose name or value no header can
 * carry, is `Mqtt-Property-<name>`, both percent-encoded, so that nothing is lost and nobody can forge a header.
 */
const names = {
  payloadFormat: 'Mqtt-Payload-Format',
  expiry: 'Mqtt-Message-Expiry',
  contentType: 'Content-Type',
  encodedContentType: 'Mqtt-Content-Type',
  responseTopic: 'Mqtt-Response-Topic',
  correlationData: 'Mqtt-Correlation-Data',
  propertyPrefix: 'Mqtt-Property-',
} as const;

/** Largest QoS of a command. */
export const qosHeader = 'Mqtt-Qos';
const lowerQosHeader = qosHeader.toLowerCase();

/** Names of headers that are not a client's to set. */
const reserved = /^(nats-|mqtt-|content-type$|status$|description$)/i;
/** A name that NATS and its clients carry as it is: a token of RFC 9110 §5.6.2. */
const plainName = /^[!#$%&'*+.^_`|~\w-]+$/;
/** What no header carries as it is: control characters, and white space at the ends. */
const unfit = /\p{Cc}|[\u2028\u2029\uFEFF]/u;
/** What is percent-encoded where a value is. */
const encoded = /[\p{Cc}\p{Z}\uFEFF%]/gu;
const encodedInName = /[^!#$&'*+.^_`|~\w-]/gu;

/**
 * The lines for the properties of a message, each ended by CR LF; empty when there are none.
 *
 * @param options.ttl the stream takes the expiry as the message's time to live.
 */
export function encodeProperties(properties: MessageProperties, options: { readonly ttl: boolean }): string {
  const { isText, expirySec, contentType, responseTopic, correlationData, userProperties } = properties;
  let lines = '';
  if (isText === true) lines += `${names.payloadFormat}: 1\r\n`;
  if (expirySec !== undefined) {
    lines += `${names.expiry}: ${expirySec}\r\n`;
    if (options.ttl && expirySec > 0) lines += `Nats-TTL: ${expirySec}s\r\n`;
  }
  if (contentType !== undefined)
    lines += isPlain(contentType)
      ? `${names.contentType}: ${contentType}\r\n`
      : `${names.encodedContentType}: ${percentEncode(contentType, encoded)}\r\n`;
  if (responseTopic !== undefined)
    lines += `${names.responseTopic}: ${percentEncode(responseTopic, encoded)}\r\n`;
  if (correlationData !== undefined) lines += `${names.correlationData}: ${encodeBytes(correlationData)}\r\n`;
  for (const [name, value] of userProperties ?? []) lines += encodeUserProperty(name, value);
  return lines;
}

const ttlLine = Buffer.from('\r\nNats-TTL: ');

/** A header block without the time to live; the message's expiry stays in it. */
export function withoutTtl(block: Uint8Array): Uint8Array {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const start = bytes.indexOf(ttlLine);
  if (start < 0) return block;
  return Buffer.concat([bytes.subarray(0, start), bytes.subarray(bytes.indexOf('\r\n', start + 2))]);
}

function encodeUserProperty(name: string, value: string): string {
  if (plainName.test(name) && !reserved.test(name) && isPlain(value)) return `${name}: ${value}\r\n`;
  return `${names.propertyPrefix}${percentEncode(name, encodedInName)}: ${percentEncode(value, encoded)}\r\n`;
}

function isPlain(value: string): boolean {
  return value !== '' && value === value.trim() && !unfit.test(value);
}

/** Printable ASCII stands for itself, so that a text can be read; every other byte is `%` and two digits. */
function encodeBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes)
    text +=
      byte > 0x20 && byte < 0x7f && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return text;
}

/** No field of MQTT is longer than 65,535 bytes (MQTT 5.0 §1.5.6). */
function readBytes(text: string): Buffer | undefined {
  const bytes = Buffer.from(
    text.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 16)),
    ),
    'latin1',
  );
  return bytes.length <= 65_535 ? bytes : undefined;
}

/**
 * `Mqtt-Qos: 0`: a command is sent with QoS 0 also to who has subscribed with more. Anything else is the default, 1.
 *
 * @param headers a block as NATS has it; empty: there is none.
 */
export function readQos(headers: string): 0 | 1 {
  let qos: 0 | 1 = 1;
  if (headers !== '')
    for (const [name, value] of fieldsOf(headers))
      if (name.toLowerCase() === lowerQosHeader) qos = value === '0' ? 0 : 1;
  return qos;
}

/** The properties of a command. @param headers a block as NATS has it; empty: there is none. */
export function decodeHeaders(headers: string): MessageProperties | undefined {
  return headers === '' ? undefined : decodeProperties(fieldsOf(headers));
}

/**
 * Reads the properties of a command from its headers, in their order; undefined when there are none. Headers of NATS are left
 * out, as is what cannot be a property: nothing that a service sends makes a packet that the client could not read.
 */
export function decodeProperties(
  headers: Iterable<readonly [string, string]>,
): MessageProperties | undefined {
  const found: { -readonly [K in keyof MessageProperties]: MessageProperties[K] } = {};
  const user: [string, string][] = [];
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    if (lower === 'content-type') found.contentType = value;
    else if (lower === 'mqtt-content-type') found.contentType = percentDecode(value);
    else if (lower === 'mqtt-payload-format') found.isText = value === '1' ? true : undefined;
    else if (lower === 'mqtt-message-expiry') found.expirySec = readSeconds(value);
    else if (lower === 'mqtt-response-topic') found.responseTopic = readTopic(value);
    else if (lower === 'mqtt-correlation-data') found.correlationData = readBytes(value);
    else if (lower.startsWith('mqtt-property-'))
      user.push([percentDecode(name.slice(names.propertyPrefix.length)), percentDecode(value)]);
    else if (!reserved.test(name)) user.push([name, value]);
  }
  const fitting = user.filter(([name, value]) => isMqttString(name) && isMqttString(value));
  if (fitting.length > 0) found.userProperties = fitting satisfies UserProperties;
  if (found.contentType !== undefined && !isMqttString(found.contentType)) found.contentType = undefined;
  return Object.values(found).some((value) => value !== undefined) ? found : undefined;
}

/** A whole number of seconds that fits into four bytes. */
function readSeconds(value: string): number | undefined {
  const seconds = /^\d{1,10}$/.test(value) ? Number(value) : undefined;
  return seconds !== undefined && seconds <= 0xffff_ffff ? seconds : undefined;
}

function readTopic(value: string): string | undefined {
  const topic = percentDecode(value);
  return topic !== '' && !/[+#]/.test(topic) && isMqttString(topic) ? topic : undefined;
}

/** A string of MQTT: at most 65,535 bytes of UTF-8, without U+0000 (MQTT 5.0 §1.5.4). */
function isMqttString(text: string): boolean {
  return text.length <= 65_535 && !text.includes('\0') && Buffer.byteLength(text) <= 65_535;
}
