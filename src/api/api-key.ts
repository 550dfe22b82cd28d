import type { Static } from 'typebox';
import type { ApiKey, NewApiKey } from '../db/api-keys.js';
import type * as schema from './api-key-schema.js';

export type ApiKeyJson = Static<typeof schema.ApiKeyResponse>;
export type ApiKeyPageJson = Static<typeof schema.ApiKeyPage>;
/** A key just made, with its text. */
export type NewApiKeyJson = Static<typeof schema.NewApiKeyResponse>;

export function toApiKeyJson(key: ApiKey): ApiKeyJson {
  return {
    id: key.id,
    name: key.name,
    role: key.role,
    created_at: key.createdAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
    last_used_at: key.lastUsedAt?.toISOString() ?? null,
  };
}

export function toNewApiKeyJson(key: NewApiKey): NewApiKeyJson {
  return {
    id: key.id,
    name: key.name,
    role: key.role,
    key: key.key,
    created_at: key.createdAt.toISOString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
  };
}
