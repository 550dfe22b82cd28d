import { timingSafeEqual } from 'node:crypto';
import { and, eq, gt, isNotNull, isNull, sql } from 'drizzle-orm';
import { SvcMqttError } from '../errors.js';
import type { Database } from './open.js';
import { query } from './query.js';
import { devices } from './schema.js';
import { generateId, generateSecret, hashSecret } from './secrets.js';
import { inTransaction } from './transaction.js';

/** A device as it may be shown: never its secret, hash or salt. */
export interface Device {
  readonly id: string;
  readonly type: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly revokedAt: Date | null;
  readonly lastSeenAt: Date | null;
}

/** A device just added, with its secret in clear: the only time that it exists outside the device. */
export interface NewDevice {
  readonly id: string;
  readonly type: string;
  readonly mqttUser: string;
  readonly mqttPassword: string;
  readonly createdAt: Date;
}

/** What the server needs to authenticate a device. */
export interface DeviceCredentials {
  readonly id: string;
  readonly type: string;
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly revoked: boolean;
}

export type DeviceState = 'active' | 'revoked' | 'all';

export const maxDeviceTypeLength = 128;
export const maxDeviceIdLength = 64;
/** Most devices that one `addDevices` call makes. */
export const maxDevicesPerAdd = 100_000;
/** Most devices that one page of `listDevices` holds. */
export const maxDevicesPerPage = 10_000;

/** Rows of one INSERT: small enough to stay far below the limit on the time of a query. */
const rowsPerInsert = 5_000;
/** Ids of one query. */
const idsPerQuery = 5_000;

/**
 * Checks a device type: 1 to 128 characters, no control characters, well-formed Unicode.
 *
 * @returns what is wrong, in words that follow "type", or undefined when nothing is.
 */
export function checkDeviceType(type: string): string | undefined {
  if (type === '') return 'must not be empty';
  // PostgreSQL counts code points, as [...type] does; no text of more UTF-16 units than twice the limit can pass.
  if (type.length > 2 * maxDeviceTypeLength || [...type].length > maxDeviceTypeLength) {
    return `must not be longer than ${maxDeviceTypeLength} characters`;
  }
  if (/\p{Cc}/u.test(type)) return 'must not contain control characters';
  if (!isWellFormed(type)) return 'must be well-formed Unicode';
  return undefined;
}

function isWellFormed(text: string): boolean {
  return !/\p{Cs}/u.test(text);
}

/**
 * Checks a device id chosen by a person: 1 to 64 characters of A–Z a–z 0–9 _ -, which are safe in an MQTT topic
 * level, a NATS subject token and a URL path alike.
 *
 * @returns what is wrong, in words that follow "id", or undefined when nothing is.
 */
export function checkDeviceId(id: string): string | undefined {
  if (id === '') return 'must not be empty';
  if (id.length > maxDeviceIdLength) return `must not be longer than ${maxDeviceIdLength} characters`;
  if (!/^[A-Za-z0-9_-]+$/.test(id)) return 'may contain only the characters A–Z a–z 0–9 _ -';
  return undefined;
}

/**
 * Adds devices with generated secrets, all or none. `id` only with one device; otherwise ids are generated:
 * 16 characters of base32.
 *
 * @throws SvcMqttError INPUT_INVALID, DEVICE_EXISTS, DATABASE_UNREACHABLE.
 */
export async function addDevices(
  db: Database,
  request: { type: string; id?: string | undefined; count?: number | undefined },
): Promise<NewDevice[]> {
  const { type, id, count = 1 } = request;
  requireValid('type', type, checkDeviceType(type));
  if (id !== undefined) requireValid('id', id, checkDeviceId(id));
  if (!Number.isInteger(count) || count < 1 || count > maxDevicesPerAdd) {
    throw new SvcMqttError('INPUT_INVALID', `count must be a whole number from 1 to ${maxDevicesPerAdd}`);
  }
  if (id !== undefined && count !== 1) {
    throw new SvcMqttError(
      'INPUT_INVALID',
      'id cannot be given with a count: two devices cannot share an id',
      {
        suggestion: 'Leave out one of the two',
      },
    );
  }
  const added: NewDevice[] = [];
  await query(db, () =>
    inTransaction(db, async (orm) => {
      while (added.length < count) {
        const rows = Array.from({ length: Math.min(rowsPerInsert, count - added.length) }, () =>
          generateSecret(id ?? generateId()),
        );
        const column = (name: 'id' | 'hash' | 'salt') => sql.param(rows.map((row) => row[name]));
        const { rows: stored } = await orm.execute<{ id: string; created_at: string }>(sql`
          insert into ${devices} (id, type, secret_hash, secret_salt)
          select id, ${type}::text, hash, salt
          from unnest(${column('id')}::text[], ${column('hash')}::bytea[], ${column('salt')}::bytea[]) as new (id, hash, salt)
          on conflict do nothing
          returning id, created_at`);
        if (id !== undefined && stored.length === 0) {
          throw new SvcMqttError('DEVICE_EXISTS', `A device with the id ${id} exists already`, {
            suggestion: 'Choose another id, or leave it out to have one generated',
          });
        }
        // Of two equal random ids one is left out here and made again in the next round.
        const createdAt = new Map(stored.map((row) => [row.id, new Date(row.created_at)]));
        for (const row of rows) {
          const at = createdAt.get(row.id);
          if (at === undefined || !createdAt.delete(row.id)) continue;
          added.push({ id: row.id, type, mqttUser: row.id, mqttPassword: row.secret, createdAt: at });
        }
      }
    }),
  );
  return added;
}

function requireValid(field: string, value: string, problem: string | undefined): void {
  if (problem === undefined) return;
  throw new SvcMqttError('INPUT_INVALID', `${field} ${problem}`, {
    ...(value === '' ? { suggestion: `Give a ${field}` } : {}),
  });
}

/** Compares a password with a device's salted hash, in constant time. */
export function matchesSecret(credentials: DeviceCredentials, password: Uint8Array): boolean {
  const hash = hashSecret(credentials.secretSalt, password);
  return hash.length === credentials.secretHash.length && timingSafeEqual(hash, credentials.secretHash);
}

const shownColumns = {
  id: devices.id,
  type: devices.type,
  createdAt: devices.createdAt,
  updatedAt: devices.updatedAt,
  revokedAt: devices.revokedAt,
  lastSeenAt: devices.lastSeenAt,
};

/**
 * Lists devices in order of id, `limit` at a time.
 *
 * @param request.after the last id of the page before.
 */
export async function listDevices(
  db: Database,
  request: { type?: string | undefined; state?: DeviceState; after?: string | undefined; limit: number },
): Promise<Device[]> {
  const { type, state = 'active', after, limit } = request;
  return await query(db, () =>
    db.orm
      .select(shownColumns)
      .from(devices)
      .where(
        and(
          type === undefined ? undefined : eq(devices.type, type),
          state === 'active' ? isNull(devices.revokedAt) : undefined,
          state === 'revoked' ? isNotNull(devices.revokedAt) : undefined,
          after === undefined ? undefined : gt(devices.id, after),
        ),
      )
      .orderBy(devices.id)
      .limit(Math.max(1, Math.min(limit, maxDevicesPerPage))),
  );
}

/** One device, revoked or not, or undefined. */
export async function findDevice(db: Database, id: string): Promise<Device | undefined> {
  if (!isStorable(id)) return undefined;
  const rows = await query(db, () => db.orm.select(shownColumns).from(devices).where(eq(devices.id, id)));
  return rows[0];
}

/** PostgreSQL's text holds no U+0000, and an ill-formed string would be sent as another one. */
function isStorable(id: string): boolean {
  return id !== '' && !id.includes('\0') && isWellFormed(id);
}

/**
 * Revokes devices. Revoking a revoked device changes nothing and is not an error.
 *
 * @returns the ids by outcome, each in the order given.
 */
export async function revokeDevices(
  db: Database,
  ids: readonly string[],
): Promise<{ revoked: string[]; alreadyRevoked: string[]; unknown: string[] }> {
  const wanted = [...new Set(ids)];
  const outcomes = new Map<string, boolean>();
  for (const batch of batchesOf(wanted.filter(isStorable), idsPerQuery)) {
    // Locking in order of id keeps two revocations of overlapping lists from waiting for each other.
    const result = await query(db, () =>
      db.orm.execute<{ id: string; revoked: boolean }>(sql`
        with held as (
          select id, revoked_at is null as revoked from ${devices}
          where id = any(${sql.param(batch)}::text[]) order by id for update
        ), changed as (
          update ${devices} set revoked_at = clock_timestamp() from held
          where ${devices}.id = held.id and held.revoked
        )
        select id, revoked from held`),
    );
    for (const row of result.rows) outcomes.set(row.id, row.revoked);
  }
  return {
    revoked: wanted.filter((id) => outcomes.get(id) === true),
    alreadyRevoked: wanted.filter((id) => outcomes.get(id) === false),
    unknown: wanted.filter((id) => !outcomes.has(id)),
  };
}

/** Credentials of the devices that exist among `ids`. */
export async function loadCredentials(db: Database, ids: readonly string[]): Promise<DeviceCredentials[]> {
  const found: DeviceCredentials[] = [];
  for (const batch of batchesOf(ids.filter(isStorable), idsPerQuery)) {
    const rows = await query(db, () =>
      db.orm
        .select({
          id: devices.id,
          type: devices.type,
          secretHash: devices.secretHash,
          secretSalt: devices.secretSalt,
          revoked: sql<boolean>`${devices.revokedAt} is not null`,
        })
        .from(devices)
        .where(sql`${devices.id} = any(${sql.param(batch)}::text[])`),
    );
    found.push(...rows);
  }
  return found;
}

/** Writes `last_seen_at` for devices not written within the last minute. */
export async function markSeen(db: Database, ids: readonly string[]): Promise<void> {
  for (const batch of batchesOf(ids.filter(isStorable), idsPerQuery)) {
    // A row that someone else is writing is skipped: it will be seen again, and nobody waits for this.
    await query(db, () =>
      db.orm.execute(sql`
        update ${devices} set last_seen_at = now()
        from (
          select id from ${devices}
          where id = any(${sql.param(batch)}::text[])
            and (last_seen_at is null or last_seen_at < now() - interval '1 minute')
          for update skip locked
        ) as seen
        where ${devices}.id = seen.id`),
    );
  }
}

function* batchesOf<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
