import { sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { devices, toDate } from '../schema.js';
import type { PreviousSecret } from './device-credentials.js';
import type { Metadata } from './device-fields.js';

/** A device to be stored, checked already. Times that are left out are those of a device just made. */
export interface DeviceRow {
  readonly id: string;
  readonly type: string;
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly metadata?: Metadata | undefined;
  readonly expiresAt?: Date | undefined;
  readonly createdAt?: Date | undefined;
  readonly revokedAt?: Date | undefined;
  readonly lastSeenAt?: Date | undefined;
  readonly previousSecret?: PreviousSecret | undefined;
  /** The id of the API key that adds it. */
  readonly madeBy?: string | undefined;
}

/** Rows of one INSERT: small enough to stay far below the limit on the time of a query. */
export const rowsPerInsert = 5_000;

/**
 * Stores devices, at most `rowsPerInsert`, in the transaction of `orm`. A row whose id is taken, by a stored device or
 * by a row before it, is left out.
 *
 * @returns when each of those stored was made, by id.
 */
export async function insertDevices(
  orm: NodePgDatabase,
  rows: readonly DeviceRow[],
): Promise<Map<string, Date>> {
  // In one order, so that two imports of the same ids never wait for each other; of two equal ones the first stays ahead.
  const ordered = rows.toSorted((one, other) => (one.id < other.id ? -1 : Number(one.id > other.id)));
  const json = JSON.stringify(
    ordered.map((row) => ({
      id: row.id,
      type: row.type,
      hash: row.secretHash.toString('hex'),
      salt: row.secretSalt.toString('hex'),
      metadata: row.metadata ?? {},
      expires_at: row.expiresAt,
      created_at: row.createdAt,
      revoked_at: row.revokedAt,
      last_seen_at: row.lastSeenAt,
      previous_hash: row.previousSecret?.hash.toString('hex'),
      previous_salt: row.previousSecret?.salt.toString('hex'),
      previous_until: row.previousSecret && new Date(row.previousSecret.untilMs),
      previous_until_used: row.previousSecret?.untilUsed ?? false,
      made_by: row.madeBy,
    })),
  );
  const { rows: stored } = await orm.execute<{ id: string; created_at: string }>(sql`
    insert into ${devices} (id, type, secret_hash, secret_salt, metadata, expires_at, created_at, updated_at,
      revoked_at, last_seen_at, previous_secret_hash, previous_secret_salt, previous_secret_until,
      previous_secret_until_used, made_by)
    select id, type, decode(hash, 'hex'), decode(salt, 'hex'), metadata, expires_at,
      coalesce(created_at, now()), now(), revoked_at, last_seen_at, decode(previous_hash, 'hex'),
      decode(previous_salt, 'hex'), previous_until, previous_until_used, made_by
    from json_to_recordset(${json}::json) as new (id text, type text, hash text, salt text, metadata jsonb,
      expires_at timestamptz, created_at timestamptz, revoked_at timestamptz, last_seen_at timestamptz,
      previous_hash text, previous_salt text, previous_until timestamptz, previous_until_used boolean,
      made_by text)
    on conflict do nothing
    returning id, created_at`);
  return new Map(stored.map((row) => [row.id, toDate(row.created_at)]));
}
