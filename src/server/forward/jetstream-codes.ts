import type { NatsError } from './connection/nats-library.js';

/** Codes that JetStream gives with its errors: `errors.json` of nats-server. */

export const noMessageFound = 10_037;
export const messageTooLarge = 10_054;
/** There is no such stream. */
export const noStreamFound = 10_059;
/** A message that was to be written only behind another one met something else. */
export const wrongLastSequence = 10_071;
/** A message with the same id is being stored. */
export const duplicateInProcess = 10_158;
/** The time to live of a message is none, or longer than the stream takes. */
export const invalidTtl = 10_165;

/** The code of an error that the library throws; undefined: it is none of JetStream. */
export function apiCodeOf(error: unknown): number | undefined {
  return (error as Partial<NatsError>).api_error?.err_code;
}

/** What NATS does not let the user do, also in words; undefined: that is not why the library throws. */
export function denialOf(
  error: unknown,
): { readonly operation: 'publish' | 'subscribe'; readonly text: string } | undefined {
  const { permissionContext: denied } = error as {
    permissionContext?: { operation: string; subject: string };
  };
  if (denied === undefined) return undefined;
  const operation = denied.operation === 'publish' ? 'publish' : 'subscribe';
  return { operation, text: `NATS does not let the user ${operation} to ${denied.subject}` };
}
