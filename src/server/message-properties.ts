/** User Properties in order; names may repeat (MQTT 5.0 §1.5.7). */
export type UserProperties = readonly (readonly [name: string, value: string])[];

/** What a message carries beside topic and payload (MQTT 5.0 §3.3.2.3). MQTT 3 carries none of it. */
export interface MessageProperties {
  /** The payload is UTF-8 text: Payload Format Indicator 1. */
  readonly isText?: boolean | undefined;
  /** Message Expiry Interval, seconds. */
  readonly expirySec?: number | undefined;
  readonly contentType?: string | undefined;
  readonly responseTopic?: string | undefined;
  readonly correlationData?: Buffer | undefined;
  readonly userProperties?: UserProperties | undefined;
}
