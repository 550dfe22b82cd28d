import type { Static } from 'typebox';
import { SvcMqttError } from '../errors.js';
import type * as schema from './command-schema.js';
import { maxCommandBytes } from './constants.js';

export type CommandRequestJson = Static<typeof schema.CommandRequest>;
export type CommandJson = Static<typeof schema.CommandResponse>;
export type CommandProgressJson = Static<typeof schema.CommandProgressResponse>;

/** @throws SvcMqttError BODY_TOO_LARGE when the payload is over what a command of the API may have. */
export function requirePayloadRoom(payload: Uint8Array): void {
  if (payload.length <= maxCommandBytes) return;
  throw new SvcMqttError('BODY_TOO_LARGE', `The payload is over ${maxCommandBytes} bytes`, {
    suggestion: 'Publish it to cmd.<device id>.… in NATS, which takes more',
  });
}
