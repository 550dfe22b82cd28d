import { and, asc, desc, eq, gt, isNotNull, isNull, lte, or, sql } from 'drizzle-orm';
import { SvcMqttError } from '../../errors.js';
import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { generateId, generateSecret } from '../secrets.js';
import type { WhichSecret } from './device-credentials.js';
import {
  checkExpiry,
  checkMetadata,
  checkNewDeviceId,
  checkNewDeviceType,
  isStorable,
  type Metadata,
  requireValid,
} from './device-fields.js';
import { insertDevices, rowsPerInsert } from './device-insert.js';

/** A device as it may be shown: never its secrets, hashes or salts. */
export interface Device {
  readonly id: string;
  readonly type: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly revokedAt: Date | null;
  readonly lastSeenAt: Date | null;
  readonly expiresAt: Date | null;
  readonly metadata: Metadata;
  /** The secret of its last login; null: it has not logged in since it got its secret, or not yet. */
  readonly lastSecretUsed: WhichSecret | null;
  /** Until when the secret before is still valid; null: there is none that is. */
  readonly previousSecretUntil: Date | null;
  /** The secret before ends already when the current one has been used. */
  readonly previousSecretUntilUsed: boolean;
}

/** A device just added, with its secret in clear: the only time that it exists outside the device. */
export interface NewDevice {
  readonly id: string;
  readonly type: string;
  readonly mqttUser: string;
  readonly mqttPassword: string;
  readonly createdAt: Date;
  /** Only when it was asked for. */
  readonly expiresAt?: Date | undefined;
  /** Only when it was asked for. */
  readonly metadata?: Metadata | undefined;
}

/** What a device to be added shall be. */
export interface AddRequest {
  readonly type: string;
  readonly id?: string | undefined;
  readonly count?: number | undefined;
  readonly expiresAt?: Date | undefined;
  readonly metadata?: Metadata | undefined;
}

/** `active`: neither revoked nor expired. `expired`: expired and not revoked. */
export type DeviceState = 'active' | 'expired' | 'revoked' | 'all';

/** Most devices that one `addDevices` call makes. */
const maxDevicesPerAdd = 100_000;
/** Most devices that one page of `listDevices` holds. */
export const maxDevicesPerPage = 10_000;

/**
 * Adds devices with generated secrets, all or none. `id` only with one device; otherwise ids are generated:
 * 16 characters of base32.
 *
 * @param beforeCommit called with the devices before they exist for anyone else, so that their secrets can be kept
 *   safe first; when it fails, nothing is added.
 * @throws SvcMqttError INPUT_INVALID, DEVICE_EXISTS, DATABASE_UNREACHABLE.
 */
export async function addDevices(
  db: Database,
  actor: Actor,
  request: AddRequest,
  beforeCommit: (added: readonly NewDevice[]) => Promise<void> = async () => {},
): Promise<NewDevice[]> {
  requireAddable(request);
  const { type, id, count = 1, expiresAt, metadata } = request;
  const added: NewDevice[] = [];
  await inTransaction(db, async (orm) => {
    while (added.length < count) {
      const rows = Array.from({ length: Math.min(rowsPerInsert, count - added.length) }, () => {
        const { secret, hash, salt, ...made } = generateSecret(id ?? generateId());
        const stored = { secretHash: hash, secretSalt: salt, metadata, expiresAt, madeBy: actor.keyId };
        return { ...made, type, secret, ...stored };
      });
      const createdAt = await insertDevices(orm, rows);
      if (id !== undefined && createdAt.size === 0) throw deviceExists(id);
      // Of two equal random ids one is left out here and made again in the next round.
      for (const row of rows) {
        const at = createdAt.get(row.id);
        if (at === undefined || !createdAt.delete(row.id)) continue;
        const { id: mqttUser, secret: mqttPassword } = row;
        added.push({ id: row.id, type, mqttUser, mqttPassword, createdAt: at, expiresAt, metadata });
      }
    }
    const details = { type, ...(expiresAt && { expires_at: expiresAt }), ...(metadata && { metadata }) };
    const entries = added.map((device) => ({ action: 'device.add', target: device.id, details }));
    await writeAudit(orm, actor, entries);
    await beforeCommit(added);
  });
  return added;
}

/**
 * Refuses what `addDevices` would, without a database.
 *
 * @throws SvcMqttError INPUT_INVALID.
 */
export function requireAddable({ type, id, count = 1, expiresAt, metadata }: AddRequest): void {
  requireValid('type', checkNewDeviceType(type), type === '' ? 'Give a type' : undefined);
  if (id !== undefined) requireValid('id', checkNewDeviceId(id), id === '' ? 'Give an id' : undefined);
  if (expiresAt !== undefined) requireValid('expires_at', checkExpiry(expiresAt));
  const inMetadata = metadata === undefined ? undefined : checkMetadata(metadata);
  if (inMetadata !== undefined) requireValid(inMetadata.field, inMetadata.problem);
  if (!Number.isInteger(count) || count < 1 || count > maxDevicesPerAdd) {
    throw new SvcMqttError('INPUT_INVALID', `count must be a whole number from 1 to ${maxDevicesPerAdd}`);
  }
  if (id !== undefined && count !== 1) {
    const detail = 'id cannot be given with a count: two devices cannot share an id';
    throw new SvcMqttError('INPUT_INVALID', detail, { suggestion: 'Leave out one of the two' });
  }
}

function deviceExists(id: string): SvcMqttError {
  return new SvcMqttError('DEVICE_EXISTS', `A device with the id ${id} exists already`, {
    suggestion: 'Choose another id, or leave it out to have one generated',
  });
}

const previousIsValid = sql`${devices.previousSecretUntil} > now()`;

/** What of a row may be shown. */
export const shownColumns = {
  id: devices.id,
  type: devices.type,
  createdAt: devices.createdAt,
  updatedAt: devices.updatedAt,
  revokedAt: devices.revokedAt,
  lastSeenAt: devices.lastSeenAt,
  expiresAt: devices.expiresAt,
  metadata: devices.metadata,
  lastSecretUsed: devices.lastSecretUsed,
  previousSecretUntil:
    sql<Date | null>`case when ${previousIsValid} then ${devices.previousSecretUntil} end`.mapWith(
      devices.previousSecretUntil,
    ),
  previousSecretUntilUsed: sql<boolean>`${devices.previousSecretUntilUsed} and ${previousIsValid}`,
};

/** Which devices are wanted. */
export interface DeviceFilter {
  /** What its id begins with. */
  readonly idPrefix?: string | undefined;
  readonly type?: string | undefined;
  readonly state?: DeviceState | undefined;
  /** Entries that the device has among its metadata. */
  readonly metadata?: Metadata | undefined;
}

/**
 * Lists devices in order of id, `limit` at a time.
 *
 * @param request.after the last id of the page before.
 */
export async function listDevices(
  db: Database,
  request: DeviceFilter & { readonly after?: string | undefined; readonly limit: number },
): Promise<Device[]> {
  return await query(db, () =>
    db.orm
      .select(shownColumns)
      .from(devices)
      .where(whereDevices(request))
      .orderBy(devices.id)
      .limit(Math.max(1, Math.min(request.limit, maxDevicesPerPage))),
  );
}

/** What devices can be sorted by, and the SQL type of it. A device that was never seen is the oldest of all. */
const sortKeys = {
  id: { key: sql`${devices.id}`, type: sql`text` },
  type: { key: sql`${devices.type}`, type: sql`text` },
  created: { key: sql`${devices.createdAt}`, type: sql`timestamptz` },
  last_seen: { key: sql`coalesce(${devices.lastSeenAt}, '-infinity')`, type: sql`timestamptz` },
  expires: { key: sql`coalesce(${devices.expiresAt}, 'infinity')`, type: sql`timestamptz` },
};
export type DeviceSort = keyof typeof sortKeys;

/** A device in a sorted list; `sortKey` says where the next page begins. */
export type SortedDevice = Device & { readonly sortKey: string };

/**
 * Lists devices in another order, `limit` at a time; equal ones in order of id. Each page looks through all devices.
 *
 * @param request.after the last device of the page before.
 */
export async function listSortedDevices(
  db: Database,
  request: DeviceFilter & {
    readonly sort: DeviceSort;
    readonly descending: boolean;
    readonly after?: Pick<SortedDevice, 'id' | 'sortKey'> | undefined;
    readonly limit: number;
  },
): Promise<SortedDevice[]> {
  const { sort, descending, after, limit, ...filter } = request;
  const { key, type } = sortKeys[sort];
  const direction = descending ? desc : asc;
  const beyond = descending ? sql`<` : sql`>`;
  return await query(db, () =>
    db.orm
      // As text it keeps the microseconds that a Date has no room for.
      .select({ ...shownColumns, sortKey: sql<string>`${key}::text` })
      .from(devices)
      .where(
        and(
          whereDevices(filter),
          after && sql`(${key}, ${devices.id}) ${beyond} (${after.sortKey}::${type}, ${after.id})`,
        ),
      )
      .orderBy(direction(key), direction(devices.id))
      .limit(Math.max(1, Math.min(limit, maxDevicesPerPage))),
  );
}

/** The condition on the rows that a filter wants, after an id. */
export function whereDevices(filter: DeviceFilter & { readonly after?: string | undefined }) {
  const { idPrefix, type, state = 'active', metadata = {}, after } = filter;
  const expired = lte(devices.expiresAt, sql`now()`);
  return and(
    idPrefix === undefined ? undefined : sql`starts_with(${devices.id}, ${idPrefix})`,
    type === undefined ? undefined : eq(devices.type, type),
    state === 'active'
      ? and(isNull(devices.revokedAt), or(isNull(devices.expiresAt), sql`not ${expired}`))
      : undefined,
    state === 'expired' ? and(isNull(devices.revokedAt), expired) : undefined,
    state === 'revoked' ? isNotNull(devices.revokedAt) : undefined,
    Object.keys(metadata).length === 0
      ? undefined
      : sql`${devices.metadata} @> ${JSON.stringify(metadata)}::jsonb`,
    after === undefined ? undefined : gt(devices.id, after),
  );
}

/**
 * One device, revoked or not, or undefined.
 *
 * @param madeBy only if the API key with this id added it.
 */
export async function findDevice(db: Database, id: string, madeBy?: string): Promise<Device | undefined> {
  if (!isStorable(id)) return undefined;
  const isWanted = and(eq(devices.id, id), madeBy === undefined ? undefined : eq(devices.madeBy, madeBy));
  const rows = await query(db, () => db.orm.select(shownColumns).from(devices).where(isWanted));
  return rows[0];
}
