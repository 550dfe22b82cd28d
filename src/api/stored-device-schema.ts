import Type from 'typebox';
import {
  deviceIdPattern,
  fieldPatterns,
  maxDeviceIdLength,
  maxDeviceTypeLength,
  maxMetadataKeys,
} from '../db/devices/device-fields.js';
import { maxImported } from './constants.js';
import {
  closed,
  metadataField,
  metadataValue,
  optional,
  orNull,
  page,
  pageQuery,
  refer,
  time,
  timeField,
} from './schema.js';

const id = Type.String({
  minLength: 1,
  maxLength: maxDeviceIdLength,
  pattern: deviceIdPattern,
  description: 'Its id',
  examples: ['roof-7'],
});
const type = Type.String({
  minLength: 1,
  maxLength: maxDeviceTypeLength,
  pattern: fieldPatterns.type,
  description: 'What kind of device it is',
  examples: ['sensor'],
});
const metadata = metadataField(metadataValue, {
  maxProperties: maxMetadataKeys,
  description: 'What is noted about it',
});
const salt = Type.String({
  minLength: 32,
  maxLength: 128,
  pattern: '^(?:[0-9a-f]{2}){16,64}$',
  description: 'The salt of its secret: 16 to 64 bytes in hexadecimal',
});
const hash = Type.String({
  minLength: 64,
  maxLength: 64,
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the bytes of salt and secret, one after the other, in hexadecimal',
});
const untilUsed = Type.Boolean({
  description: 'The secret before ends already when the new one has been used',
});
const timeFieldOrNull = (description: string) => orNull(timeField(description));

/** A device with what is kept of its secrets, from which it can be restored. */
export const StoredDevice = Type.Object(
  {
    id: Type.String({ description: 'Its id' }),
    type: Type.String({ description: 'What kind of device it is' }),
    metadata,
    created_at: time('When it was added'),
    expires_at: orNull(time('When it expires')),
    revoked_at: orNull(time('When it was revoked')),
    last_seen_at: orNull(time('When it was last seen')),
    secret_salt: salt,
    secret_hash: hash,
    previous_secret_salt: orNull(salt),
    previous_secret_hash: orNull(hash),
    previous_secret_until: orNull(time('Until when the secret before is valid; null: it is not')),
    previous_secret_until_used: untilUsed,
  },
  {
    $id: 'StoredDevice',
    description: 'A device with salts and hashes of its secrets, from which it can be restored',
    ...closed,
  },
);

export const StoredDevicePage = page('StoredDevicePage', { devices: Type.Array(refer(StoredDevice)) });

/** What `POST /devices/export` takes. */
export const ExportRequest = optional(
  {
    type: type,
    metadata: metadata,
    ...pageQuery('devices'),
  },
  { $id: 'ExportRequest', ...closed, examples: [{ type: 'sensor' }, {}] },
);

/** One device of an import. */
export const ImportedDevice = Type.Object(
  {
    id,
    type,
    metadata: Type.Optional(metadata),
    created_at: Type.Optional(timeField('When it was added; now unless given')),
    expires_at: Type.Optional(timeFieldOrNull('When it expires')),
    revoked_at: Type.Optional(timeFieldOrNull('When it was revoked')),
    last_seen_at: Type.Optional(timeFieldOrNull('When it was last seen')),
    secret_salt: salt,
    secret_hash: hash,
    previous_secret_salt: Type.Optional(orNull(salt)),
    previous_secret_hash: Type.Optional(orNull(hash)),
    previous_secret_until: Type.Optional(timeFieldOrNull('Until when the secret before is valid')),
    previous_secret_until_used: Type.Optional(untilUsed),
  },
  closed,
);

/** What `POST /devices/import` takes. */
export const ImportRequest = Type.Object(
  {
    devices: Type.Array(ImportedDevice, {
      minItems: 1,
      maxItems: maxImported,
      description: 'As `POST /devices/export` answers them; a secret itself is never sent',
    }),
    skip_existing: Type.Optional(
      Type.Boolean({
        description: 'Import the others when ids are taken; otherwise all or none',
        default: false,
      }),
    ),
  },
  { $id: 'ImportRequest', ...closed },
);

export const ImportResponse = Type.Object(
  {
    imported: Type.Array(Type.Object({ id: Type.String(), created_at: time('When it was added') }, closed), {
      description: 'The devices that are there now',
    }),
    existing: Type.Array(Type.String(), { description: 'Ids that were taken, whose devices were left out' }),
  },
  { $id: 'Import', ...closed },
);
