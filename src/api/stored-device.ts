import type { Static } from 'typebox';
import {
  checkDeviceId,
  checkDeviceType,
  checkMetadata,
  checkTime,
  parseTime,
} from '../db/devices/device-fields.js';
import type { ExportedDevice } from '../db/devices/device-import.js';
import type { DeviceRow } from '../db/devices/device-insert.js';
import { timePattern } from './constants.js';
import { toMetadataJson } from './device.js';
import type { FieldProblem } from './problem.js';
import type * as schema from './stored-device-schema.js';

export type StoredDeviceJson = Static<typeof schema.StoredDevice>;
export type ImportedDeviceJson = Static<typeof schema.ImportedDevice>;
export type ImportJson = Static<typeof schema.ImportResponse>;

export function toStoredDeviceJson(device: ExportedDevice): StoredDeviceJson {
  const hasPrevious = device.previousSecretUntil !== null;
  return {
    id: device.id,
    type: device.type,
    metadata: toMetadataJson(device.metadata),
    created_at: device.createdAt.toISOString(),
    expires_at: device.expiresAt?.toISOString() ?? null,
    revoked_at: device.revokedAt?.toISOString() ?? null,
    last_seen_at: device.lastSeenAt?.toISOString() ?? null,
    secret_salt: device.secretSalt.toString('hex'),
    secret_hash: device.secretHash.toString('hex'),
    previous_secret_salt: hasPrevious ? (device.previousSecretSalt?.toString('hex') ?? null) : null,
    previous_secret_hash: hasPrevious ? (device.previousSecretHash?.toString('hex') ?? null) : null,
    previous_secret_until: device.previousSecretUntil?.toISOString() ?? null,
    previous_secret_until_used: device.previousSecretUntilUsed,
  };
}

export function toImportedDeviceJson(row: DeviceRow): ImportedDeviceJson {
  const { previousSecret: previous } = row;
  return {
    id: row.id,
    type: row.type,
    secret_salt: row.secretSalt.toString('hex'),
    secret_hash: row.secretHash.toString('hex'),
    ...(row.metadata && { metadata: row.metadata }),
    ...(row.createdAt && { created_at: row.createdAt.toISOString() }),
    ...(row.expiresAt && { expires_at: row.expiresAt.toISOString() }),
    ...(row.revokedAt && { revoked_at: row.revokedAt.toISOString() }),
    ...(row.lastSeenAt && { last_seen_at: row.lastSeenAt.toISOString() }),
    ...(previous && {
      previous_secret_salt: previous.salt.toString('hex'),
      previous_secret_hash: previous.hash.toString('hex'),
      previous_secret_until: new Date(previous.untilMs).toISOString(),
      previous_secret_until_used: previous.untilUsed,
    }),
  };
}

const timeForm = new RegExp(timePattern);

/** Makes a row of a device that has the shape of its schema, or says what its rules find wrong. */
export function readImportedDevice(device: ImportedDeviceJson): DeviceRow | FieldProblem {
  const idProblem = checkDeviceId(device.id);
  if (idProblem !== undefined) return { field: 'id', problem: idProblem };
  const typeProblem = checkDeviceType(device.type);
  if (typeProblem !== undefined) return { field: 'type', problem: typeProblem };
  const inMetadata = checkMetadata(device.metadata ?? {});
  if (inMetadata !== undefined) return inMetadata;
  const times = new Map<string, Date>();
  for (const field of timeFields) {
    const text = device[field];
    const time = text && timeForm.test(text) ? parseTime(text) : undefined;
    if (time !== undefined && checkTime(time) === undefined) times.set(field, time);
    else if (text !== undefined && text !== null)
      return { field, problem: 'must be a time with its offset from UTC, such as 2027-01-31T12:00:00Z' };
  }
  const { previous_secret_salt: salt, previous_secret_hash: hash } = device;
  const until = times.get('previous_secret_until');
  for (const field of ['secret_salt', 'previous_secret_salt'] as const)
    if (!/^(?:[0-9a-f]{2}){16,64}$/.test(device[field] ?? '00'.repeat(16)))
      return { field, problem: 'must be 16 to 64 bytes in hexadecimal, in lower case' };
  for (const field of ['secret_hash', 'previous_secret_hash'] as const)
    if (!/^[0-9a-f]{64}$/.test(device[field] ?? '00'.repeat(32)))
      return { field, problem: 'must be 32 bytes in hexadecimal, in lower case' };
  const given = [salt, hash, until].filter((each) => each !== undefined && each !== null);
  if (given.length % 3 !== 0)
    return { field: 'previous_secret_until', problem: 'goes together with salt and hash of that secret' };
  return {
    id: device.id,
    type: device.type,
    metadata: device.metadata,
    createdAt: times.get('created_at'),
    expiresAt: times.get('expires_at'),
    revokedAt: times.get('revoked_at'),
    lastSeenAt: times.get('last_seen_at'),
    secretSalt: Buffer.from(device.secret_salt, 'hex'),
    secretHash: Buffer.from(device.secret_hash, 'hex'),
    previousSecret:
      typeof salt === 'string' && typeof hash === 'string' && until !== undefined
        ? {
            salt: Buffer.from(salt, 'hex'),
            hash: Buffer.from(hash, 'hex'),
            untilMs: until.getTime(),
            untilUsed: device.previous_secret_until_used ?? false,
          }
        : undefined,
  };
}

const timeFields = [
  'created_at',
  'expires_at',
  'revoked_at',
  'last_seen_at',
  'previous_secret_until',
] as const;
