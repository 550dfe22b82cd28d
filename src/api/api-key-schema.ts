import Type from 'typebox';
import { maxApiKeyNameLength, newApiKeyNamePattern, roles } from '../db/api-keys.js';
import { closed, optional, page, pageQuery, refer, time, timeField, timeOrNull } from './schema.js';

const id = Type.String({
  description: "The key's id, the middle part of its text",
  examples: ['k2v7q4mzt6xw3hba'],
});

const name = Type.String({
  minLength: 1,
  maxLength: maxApiKeyNameLength,
  description: `Its name: 1 to ${maxApiKeyNameLength} characters of A–Z a–z 0–9 . _ -, the first a letter or digit, not that of a key in use`,
  examples: ['ci'],
});

const role = Type.Enum([...roles], {
  type: 'string',
  description:
    'What it may do: `enroller` add devices, and look at those that it added; `viewer` look; `provisioner` both; `operator` everything',
});

const created = time('When it was made');
const expires = timeOrNull('When it expires; null: never');

/** What `POST /api-keys` takes. */
export const NewApiKeyRequest = Type.Object(
  {
    name: Type.String({ ...name, pattern: newApiKeyNamePattern }),
    role,
    expires_at: Type.Optional(timeField('When it is to expire, within ten years; left out: never')),
  },
  { $id: 'NewApiKeyRequest', ...closed, examples: [{ name: 'ci', role: 'provisioner' }] },
);

/** What `POST /api-keys` answers: the one place where the key is shown. */
export const NewApiKeyResponse = Type.Object(
  {
    id,
    name,
    role,
    key: Type.String({
      description: 'The key, shown here and never again: only a hash of it is kept',
      examples: ['made by the server'],
    }),
    created_at: created,
    expires_at: expires,
  },
  { $id: 'NewApiKey', ...closed },
);

export const ApiKeyResponse = Type.Object(
  {
    id,
    name: Type.String({ description: 'Its name', examples: ['ci'] }),
    role,
    created_at: created,
    expires_at: expires,
    revoked_at: timeOrNull('When it was revoked; null: it was not'),
    last_used_at: timeOrNull('When it was last used, to the minute; null: never'),
  },
  { $id: 'ApiKey', ...closed },
);

export const ApiKeyPage = page('ApiKeyPage', { api_keys: Type.Array(refer(ApiKeyResponse)) });

export const ApiKeyListQuery = optional({
  state: Type.Enum(['active', 'revoked', 'all'], {
    type: 'string',
    description: 'Which keys; `active` when left out, expired ones among them',
  }),
  ...pageQuery('keys'),
});

export const ApiKeyParams = Type.Object(
  {
    key: Type.String({ minLength: 1, description: "The key's id, or the name of one; never the key itself" }),
  },
  closed,
);
