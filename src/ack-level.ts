/** What a PUBACK or PUBREC promises of the message: see docs/durability.md. */
export const ackLevels = ['stored', 'replicated', 'synced'] as const;

export type AckLevel = (typeof ackLevels)[number];
