import { sql } from 'drizzle-orm';
import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { batchesOf, idsPerQuery, query, readQuery } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { matchesHash } from '../secrets.js';
import { isStorable } from './device-fields.js';

/** What is stored of a secret. */
export interface Secret {
  readonly hash: Buffer;
  readonly salt: Buffer;
}

/** A secret that has been replaced, valid for a while. */
export interface PreviousSecret extends Secret {
  /** When it ends, ms since 1970. */
  readonly untilMs: number;
  /** It ends as soon as the current secret has been used. */
  readonly untilUsed: boolean;
}

/** What the server needs to authenticate a device. */
export interface DeviceCredentials {
  readonly id: string;
  readonly type: string;
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly previousSecret: PreviousSecret | undefined;
  /** ms since 1970, as its revocation was written; undefined: it is not revoked. */
  readonly revokedAtMs: number | undefined;
  /** ms since 1970; undefined: never. */
  readonly expiresAtMs: number | undefined;
}

/** Which of a device's secrets. */
export type WhichSecret = 'current' | 'previous';

/** Compares a password with a device's salted hashes, in constant time; answers the secret that it is, if any. */
export function matchSecret(
  credentials: DeviceCredentials,
  password: Uint8Array,
  nowMs = Date.now(),
): WhichSecret | undefined {
  if (matchesHash(password, credentials.secretHash, credentials.secretSalt)) return 'current';
  const { previousSecret } = credentials;
  if (previousSecret === undefined || previousSecret.untilMs <= nowMs) return undefined;
  return matchesHash(password, previousSecret.hash, previousSecret.salt) ? 'previous' : undefined;
}

/** What is stored of one of a device's secrets. */
export function secretOf(credentials: DeviceCredentials, which: WhichSecret): Secret | undefined {
  if (which === 'previous') return credentials.previousSecret;
  return { hash: credentials.secretHash, salt: credentials.secretSalt };
}

/**
 * Until when a login by a secret is good, in ms since 1970: the device's expiry, or the end of the secret if that is
 * earlier. A secret that is none of the device's was never good. Without a secret only the expiry counts.
 */
export function validUntilMs(credentials: DeviceCredentials, secret: Secret | undefined): number {
  const expiryMs = credentials.expiresAtMs ?? Number.POSITIVE_INFINITY;
  const isSame = (other: Secret | undefined) =>
    other !== undefined && secret?.hash.equals(other.hash) === true && secret.salt.equals(other.salt);
  if (secret === undefined || isSame(secretOf(credentials, 'current'))) return expiryMs;
  const { previousSecret } = credentials;
  return isSame(previousSecret) ? Math.min(expiryMs, previousSecret?.untilMs ?? 0) : 0;
}

/** Whether a device has expired, by the clock of this machine. */
export function isExpired(credentials: DeviceCredentials, nowMs = Date.now()): boolean {
  return credentials.expiresAtMs !== undefined && credentials.expiresAtMs <= nowMs;
}

/** Credentials of the devices that exist among `ids`. */
export async function loadCredentials(db: Database, ids: readonly string[]): Promise<DeviceCredentials[]> {
  const found: DeviceCredentials[] = [];
  for (const batch of batchesOf(ids.filter(isStorable), idsPerQuery)) {
    const rows = await readQuery(db, () =>
      db.orm
        .select({
          id: devices.id,
          type: devices.type,
          secretHash: devices.secretHash,
          secretSalt: devices.secretSalt,
          hash: devices.previousSecretHash,
          salt: devices.previousSecretSalt,
          until: devices.previousSecretUntil,
          untilUsed: devices.previousSecretUntilUsed,
          revokedAt: devices.revokedAt,
          expiresAt: devices.expiresAt,
        })
        .from(devices)
        .where(sql`${devices.id} = any(${sql.param(batch)}::text[])`),
    );
    for (const { hash, salt, until, untilUsed, revokedAt, expiresAt, ...row } of rows) {
      const previousSecret =
        hash === null || salt === null || until === null
          ? undefined
          : { hash, salt, untilMs: until.getTime(), untilUsed };
      found.push({
        ...row,
        previousSecret,
        revokedAtMs: revokedAt?.getTime(),
        expiresAtMs: expiresAt?.getTime(),
      });
    }
  }
  return found;
}

/** A device that was seen, and the hash of the secret with which it logged in, when it just did. */
export interface Sighting {
  readonly id: string;
  readonly secretHash: Buffer | undefined;
}

/**
 * Writes `last_seen_at` for devices not written within the last minute, or whose login was by another secret than
 * their last, and `last_secret_used`. The secret is named by its hash, since a rotation meanwhile may have made
 * the current one the previous.
 *
 * @returns the ids whose login is not written, because someone else was writing the row.
 */
export async function markSeen(db: Database, sightings: readonly Sighting[]): Promise<string[]> {
  const storable = sightings.filter(({ id }) => isStorable(id));
  const missed: string[] = [];
  for (const batch of batchesOf(storable, idsPerQuery)) {
    const ids = sql.param(batch.map(({ id }) => id));
    const hashes = sql.param(batch.map(({ secretHash }) => secretHash ?? null));
    // A row that someone else is writing is skipped: nobody waits for this.
    const { rows } = await query(db, () =>
      db.orm.execute<{ id: string }>(sql`
        with sighting as (
          select ${devices}.id, case used.hash
            when ${devices}.secret_hash then 'current' when ${devices}.previous_secret_hash then 'previous'
          end as secret
          from ${devices} join unnest(${ids}::text[], ${hashes}::bytea[]) as used (id, hash) using (id)
        ), due as (
          select ${devices}.id, sighting.secret from ${devices} join sighting using (id)
          where last_seen_at is null or last_seen_at < now() - interval '1 minute'
            or sighting.secret <> last_secret_used or (last_secret_used is null and sighting.secret is not null)
        ), seen as (
          select ${devices}.id, due.secret from ${devices} join due using (id)
          for no key update of ${devices} skip locked
        ), written as (
          update ${devices} set last_seen_at = now(), last_secret_used = coalesce(seen.secret, last_secret_used)
          from seen where ${devices}.id = seen.id
        )
        select id from due where secret is not null and id not in (select id from seen)`),
    );
    missed.push(...rows.map(({ id }) => id));
  }
  return missed;
}

/** Over by any clock. */
const longAgo = sql`to_timestamp(1)`;

/**
 * Ends the previous secrets of devices that have used their new one and were to keep the old one only until then. What is stored of
 * them stays, as after any grace: a replica that hears of the rotation only now sees that it has not lost the one that it knows.
 *
 * @param used the devices and the hash of the secret that was used: nothing happens when that is no longer current.
 * @returns the ids whose secret is not ended, because someone else was writing the row.
 */
export async function endPreviousSecrets(
  db: Database,
  actor: Actor,
  used: readonly { readonly id: string; readonly secretHash: Buffer }[],
): Promise<string[]> {
  const ids = sql.param(used.map(({ id }) => id));
  const hashes = sql.param(used.map(({ secretHash }) => secretHash));
  const due = sql`
    select ${devices}.id from ${devices}
    join unnest(${ids}::text[], ${hashes}::bytea[]) as used (id, hash)
      on used.id = ${devices}.id and used.hash = ${devices}.secret_hash
    where previous_secret_until_used`;
  return await inTransaction(db, async (orm) => {
    // A row that an application's transaction holds keeps the others from nothing.
    const { rows } = await orm.execute<{ id: string; ended: boolean }>(sql`
      with due as (${due}), held as (${due} order by ${devices}.id for update of ${devices} skip locked), ended as (
        update ${devices} set previous_secret_until = ${longAgo}, previous_secret_until_used = false
        from held where ${devices}.id = held.id
        returning ${devices}.id
      )
      select id, id in (select id from ended) as ended from due`);
    const entries = rows
      .filter(({ ended }) => ended)
      .map(({ id }) => ({ action: 'device.end-previous-secret', target: id }));
    await writeAudit(orm, actor, entries);
    return rows.filter(({ ended }) => !ended).map(({ id }) => id);
  });
}
