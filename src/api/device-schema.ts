import Type from 'typebox';
import {
  deviceIdCharacters,
  fieldPatterns,
  maxDeviceIdLength,
  maxDeviceTypeLength,
  maxGraceMs,
  maxMetadataKeyLength,
  maxMetadataKeys,
  maxMetadataValueLength,
  maxReasonLength,
} from '../db/devices/device-fields.js';
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
  timeOrNull,
} from './schema.js';

const id = Type.String({
  minLength: 1,
  description: "The device's id, which is also its MQTT user name",
  examples: ['k2v7q4mzt6xw3hba'],
});

const describeType = (description: string) =>
  Type.String({ minLength: 1, maxLength: maxDeviceTypeLength, description, examples: ['sensor'] });

const type = describeType(
  `What kind of device it is: 1 to ${maxDeviceTypeLength} characters, no control characters`,
);

const metadataRules = `at most ${maxMetadataKeys} entries, keys of 1 to ${maxMetadataKeyLength} characters A–Z a–z 0–9 _ . -, values of at most ${maxMetadataValueLength} characters`;

const metadata = Type.Record(Type.String(), Type.String(), {
  description: `What is noted about it: ${metadataRules}; never a secret`,
  examples: [{ site: 'lyon' }],
});

const expiresAt = timeField(
  'When it expires, as RFC 3339 with the offset from UTC: from then on it is refused, and its connections end',
);

/** What `POST /devices` takes. */
export const NewDeviceRequest = Type.Object(
  {
    type: Type.String({ ...type, pattern: fieldPatterns.newType }),
    id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: maxDeviceIdLength,
        pattern: fieldPatterns.newDeviceId,
        description: `The id to give it: 1 to ${maxDeviceIdLength} characters ${deviceIdCharacters}, not beginning with a hyphen; otherwise one is generated`,
      }),
    ),
    expires_at: Type.Optional(expiresAt),
    metadata: Type.Optional(
      metadataField(metadataValue, {
        maxProperties: maxMetadataKeys,
        description: `What to note about it: ${metadataRules}; never a secret`,
        examples: [{ site: 'lyon' }],
      }),
    ),
  },
  { $id: 'NewDeviceRequest', ...closed, examples: [{ type: 'sensor' }] },
);

/** What `PATCH /devices/{id}` takes. */
export const DeviceChangesRequest = optional(
  {
    expires_at: orNull(expiresAt, { description: 'null: it never expires' }),
    metadata: metadataField(orNull(metadataValue), {
      description: `Entries to set; null removes one; others stay. In all ${metadataRules}`,
      examples: [{ site: 'lyon', rack: null }],
    }),
  },
  { $id: 'DeviceChanges', ...closed, examples: [{ metadata: { site: 'lyon' } }] },
);

/** What `POST /devices/{id}/rotate` takes. */
export const RotateRequest = optional(
  {
    grace_seconds: Type.Integer({
      minimum: 1,
      maximum: maxGraceMs / 1_000,
      description: 'Seconds for which the secret until now stays valid; left out: it ends at once',
    }),
    until_used: Type.Boolean({
      description: 'The secret until now ends already when the new one has been used',
    }),
  },
  {
    $id: 'RotateRequest',
    ...closed,
    if: { properties: { until_used: { const: true } }, required: ['until_used'] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
    then: { required: ['grace_seconds'] },
    examples: [{ grace_seconds: 86_400 }, {}],
  },
);

/** What `POST /devices` answers: the one place where the password is shown. */
export const NewDeviceResponse = Type.Object(
  {
    id,
    type,
    mqtt_user: Type.String({ description: 'The MQTT user name', examples: ['k2v7q4mzt6xw3hba'] }),
    mqtt_password: Type.String({
      description: 'The MQTT password, shown here and never again: only its hash is kept',
      examples: ['made by the server'],
    }),
    created_at: time('When it was added'),
    expires_at: Type.Optional(time('When it expires; only when it was given')),
    metadata: Type.Optional(metadata),
  },
  { $id: 'NewDevice', ...closed },
);

const previousSecretUntil = timeOrNull('Until when the secret before is still valid; null: it is not');
const previousSecretUntilUsed = Type.Boolean({
  description: 'The secret before ends already when the new one has been used',
});

/** What `POST /devices/{id}/rotate` answers. */
export const RotatedDeviceResponse = Type.Object(
  {
    id,
    type,
    mqtt_user: Type.String({ description: 'The MQTT user name, as before' }),
    mqtt_password: Type.String({ description: 'The new MQTT password, shown here and never again' }),
    previous_secret_until: previousSecretUntil,
    previous_secret_until_used: previousSecretUntilUsed,
  },
  { $id: 'RotatedDevice', ...closed },
);

export const DeviceResponse = Type.Object(
  {
    id,
    type,
    created_at: time('When it was added'),
    updated_at: time('When anything of it but the last two times of use last changed'),
    revoked_at: timeOrNull('When it was revoked; null: it is active'),
    last_seen_at: timeOrNull('When it was last seen, to the minute; null: never'),
    expires_at: timeOrNull('When it expires or has expired; null: never'),
    metadata,
    last_secret_used: Type.Union([Type.Enum(['current', 'previous']), Type.Null()], {
      description: 'The secret of its last login; null: none since the current secret was made',
    }),
    previous_secret_until: previousSecretUntil,
    previous_secret_until_used: previousSecretUntilUsed,
  },
  { $id: 'Device', ...closed },
);

const count = (description: string) => Type.Integer({ minimum: 0, description });

/** What has become of a device's messages. */
export const LedgerResponse = Type.Object(
  {
    received: count('PUBLISH packets taken from it, and refused ones; repeats of QoS 2 are not counted'),
    stored: count('Messages of QoS 1 and 2 that NATS has confirmed'),
    refused: count('Messages that its policy, a limit or NATS refused'),
    last_refused_at: timeOrNull('When one was last refused; null: never'),
    last_refused_reason: orNull(Type.String(), { description: 'Why, as a word' }),
    delivered: count('Messages that it has taken: sent with QoS 0, or acknowledged'),
    last_stream: orNull(Type.String(), { description: 'The stream of its last message' }),
    last_sequence: orNull(Type.Integer({ minimum: 1 }), {
      description: 'The sequence of its last message in that stream',
    }),
    first_seen_at: time('When something was first noted of it'),
    last_address: orNull(Type.String(), { description: 'Where it last connected from' }),
  },
  { $id: 'Ledger', ...closed },
);

export const DeviceDetailsResponse = Type.Object(
  {
    ...DeviceResponse.properties,
    ledger: orNull(refer(LedgerResponse), {
      description:
        'What has become of its messages. Each replica writes it once a minute and at its end; what the replicas that answer have not written yet is counted in. null: nothing of it is known',
    }),
  },
  { $id: 'DeviceDetails', ...closed },
);

export const DevicePage = page('DevicePage', { devices: Type.Array(refer(DeviceResponse)) });

const metadataEntry = Type.String({
  pattern: fieldPatterns.metadataKey.replace('$', '=').concat(fieldPatterns.metadataValue.slice(1)),
  examples: ['site=lyon'],
});

/** What `DELETE /devices/{id}` takes. */
export const RevokeQuery = optional({
  reason: Type.String({
    minLength: 1,
    maxLength: maxReasonLength,
    pattern: fieldPatterns.reason,
    description: 'Why; kept in the audit log',
    examples: ['stolen'],
  }),
});

export const ListQuery = optional({
  id_prefix: Type.String({
    minLength: 1,
    maxLength: maxDeviceIdLength,
    pattern: fieldPatterns.type,
    description: 'Only devices whose id begins with this; looks through all devices for each page',
  }),
  type: Type.String({ ...describeType('Only devices of this type'), pattern: fieldPatterns.type }),
  state: Type.Enum(['active', 'expired', 'revoked', 'all'], {
    description: 'Only devices in this state; active: neither revoked nor expired',
    default: 'active',
  }),
  metadata: Type.Union([metadataEntry, Type.Array(metadataEntry, { maxItems: maxMetadataKeys })], {
    description: 'Only devices with this entry, as `key=value`; repeated: with all of them',
  }),
  sort: Type.Enum(['id', 'type', 'created', 'last_seen', 'expires'], {
    description:
      'What to sort by; equal ones by id. Anything but `id` looks through all devices for each page',
    default: 'id',
  }),
  order: Type.Enum(['asc', 'desc'], { description: 'In which order', default: 'asc' }),
  ...pageQuery('devices'),
});

export const DeviceParams = Type.Object({ id });
