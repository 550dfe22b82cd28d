import type { MessageProperties } from '../../message-properties.js';
import { decodeHeaders, readQos } from '../mqtt-headers.js';
import type { RawMessage, StoredMessage } from '../stored/stored-messages.js';
import { subjectToTopic } from '../subject.js';

/** A message for a device. */
export interface DownlinkMessage {
  /** `cmd/<device id>/…` */
  readonly topic: string;
  readonly payload: Buffer;
  /** The largest with which it is sent. */
  readonly qos: 0 | 1;
  /** Those of MQTT 5, from its headers. */
  readonly properties?: MessageProperties | undefined;
}

/** A command as the stream has it. */
export interface StoredCommand extends StoredMessage {
  /** The device that it is for, escaped as in the subject. */
  readonly device: string;
  /** The largest with which it is sent. */
  readonly qos: 0 | 1;
}

export function toStoredCommand(found: RawMessage): StoredCommand {
  const { sequence, subject, storedAtMs, headers, payload } = found;
  const properties = decodeHeaders(headers);
  const expirySec = properties?.expirySec;
  return {
    sequence,
    device: deviceOf(subject),
    topic: subjectToTopic(subject),
    payload: Buffer.isBuffer(payload)
      ? payload
      : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
    qos: readQos(headers),
    properties,
    storedAtMs,
    expiresAtMs: expirySec === undefined ? undefined : storedAtMs + expirySec * 1_000,
  };
}

/** The device of `cmd.<device>.…`, escaped as it is there. */
export function deviceOf(subject: string): string {
  const start = subject.indexOf('.') + 1;
  const end = subject.indexOf('.', start);
  return subject.slice(start, end === -1 ? undefined : end);
}
