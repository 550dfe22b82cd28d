import type { QoS } from '../protocol/packet-type.js';

/** A message for subscribers. */
export interface Message {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: QoS;
  readonly retain: boolean;
}
