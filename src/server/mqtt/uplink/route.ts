import type { AckLevel } from '../../../ack-level.js';
import type { Policy } from '../admission/authorize.js';

/** How subject and headers are made for one device. */
export interface Addressing {
  subjectOf(topic: string): string;
  headersOf(topic: string, retain: boolean): Uint8Array;
  /** Its subjects are of NATS_SUBJECT, and not of the policy's own. */
  readonly batchable: boolean;
  /** What an acknowledgement is to be worth; undefined: ACK_LEVEL. */
  readonly ackLevel?: AckLevel | undefined;
}

/** What a device may do and where its messages go. */
export interface Rules {
  readonly policy: Policy;
  readonly addressing: Addressing;
}

/** Where messages of one topic go: worked out once, used for every message of the topic. */
export interface Route {
  readonly topicBytes: Buffer;
  readonly topic: string;
  readonly retain: boolean;
  readonly subject: Uint8Array;
  readonly headers: Uint8Array;
  readonly batchable: boolean;
  readonly ackLevel?: AckLevel | undefined;
}
