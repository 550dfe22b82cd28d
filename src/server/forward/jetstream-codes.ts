/** Codes that JetStream gives with its errors: `errors.json` of nats-server. */

export const noMessageFound = 10_037;
export const messageTooLarge = 10_054;
/** There is no such stream. */
export const noStreamFound = 10_059;
/** A message with the same id is being stored. */
export const duplicateInProcess = 10_158;
/** The time to live of a message is none, or longer than the stream takes. */
export const invalidTtl = 10_165;
