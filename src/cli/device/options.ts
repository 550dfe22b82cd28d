import { checkExpiry, checkMetadata, type Metadata, parseTime } from '../../db/devices/device-fields.js';
import { durationForm, toDurationMs, usageError } from '../command/usage-error.js';

/**
 * A parser of when something expires, for an option's value: a time from now such as `30d`, a day (its beginning,
 * UTC) or a time with its offset from UTC.
 */
export function toExpiry(option: string): (value: string) => Date {
  return (value) => {
    const time = /^\d+[smhd]$/.test(value)
      ? new Date(Date.now() + toDurationMs(option)(value))
      : parseTime(/^\d{4}-\d\d-\d\d$/.test(value) ? `${value}T00:00:00Z` : value);
    if (time === undefined) {
      throw usageError(
        `${option} cannot be "${value}": it must be a duration (${durationForm}), a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z`,
      );
    }
    const problem = checkExpiry(time);
    if (problem !== undefined) throw usageError(`${option} cannot be "${value}": it ${problem}`);
    return time;
  };
}

/** The same, with `never` for no expiry; commander takes null for no value at all. */
export function toExpiryOrNever(option: string): (value: string) => Date | 'never' {
  const parse = toExpiry(option);
  return (value) => (value === 'never' ? value : parse(value));
}

/** A parser of `key=value` for an option that may be repeated. */
export function collectMetadata(option: string): (value: string, before: Metadata | undefined) => Metadata {
  return (value, before = {}) => {
    const at = value.indexOf('=');
    if (at < 1) throw usageError(`${option} cannot be "${value}": it must have the form key=value`);
    const key = value.slice(0, at);
    if (Object.hasOwn(before, key)) {
      throw usageError(`${option} cannot be "${value}": there is another value for ${key}`);
    }
    const metadata = { ...before, [key]: value.slice(at + 1) };
    const fault = checkMetadata(metadata);
    if (fault !== undefined) {
      throw usageError(`${option} cannot be "${value}": ${fault.field} ${fault.problem}`);
    }
    return metadata;
  };
}

/** A parser of words for an option that may be repeated. */
export function collectWords(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** The QoS of a command. */
export function toQos(value: string): 0 | 1 {
  if (value === '0') return 0;
  if (value === '1') return 1;
  throw usageError(`--qos cannot be "${value}": it must be 0 or 1, the largest that a command is sent with`);
}
