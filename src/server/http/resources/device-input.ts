import {
  checkDeviceType,
  checkExpiry,
  checkMetadata,
  checkNewDeviceType,
  type Metadata,
} from '../../../db/devices/device-fields.js';
import { nameField, requireField, requireTime } from '../fields.js';
import { ProblemError } from '../problem.js';

/** No control characters, well-formed Unicode. */
export function requireType(type: string): void {
  requireField('type', checkDeviceType(type));
}

/** The same, for a device to come. */
export function requireNewType(type: string): void {
  requireField('type', checkNewDeviceType(type));
}

export function requireExpiry(text: string): Date {
  const expiresAt = requireTime('expires_at', text);
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
  const metadata = requireMetadata(Object.fromEntries(entries));
  // No device has both; to look for one of them would be to ignore the other.
  const twice = entries.find(([key, value]) => metadata[key] !== value);
  if (twice !== undefined) requireField(`metadata.${twice[0]}`, 'is asked for with two values');
  return metadata;
}

/**
 * Whether the database can be asked for an id: PostgreSQL takes no U+0000. Stricter rules are not applied, since
 * devices converted from the Go service keep the ids that they have.
 */
export function canBeId(id: string): boolean {
  return id !== '' && !id.includes('\0');
}

export function unknownDevice(id: string): ProblemError {
  return new ProblemError('DEVICE_NOT_FOUND', `There is no device with the id ${JSON.stringify(id)}`);
}

/** What a query finds of the device with this id. */
export async function requireDevice<T>(id: string, ask: (id: string) => Promise<T | undefined>): Promise<T> {
  const found = canBeId(id)
    ? await ask(id).catch((error: unknown) => {
        throw nameField(error);
      })
    : undefined;
  if (found === undefined) throw unknownDevice(id);
  return found;
}
