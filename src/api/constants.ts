/** What the list of connections can be sorted by. */
export const sortFields = [
  'device',
  'type',
  'client',
  'address',
  'protocol',
  'transport',
  'qos',
  'rate',
  'messages',
  'bytes',
  'in_flight',
  'subscriptions',
  'connected',
  'last_message',
] as const;

/** Kinds of events. `revoked` stands for every loss of a device's right to be connected; `reason` tells which. */
export const eventKinds = ['connected', 'disconnected', 'refused', 'revoked', 'dropped'] as const;

/** Most devices of one import over the API: a body of them is read and stored in one go. */
export const maxImported = 1_000;
