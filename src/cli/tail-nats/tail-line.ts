import { escapeControls, unicodeEscapes } from '../terminal/text.js';
import { payloadFields, showPayload } from './payload-view.js';

/** One message as `tail-nats` shows it. */
export interface TailMessage {
  /** When the stream stored it, or when it came, on a subject without a stream. */
  readonly time: Date;
  readonly subject: string;
  /** The MQTT topic that it was published to, from the header `Mqtt-Topic`. */
  readonly topic: string | undefined;
  /** Its number in the stream. */
  readonly seq: number | undefined;
  readonly payload: Uint8Array;
}

const shownCharacters = 400;
const widestColumn = 40;

/** Makes the function that formats messages; columns widen as longer subjects and topics come. */
export function openLineFormat(options: { json: boolean; full: boolean }): (message: TailMessage) => string {
  if (options.json) return formatJson;
  const widths = [0, 0, 0];
  const pad = (column: number, text: string, atStart = false) => {
    const width = Math.min(widestColumn, Math.max(widths[column] ?? 0, text.length));
    widths[column] = width;
    return atStart ? text.padStart(width) : text.padEnd(width);
  };
  return (message) => {
    const { payload } = message;
    const cells = [
      message.time.toISOString(),
      pad(0, escapeControls(message.subject)),
      pad(1, message.topic === undefined ? '-' : escapeControls(message.topic)),
      pad(2, `${payload.length} B`, true),
      showPayload(payload, options.full ? Number.POSITIVE_INFINITY : shownCharacters),
    ];
    return `${cells.join('  ').trimEnd()}\n`;
  };
}

/** The payload stands in it as it came, digit for digit, so the line is put together and not stringified whole. */
function formatJson({ time, subject, topic, seq, payload }: TailMessage): string {
  const head = JSON.stringify({
    time: time.toISOString(),
    subject,
    topic: topic ?? null,
    size: payload.length,
    seq,
  });
  return `${unicodeEscapes(head.slice(0, -1))},${payloadFields(payload)}}\n`;
}
