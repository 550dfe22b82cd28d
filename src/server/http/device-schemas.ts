import Type from 'typebox';
import { maxDeviceTypeLength } from '../../db/device-fields.js';
import { refer } from './responses.js';

const closed = { additionalProperties: false };

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

const time = (description: string) =>
  Type.String({ format: 'date-time', description, examples: ['2026-01-31T12:00:00.000Z'] });

const timeOrNull = (description: string) => Type.Union([time(description), Type.Null()]);

/** What `POST /devices` takes. */
export const NewDeviceRequest = Type.Object(
  { type },
  { $id: 'NewDeviceRequest', ...closed, examples: [{ type: 'sensor' }] },
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
  },
  { $id: 'NewDevice', ...closed },
);

export const DeviceResponse = Type.Object(
  {
    id,
    type,
    created_at: time('When it was added'),
    updated_at: time('When its type, its secret or its revocation last changed'),
    revoked_at: timeOrNull('When it was revoked; null: it is active'),
    last_seen_at: timeOrNull('When it was last seen, to the minute; null: never'),
  },
  { $id: 'Device', ...closed },
);

export const DevicePage = Type.Object(
  {
    devices: Type.Array(refer(DeviceResponse)),
    next_cursor: Type.Union([Type.String(), Type.Null()], {
      description: 'What `cursor` takes for the next page; null: this is the last one',
    }),
  },
  { $id: 'DevicePage', ...closed },
);

export const maxPageLength = 1_000;
export const defaultPageLength = 100;

export const ListQuery = Type.Object(
  {
    type: Type.Optional(describeType('Only devices of this type')),
    state: Type.Optional(
      Type.Enum(['active', 'revoked', 'all'], {
        description: 'Only devices in this state',
        default: 'active',
      }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: maxPageLength,
        default: defaultPageLength,
        description: 'Most devices on the page',
      }),
    ),
    cursor: Type.Optional(
      Type.String({
        minLength: 1,
        description: '`next_cursor` of the page before; it belongs to the same filters',
      }),
    ),
  },
  closed,
);

export const DeviceParams = Type.Object({ id });
