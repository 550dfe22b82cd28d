import { and, eq, inArray, isNotNull, isNull, sql } from 'drizzle-orm';
import { SvcMqttError } from '../errors.js';
import { type Actor, writeAudit } from './audit.js';
import { codeOf } from './connection/database-errors.js';
import type { Database } from './connection/open.js';
import { query, readQuery } from './connection/query.js';
import { inTransaction } from './connection/transaction.js';
import { checkForm, type TextForm } from './devices/device-fields.js';
import { apiKeys } from './schema.js';
import { checkHoldsNoKey, generateId, generateSecret, matchesHash } from './secrets.js';

/** What a key may do: add devices, and look at those only that it has added; look; both; everything. */
export const roles = ['enroller', 'viewer', 'provisioner', 'operator'] as const;
export type Role = (typeof roles)[number];

/** The roles that a role has the rights of. */
const heldRoles: Readonly<Record<Role, readonly Role[]>> = {
  enroller: ['enroller'],
  viewer: ['viewer'],
  provisioner: ['enroller', 'viewer', 'provisioner'],
  operator: roles,
};

/** Whether a role may do what needs another one. */
export function includesRole(held: Role, need: Role): boolean {
  return heldRoles[held].includes(need);
}

/** A key as it may be shown. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  /** To the minute. */
  readonly lastUsedAt: Date | null;
}

/** A key just made, with the text that its holder shows: the only time that it exists outside of the holder. */
export interface NewApiKey extends ApiKey {
  readonly key: string;
}

/** What the server needs to check a key. */
export interface ApiKeyCredentials {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly expiresAt: Date | null;
  readonly revoked: boolean;
}

export type ApiKeyState = 'active' | 'revoked' | 'all';

export const maxApiKeyNameLength = 64;
/** The form of a key's name; those of older keys may be others. */
const apiKeyNameForm: TextForm = {
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
  problem: 'may contain only the characters A–Z a–z 0–9 . _ - and begins with a letter or digit',
};
/** The same in the API's specification, where a name cannot look like an id either. */
export const newApiKeyNamePattern = apiKeyNameForm.pattern.replace('^', '^(?![a-z2-7]{16}$)');
/** Most keys that one page of `listApiKeys` holds. */
const maxApiKeysPerPage = 1_000;
/** Longest that a key may be valid, as far ahead as a duration of the command line can be. */
const maxLifetimeMs = 3_650 * 86_400_000;

/**
 * The text of a key: a prefix that scanners for secrets can look for, the id to look it up by, and a secret of 160 bits,
 * the latter two in base32.
 */
const keyPattern = /^svcmqtt_([a-z2-7]{16})_([a-z2-7]{32})$/;

/** The parts of a key's text, or undefined when it is not the text of a key. */
export function parseApiKey(text: string): { id: string; secret: string } | undefined {
  const [, id, secret] = keyPattern.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

/** Compares a secret with a key's salted hash, in constant time. */
export function matchesApiKey(credentials: ApiKeyCredentials, secret: string): boolean {
  return matchesHash(Buffer.from(secret), credentials.secretHash, credentials.secretSalt);
}

/**
 * Checks the name of a key: 1 to 64 characters of A–Z a–z 0–9 . _ -, and not one that could be an id.
 *
 * @returns what is wrong, in words that follow "name", or undefined when nothing is.
 */
export function checkApiKeyName(name: string): string | undefined {
  if (name === '') return 'must not be empty';
  if (name.length > maxApiKeyNameLength) return `must not be longer than ${maxApiKeyNameLength} characters`;
  const problem = checkForm(name, apiKeyNameForm) ?? checkHoldsNoKey(name);
  if (problem !== undefined) return problem;
  if (/^[a-z2-7]{16}$/.test(name)) return 'must not look like the id of a key; make it shorter or longer';
  return undefined;
}

/**
 * Checks when a key or a claim is to expire.
 *
 * @returns what is wrong, in words that follow the field's name, or undefined when nothing is.
 */
export function checkLifetime(expiresAt: Date, nowMs = Date.now()): string | undefined {
  const leftMs = expiresAt.getTime() - nowMs;
  if (Number.isNaN(leftMs)) return 'must be a time';
  if (leftMs <= 0) return 'must be in the future';
  if (leftMs > maxLifetimeMs) return 'must be within ten years';
  return undefined;
}

const shownColumns = {
  id: apiKeys.id,
  name: apiKeys.name,
  role: apiKeys.role,
  createdAt: apiKeys.createdAt,
  expiresAt: apiKeys.expiresAt,
  revokedAt: apiKeys.revokedAt,
  lastUsedAt: apiKeys.lastUsedAt,
};

/**
 * Makes a key.
 *
 * @throws SvcMqttError INPUT_INVALID, API_KEY_EXISTS, DATABASE_*.
 */
export async function createApiKey(
  db: Database,
  actor: Actor,
  request: { name: string; role: Role; expiresAt?: Date | undefined },
): Promise<NewApiKey> {
  const { name, role, expiresAt } = request;
  const problem = checkApiKeyName(name);
  if (problem !== undefined) throw new SvcMqttError('INPUT_INVALID', `name ${problem}`);
  const expiryProblem = expiresAt === undefined ? undefined : checkLifetime(expiresAt);
  if (expiryProblem !== undefined) throw new SvcMqttError('INPUT_INVALID', `expires_at ${expiryProblem}`);
  const { id, secret, hash, salt } = generateSecret(generateId());
  try {
    return await inTransaction(db, async (orm) => {
      const [key] = await orm
        .insert(apiKeys)
        .values({ id, name, role, secretHash: hash, secretSalt: salt, expiresAt: expiresAt ?? null })
        .returning(shownColumns);
      if (key === undefined) throw new SvcMqttError('INTERNAL', 'Making a key made none');
      const details = { id, role, expires_at: expiresAt?.toISOString() ?? null };
      await writeAudit(orm, actor, [{ action: 'api-key.create', target: name, details }]);
      return { ...key, key: `svcmqtt_${id}_${secret}` };
    });
  } catch (error) {
    if (codeOf(error) !== '23505') throw error;
    throw new SvcMqttError('API_KEY_EXISTS', `An API key with the name ${name} is in use`, {
      suggestion: 'Choose another name, or revoke that key first',
    });
  }
}

/**
 * Lists keys in order of name and id, `limit` at a time. An expired key counts as active until it is revoked.
 *
 * @param request.after the last key of the page before.
 */
export async function listApiKeys(
  db: Database,
  request: { state?: ApiKeyState; after?: Pick<ApiKey, 'name' | 'id'> | undefined; limit: number },
): Promise<ApiKey[]> {
  const { state = 'active', after, limit } = request;
  return await query(db, () =>
    db.orm
      .select(shownColumns)
      .from(apiKeys)
      .where(
        and(
          state === 'active' ? isNull(apiKeys.revokedAt) : undefined,
          state === 'revoked' ? isNotNull(apiKeys.revokedAt) : undefined,
          after === undefined
            ? undefined
            : sql`(${apiKeys.name}, ${apiKeys.id}) > (${after.name}, ${after.id})`,
        ),
      )
      .orderBy(apiKeys.name, apiKeys.id)
      .limit(Math.max(1, Math.min(limit, maxApiKeysPerPage))),
  );
}

/**
 * Revokes a key for good. Revoking a revoked key changes nothing and is not an error.
 *
 * @param nameOrId the id of any key, or the name of one: of several with the name, the one in use.
 * @returns the key, or undefined when there is none.
 */
export async function revokeApiKey(
  db: Database,
  actor: Actor,
  nameOrId: string,
): Promise<{ key: ApiKey; outcome: 'revoked' | 'already revoked' } | undefined> {
  if (nameOrId.includes('\0')) return undefined;
  return await inTransaction(db, async (orm) => {
    const [found] = await orm
      .select(shownColumns)
      .from(apiKeys)
      .where(sql`${apiKeys.id} = ${nameOrId} or ${apiKeys.name} = ${nameOrId}`)
      .orderBy(
        sql`${apiKeys.id} = ${nameOrId} desc, ${apiKeys.revokedAt} is null desc, ${apiKeys.revokedAt} desc`,
      )
      .limit(1)
      .for('update');
    if (found === undefined) return undefined;
    if (found.revokedAt !== null) return { key: found, outcome: 'already revoked' };
    const [key = found] = await orm
      .update(apiKeys)
      .set({ revokedAt: sql`clock_timestamp()` })
      .where(eq(apiKeys.id, found.id))
      .returning(shownColumns);
    const details = { id: key.id, role: key.role };
    await writeAudit(orm, actor, [{ action: 'api-key.revoke', target: key.name, details }]);
    return { key, outcome: 'revoked' };
  });
}

/** What the server needs to check those of the keys that exist, revoked or not. */
export async function loadApiKeys(db: Database, ids: readonly string[]): Promise<ApiKeyCredentials[]> {
  return await readQuery(db, () =>
    db.orm
      .select({
        id: apiKeys.id,
        name: apiKeys.name,
        role: apiKeys.role,
        secretHash: apiKeys.secretHash,
        secretSalt: apiKeys.secretSalt,
        expiresAt: apiKeys.expiresAt,
        revoked: sql<boolean>`${apiKeys.revokedAt} is not null`,
      })
      .from(apiKeys)
      .where(inArray(apiKeys.id, [...ids])),
  );
}

/** Whether a key was ever made, though it be revoked or expired by now. */
export async function hasApiKeys(db: Database): Promise<boolean> {
  const { rows } = await readQuery(db, () =>
    db.orm.execute<{ found: boolean }>(sql`select exists (select from ${apiKeys}) as found`),
  );
  return rows[0]?.found === true;
}

/** Writes `last_used_at` of a key that was not written within the last minute. */
export async function markApiKeyUsed(db: Database, id: string): Promise<void> {
  await query(db, () =>
    db.orm
      .update(apiKeys)
      .set({ lastUsedAt: sql`now()` })
      .where(
        and(
          eq(apiKeys.id, id),
          sql`(${apiKeys.lastUsedAt} is null or ${apiKeys.lastUsedAt} < now() - interval '1 minute')`,
        ),
      ),
  );
}
