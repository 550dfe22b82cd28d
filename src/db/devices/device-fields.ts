import { SvcMqttError } from '../../errors.js';
import { checkHoldsNoKey } from '../secrets.js';

export const maxDeviceTypeLength = 128;
export const maxDeviceIdLength = 128;
export const maxMetadataKeys = 32;
export const maxMetadataKeyLength = 64;
export const maxMetadataValueLength = 256;
/** Longest reason of a revocation; the functions in SQL have the same limit. */
export const maxReasonLength = 1_024;
/** Longest that a replaced secret may stay valid. */
export const maxGraceMs = 365 * 86_400_000;

/** What an operator notes about a device, to find it again: a site, a customer, a serial number. Never a secret. */
export type Metadata = Readonly<Record<string, string>>;

/** A form that a text must have, as a regular expression, and in words that follow the name of its field. */
export interface TextForm {
  readonly pattern: string;
  readonly problem: string;
}

/**
 * What a device id is made of: whatever means nothing in an MQTT topic, a NATS subject, a client id or a URL path.
 * Colons are among it, so that a MAC address can be one.
 */
export const deviceIdCharacters = 'A–Z a–z 0–9 _ = ~ @ ! , : -';
/** The same as a regular expression of JavaScript and of PostgreSQL, with the length. */
export const deviceIdPattern = `^[A-Za-z0-9_=~@!,:-]{1,${maxDeviceIdLength}}$`;

/** The form of new ids and types, which no command takes for an option; those of imported devices may be others. */
const noOption: TextForm = { pattern: '^[^-]', problem: 'must not begin with a hyphen' };

/** A character of a text that people read; a half of a surrogate pair is none. */
const plain = '[^\\p{Cc}\\p{Cs}]';

/**
 * What the checks below say, for readers of the HTTP API's specification, as far as a regular expression can say it. The
 * checks have the better words, so they decide; a test holds both together.
 */
export const fieldPatterns = {
  newDeviceId: `(?!-)${deviceIdPattern}`,
  type: `^${plain}*$`,
  newType: `^(?!-)${plain}*$`,
  metadataKey: '^[A-Za-z0-9][A-Za-z0-9_.-]*$',
  metadataValue: `^${plain}*$`,
  reason: `^${plain}*$`,
} as const;

/** What is wrong with a text that is to have a form, or undefined. */
export function checkForm(text: string, form: TextForm): string | undefined {
  return new RegExp(form.pattern, 'u').test(text) ? undefined : form.problem;
}

/**
 * Checks a device type: 1 to 128 characters, no control characters, well-formed Unicode.
 *
 * @returns what is wrong, in words that follow "type", or undefined when nothing is.
 */
export function checkDeviceType(type: string): string | undefined {
  return type === '' ? 'must not be empty' : checkText(type, maxDeviceTypeLength);
}

/** Checks the type of a device or claim to come: as `checkDeviceType`, and it does not begin with a hyphen. */
export function checkNewDeviceType(type: string): string | undefined {
  return checkDeviceType(type) ?? checkForm(type, noOption) ?? checkHoldsNoKey(type);
}

/**
 * Checks a device id: 1 to 128 characters of `deviceIdCharacters`.
 *
 * @returns what is wrong, in words that follow "id", or undefined when nothing is.
 */
export function checkDeviceId(id: string): string | undefined {
  if (id === '') return 'must not be empty';
  if (id.length > maxDeviceIdLength) return `must not be longer than ${maxDeviceIdLength} characters`;
  if (new RegExp(deviceIdPattern).test(id)) return checkHoldsNoKey(id);
  if (id.includes('.'))
    return 'must not contain a dot, which ends a token of a NATS subject; write - or : for it';
  const [level] = /[/+#*>$]/.exec(id) ?? [];
  return level === undefined
    ? `may contain only the characters ${deviceIdCharacters}`
    : `must not contain ${level}, which has a meaning in MQTT topics or NATS subjects; write - or _ for it`;
}

/** Checks the id of a device to come: as `checkDeviceId`, and it does not look like an option of a command. */
export function checkNewDeviceId(id: string): string | undefined {
  return checkDeviceId(id) ?? checkForm(id, noOption);
}

/**
 * Checks the key of a metadata entry: 1 to 64 characters of A–Z a–z 0–9 _ . -, the first a letter or digit.
 *
 * @returns what is wrong, in words that follow the key, or undefined when nothing is.
 */
export function checkMetadataKey(key: string): string | undefined {
  if (key === '') return 'must not be empty';
  if (key.length > maxMetadataKeyLength) return `must not be longer than ${maxMetadataKeyLength} characters`;
  if (new RegExp(fieldPatterns.metadataKey).test(key)) return undefined;
  return 'may contain only the characters A–Z a–z 0–9 _ . - and begins with a letter or digit';
}

/**
 * Checks metadata: at most 32 entries, keys as in `checkMetadataKey`, values of at most 256 characters without
 * control characters.
 *
 * @returns the field at fault, `metadata` or `metadata.<key>`, and what is wrong with it; undefined: nothing.
 */
export function checkMetadata(metadata: Metadata): { field: string; problem: string } | undefined {
  const entries = Object.entries(metadata);
  if (entries.length > maxMetadataKeys) {
    return { field: 'metadata', problem: `must not have more than ${maxMetadataKeys} entries` };
  }
  for (const [key, value] of entries) {
    const field = `metadata.${key.slice(0, maxMetadataKeyLength)}`;
    const inKey = checkMetadataKey(key);
    if (inKey !== undefined) return { field, problem: `has a key that ${inKey}` };
    // SQL may have written others.
    if (typeof value !== 'string') return { field, problem: 'must be a string' };
    const problem = checkText(value, maxMetadataValueLength) ?? checkHoldsNoKey(value);
    if (problem !== undefined) return { field, problem };
  }
  return undefined;
}

/**
 * Checks when a device is to expire: in the future, and before the year 10000, which is where the form of times in
 * JSON ends.
 *
 * @returns what is wrong, in words that follow "expires_at", or undefined when nothing is.
 */
export function checkExpiry(expiresAt: Date): string | undefined {
  const problem = checkTime(expiresAt);
  if (problem !== undefined) return problem;
  return expiresAt.getTime() > Date.now() ? undefined : 'must be in the future';
}

/** Checks that a time is one and can be written with a year of four digits. */
export function checkTime(time: Date): string | undefined {
  const timeMs = time.getTime();
  const fits = timeMs >= Date.UTC(1970) && timeMs < Date.UTC(10_000);
  return fits ? undefined : 'must be a time of the years 1970 to 9999';
}

/**
 * Reads a time as RFC 3339 has it, such as `2027-01-31T12:00:00Z`, with its offset from UTC: without one it would be
 * a guess.
 *
 * @returns undefined when it is none, or one that the calendar does not have.
 */
export function parseTime(text: string): Date | undefined {
  const match =
    /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0] = match.slice(1).map(Number);
  if (day > new Date(Date.UTC(year, month, 0)).getUTCDate()) return undefined;
  const time = new Date(text.replace(' ', 'T').toUpperCase());
  return Number.isNaN(time.getTime()) ? undefined : time;
}

/**
 * Checks why a device is revoked: 1 to 1,024 characters, no control characters, well-formed Unicode, no secret.
 *
 * @returns what is wrong, in words that follow "reason", or undefined when nothing is.
 */
export function checkReason(reason: string): string | undefined {
  return reason === ''
    ? 'must not be empty'
    : (checkText(reason, maxReasonLength) ?? checkHoldsNoKey(reason));
}

function checkText(text: string, most: number): string | undefined {
  // PostgreSQL counts code points, as [...text] does; no text of more UTF-16 units than twice the limit can pass.
  if (text.length > 2 * most || [...text].length > most) return `must not be longer than ${most} characters`;
  if (/\p{Cc}/u.test(text)) return 'must not contain control characters';
  return isWellFormed(text) ? undefined : 'must be well-formed Unicode';
}

function isWellFormed(text: string): boolean {
  return !/\p{Cs}/u.test(text);
}

/** PostgreSQL's text holds no U+0000, and an ill-formed string would be sent as another one. */
export function isStorable(id: string): boolean {
  return id !== '' && !id.includes('\0') && isWellFormed(id);
}

/**
 * Requires what a check has found to be nothing.
 *
 * @throws SvcMqttError INPUT_INVALID.
 */
export function requireValid(field: string, problem: string | undefined, suggestion?: string): void {
  if (problem === undefined) return;
  throw new SvcMqttError('INPUT_INVALID', `${field} ${problem}`, {
    field,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}
