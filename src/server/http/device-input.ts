import {
  checkDeviceType,
  checkExpiry,
  checkMetadata,
  checkTime,
  type Metadata,
  parseTime,
} from '../../db/device-fields.js';
import { createInputProblem, createProblem, type Problem, ProblemError } from './problem.js';

/** Requires of a field what its schema cannot state. */
export function requireField(field: string, problem: string | undefined): void {
  if (problem !== undefined) throw new ProblemError(createInputProblem([{ field, problem }]));
}

/** No control characters, well-formed Unicode. */
export function requireType(type: string): void {
  requireField('type', checkDeviceType(type));
}

export function requireExpiry(text: string): Date {
  const time = parseTime(text);
  if (time === undefined || checkTime(time) !== undefined) {
    requireField('expires_at', 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z');
  }
  const expiresAt = time ?? new Date(0);
  requireField('expires_at', checkExpiry(expiresAt));
  return expiresAt;
}

export function requireMetadata(metadata: Metadata): Metadata {
  const fault = checkMetadata(metadata);
  requireField(fault?.field ?? 'metadata', fault?.problem);
  return metadata;
}

/** Reads the metadata that a list is to be filtered by: `key=value`, one or several. */
export function readMetadataFilter(parameter: string | readonly string[]): Metadata {
  const entries = [parameter].flat().map((text) => {
    const at = text.indexOf('=');
    if (at < 1) requireField('metadata', 'must have the form key=value');
    return [text.slice(0, at), text.slice(at + 1)] as const;
  });
  return requireMetadata(Object.fromEntries(entries));
}

/**
 * Whether the database can be asked for an id: PostgreSQL takes no U+0000. Stricter rules are not applied, since
 * devices converted from the Go service keep the ids that they have.
 */
export function canBeId(id: string): boolean {
  return id !== '' && !id.includes('\0');
}

export function createUnknownProblem(id: string): Problem {
  return createProblem('DEVICE_NOT_FOUND', `There is no device with the id ${JSON.stringify(id)}`);
}
