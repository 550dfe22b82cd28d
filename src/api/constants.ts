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

/** Largest payload of a command that is sent over the API, bytes. */
export const maxCommandBytes = 262_144;
export const maxCommandTopicLength = 900;
/** Longest wait for the answer to one, seconds. */
export const maxAnswerWithinSec = 60;

/** A time of RFC 3339 that a Date and the database have too: no leap second, no year before 1970. */
export const timePattern =
  '^(?:19[7-9]\\d|[2-9]\\d{3})-\\d\\d-\\d\\d[Tt](?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)$';
