/** A message of a device, as it passes; one of a stream of events, which no schema describes. */
export interface PassingMessageJson {
  /** When it passed, as ISO 8601 has it. */
  readonly at: string;
  /** The NATS subject. */
  readonly subject: string;
  /** The MQTT topic; null: it did not come from a gateway. */
  readonly topic: string | null;
  /** Bytes of the payload. */
  readonly size: number;
  /** The payload, of a long one the beginning. */
  readonly payload_base64: string;
}

export function toPassingMessageJson(message: {
  readonly atMs: number;
  readonly subject: string;
  readonly topic: string | undefined;
  readonly size: number;
  readonly payload: Uint8Array;
}): PassingMessageJson {
  const { atMs, subject, topic, size, payload } = message;
  return {
    at: new Date(atMs).toISOString(),
    subject,
    topic: topic ?? null,
    size,
    payload_base64: Buffer.from(payload).toString('base64'),
  };
}
