import { timePattern } from '../../api/constants.js';
import { checkTime, parseTime } from '../../db/devices/device-fields.js';
import { SvcMqttError } from '../../errors.js';
import { invalidField, invalidInput } from './problem.js';

/** Requires of a field what its schema cannot state. */
export function requireField(field: string, problem: string | undefined): void {
  if (problem !== undefined) throw invalidField(field, problem);
}

/** What the database layer finds wrong with a field, as the API tells it: with the name of the field. */
export function nameField(error: unknown): unknown {
  if (!(error instanceof SvcMqttError) || error.code !== 'INPUT_INVALID') return error;
  const { message, field = message.split(' ', 1)[0] ?? 'body' } = error;
  return invalidInput([{ field, problem: message.slice(field.length + 1) }], error.suggestion);
}

/** Reads a time. */
export function requireTime(field: string, text: string): Date {
  const time = new RegExp(timePattern).test(text) ? parseTime(text) : undefined;
  if (time !== undefined && checkTime(time) === undefined) return time;
  throw invalidField(field, 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z');
}
