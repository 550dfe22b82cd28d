import type { ApiKey, NewApiKey, Role } from './api-keys.js';

/** The one form in which machines get keys, from the HTTP API and from `--json` alike. Times are ISO 8601, UTC. */
export interface ApiKeyJson {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly last_used_at: string | null;
}

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

/** A key just made, with its text. */
export interface NewApiKeyJson {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly key: string;
  readonly created_at: string;
  readonly expires_at: string | null;
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
