import Type from 'typebox';
import {
  checkTime,
  fieldPatterns,
  maxMetadataKeyLength,
  maxMetadataValueLength,
  parseTime,
} from '../../db/device-fields.js';
import { SvcMqttError } from '../../errors.js';
import { createInputProblem, ProblemError } from './problem.js';

/** Requires of a field what its schema cannot state. */
export function requireField(field: string, problem: string | undefined): void {
  if (problem !== undefined) throw new ProblemError(createInputProblem([{ field, problem }]));
}

/** What the database layer finds wrong with a field, as the API tells it: with the name of the field. */
export function nameField(error: unknown): unknown {
  if (!(error instanceof SvcMqttError) || error.code !== 'INPUT_INVALID') return error;
  const { message, field = message.split(' ', 1)[0] ?? 'body' } = error;
  const faults = [{ field, problem: message.slice(field.length + 1) }];
  return new ProblemError(createInputProblem(faults, error.suggestion));
}

/** A time of RFC 3339 that a Date and the database have too: no leap second, no year before 1970. */
const timePattern =
  '^(?:19[7-9]\\d|[2-9]\\d{3})-\\d\\d-\\d\\d[Tt](?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)$';

/** The schema of a time in a request, for `requireTime`. */
export const timeField = (description: string) =>
  Type.String({
    format: 'date-time',
    pattern: timePattern,
    description,
    examples: ['2027-01-31T12:00:00Z'],
  });

/** The schema of metadata in a request: `value` is that of an entry. */
export const metadataField = <V extends Type.TSchema>(value: V, options: Type.TObjectOptions) =>
  Type.Unsafe<Record<string, Type.Static<V>>>({
    type: 'object',
    propertyNames: { minLength: 1, maxLength: maxMetadataKeyLength, pattern: fieldPatterns.metadataKey },
    additionalProperties: value,
    ...options,
  });

/** The schema of the value of an entry. */
export const metadataValue = Type.String({
  maxLength: maxMetadataValueLength,
  pattern: fieldPatterns.metadataValue,
});

/** Reads a time. */
export function requireTime(field: string, text: string): Date {
  const time = new RegExp(timePattern).test(text) ? parseTime(text) : undefined;
  if (time !== undefined && checkTime(time) === undefined) return time;
  const problem = 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z';
  throw new ProblemError(createInputProblem([{ field, problem }]));
}
