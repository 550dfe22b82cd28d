import { timePattern } from '../../api/constants.js';
import { checkTime, parseTime } from '../../db/devices/device-fields.js';
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

/** Reads a time. */
export function requireTime(field: string, text: string): Date {
  const time = new RegExp(timePattern).test(text) ? parseTime(text) : undefined;
  if (time !== undefined && checkTime(time) === undefined) return time;
  const problem = 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z';
  throw new ProblemError(createInputProblem([{ field, problem }]));
}
