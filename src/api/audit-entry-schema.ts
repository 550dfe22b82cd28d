import Type from 'typebox';
import { closed, optional, orNull, page, pageQuery, refer, time, timeField } from './schema.js';

export const AuditEntry = Type.Object(
  {
    id: Type.Integer({ description: 'Its number: a later change has a greater one' }),
    at: time('When it was made'),
    actor_kind: Type.String({
      description:
        '`cli`: a command; `api-key`; `api-token`: who has API_TOKEN; `local`: the API without keys; `claim`; `server`; `sql`: a role of the database',
      examples: ['api-key'],
    }),
    actor: Type.String({
      description: "The key's name, the user of the machine, the claim's id",
      examples: ['ci'],
    }),
    address: orNull(Type.String(), {
      description: "The peer's address; null: it was made by a command",
    }),
    action: Type.String({ description: 'What was done', examples: ['device.revoke'] }),
    target: Type.String({ description: "To what: a device's id, a device type, a key's name, a claim's id" }),
    details: Type.Record(Type.String(), Type.Unknown(), { description: 'More about it; never a secret' }),
  },
  { $id: 'AuditEntry', ...closed },
);

export const AuditPage = page('AuditPage', { entries: Type.Array(refer(AuditEntry)) });

export const AuditQuery = optional({
  device: Type.String({
    minLength: 1,
    description: 'Only what was done to the device with this id, or to its connections and sessions',
  }),
  since: timeField('Only changes since then'),
  ...pageQuery('entries'),
});
