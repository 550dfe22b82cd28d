import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  customType,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import type { AckLevel } from '../ack-level.js';
import type { RefusalRule } from '../policy.js';

const bytea = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
const xid8 = customType<{ data: string }>({ dataType: () => 'xid8' });
const timestamptz = customType<{ data: Date; driverData: string }>({
  dataType: () => 'timestamp with time zone',
  fromDriver: toDate,
  toDriver: (value) => value.toISOString(),
});

/** What RFC 3339, and so the API, can say. */
const earliestMs = Date.parse('0001-01-01T00:00:00Z');
const latestMs = Date.parse('9999-12-31T23:59:59.999Z');

/** As PostgreSQL writes it with DateStyle ISO; where clocks went by the sun its offset has seconds. */
const isoTime = /^(\d{4,6})(-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(:\d\d)?(?::\d\d)?$/;

/**
 * Reads a time as PostgreSQL writes it. SQL may write times that nothing else knows, `infinity` among them: they are as early,
 * or as late, as can be.
 *
 * @throws Error when it is in another form: to take it for a time that it is not would let devices in for longer.
 */
export function toDate(text: string): Date {
  if (/^-infinity$| BC$/.test(text)) return new Date(earliestMs);
  if (text === 'infinity') return new Date(latestMs);
  const match = isoTime.exec(text);
  if (match === null) throw new Error('The database writes times in another form than ISO 8601 (DateStyle)');
  const [, year = '', day = '', time = '', hours = '', minutes = ':00'] = match;
  const ms = year.length > 4 ? latestMs : Date.parse(`${year}${day}T${time}${hours}${minutes}`);
  return new Date(Math.min(Math.max(ms, earliestMs), latestMs));
}

/**
 * The devices. Triggers (see the migrations) set `updated_at` when anything but `last_seen_at` and
 * `last_secret_used` changes, and write to `device_changes` and notify the channel `devices_changed` when a device's id,
 * type, secrets, expiry or revocation change, whoever changes them.
 *
 * While a secret is being rotated the one before is in `previous_secret_*`: valid until `previous_secret_until`, or,
 * with `previous_secret_until_used`, until the new one has been used, whichever is first. It stays there when it has ended.
 */
export const devices = pgTable(
  'devices',
  {
    id: text('id').primaryKey(),
    type: text('type').notNull(),
    secretHash: bytea('secret_hash').notNull(),
    secretSalt: bytea('secret_salt').notNull(),
    createdAt: timestamptz('created_at').notNull().default(sql`now()`),
    updatedAt: timestamptz('updated_at').notNull().default(sql`now()`),
    revokedAt: timestamptz('revoked_at'),
    lastSeenAt: timestamptz('last_seen_at'),
    expiresAt: timestamptz('expires_at'),
    metadata: jsonb('metadata').$type<Record<string, string>>().notNull().default({}),
    previousSecretHash: bytea('previous_secret_hash'),
    previousSecretSalt: bytea('previous_secret_salt'),
    previousSecretUntil: timestamptz('previous_secret_until'),
    previousSecretUntilUsed: boolean('previous_secret_until_used').notNull().default(false),
    lastSecretUsed: text('last_secret_used').$type<'current' | 'previous'>(),
    /** The id of the API key that added it; null: it was added otherwise. */
    madeBy: text('made_by'),
  },
  (table) => [
    index('devices_metadata_idx').using('gin', sql`${table.metadata} jsonb_path_ops`),
    check(
      'devices_previous_secret_check',
      sql`(${table.previousSecretHash} is null) = (${table.previousSecretSalt} is null)
        and (${table.previousSecretHash} is null) = (${table.previousSecretUntil} is null)`,
    ),
    check('devices_metadata_check', sql`jsonb_typeof(${table.metadata}) = 'object'`),
    check('devices_last_secret_used_check', sql`${table.lastSecretUsed} in ('current', 'previous')`),
    index('devices_revoked_idx').on(table.id).where(sql`${table.revokedAt} is not null`),
    index('devices_expires_idx').on(table.id).where(sql`${table.expiresAt} is not null`),
    index('devices_type_id_idx').on(table.type, table.id),
    check('devices_id_check', sql`length(${table.id}) between 1 and 128`),
    check('devices_type_check', sql`length(${table.type}) between 1 and 128`),
    check('devices_secret_hash_check', sql`octet_length(${table.secretHash}) = 32`),
    check('devices_secret_salt_check', sql`octet_length(${table.secretSalt}) between 16 and 64`),
  ],
);

/**
 * Which devices each transaction of the last minutes changed or deleted, for those who follow changes by asking. An
 * empty id stands for all devices. The triggers of `devices` write it; see `change-log.ts`.
 */
export const deviceChanges = pgTable(
  'device_changes',
  {
    xid: xid8('xid').notNull().default(sql`pg_current_xact_id()`),
    deviceId: text('device_id').notNull(),
  },
  (table) => [primaryKey({ columns: [table.xid, table.deviceId] })],
);

/**
 * Which of the other tables that replicas follow, `policies` and `api_keys`, each transaction of the last minutes changed.
 * Their triggers write it and notify the channel `policies_changed` or `api_keys_changed`.
 */
export const tableChanges = pgTable(
  'table_changes',
  {
    xid: xid8('xid').notNull().default(sql`pg_current_xact_id()`),
    tableName: text('table_name').notNull(),
  },
  (table) => [primaryKey({ columns: [table.xid, table.tableName] })],
);

/** What devices of a type may do, where it differs from the default. */
export const policies = pgTable(
  'policies',
  {
    deviceType: text('device_type').primaryKey(),
    /** Topic filters with `{id}` and `{type}`. */
    publish: text('publish').array().notNull(),
    subscribe: text('subscribe').array().notNull(),
    /** Messages per second of one device; null: the server's setting. */
    publishRate: integer('publish_rate'),
    maxPacketBytes: integer('max_packet_bytes'),
    /** With `{id}`, `{type}` and `{topic}`; null: the server's setting. */
    natsSubject: text('nats_subject'),
    /** What an acknowledgement is to be worth; null: the server's setting. */
    ackLevel: text('ack_level').$type<AckLevel>(),
    /** What a client that can be told learns of a message that NATS refuses; null: nothing. */
    onRefusal: text('on_refusal').$type<RefusalRule>(),
    /** PUBACK tells where a message is stored; null: where the client asks for it. */
    receipts: boolean('receipts'),
    createdAt: timestamptz('created_at').notNull().default(sql`now()`),
    updatedAt: timestamptz('updated_at').notNull().default(sql`now()`),
  },
  (table) => [
    check('policies_device_type_check', sql`length(${table.deviceType}) between 1 and 128`),
    check('policies_publish_rate_check', sql`${table.publishRate} > 0`),
    check('policies_max_packet_bytes_check', sql`${table.maxPacketBytes} > 0`),
    check('policies_ack_level_check', sql`${table.ackLevel} in ('stored', 'replicated', 'synced')`),
    check('policies_on_refusal_check', sql`${table.onRefusal} in ('withhold', 'answer')`),
  ],
);

/** Claims: each lets a number of devices provision themselves. */
export const claims = pgTable(
  'claims',
  {
    id: text('id').primaryKey(),
    deviceType: text('device_type').notNull(),
    secretHash: bytea('secret_hash').notNull(),
    secretSalt: bytea('secret_salt').notNull(),
    uses: integer('uses').notNull(),
    usesLeft: integer('uses_left').notNull(),
    createdAt: timestamptz('created_at').notNull().default(sql`now()`),
    expiresAt: timestamptz('expires_at').notNull(),
    revokedAt: timestamptz('revoked_at'),
  },
  (table) => [
    check('claims_device_type_check', sql`length(${table.deviceType}) between 1 and 128`),
    check('claims_uses_check', sql`${table.uses} > 0 and ${table.usesLeft} between 0 and ${table.uses}`),
  ],
);

/** Keys of the HTTP API. */
export const apiKeys = pgTable(
  'api_keys',
  {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    role: text('role').$type<'enroller' | 'viewer' | 'provisioner' | 'operator'>().notNull(),
    secretHash: bytea('secret_hash').notNull(),
    secretSalt: bytea('secret_salt').notNull(),
    createdAt: timestamptz('created_at').notNull().default(sql`now()`),
    expiresAt: timestamptz('expires_at'),
    revokedAt: timestamptz('revoked_at'),
    lastUsedAt: timestamptz('last_used_at'),
  },
  (table) => [
    // The name of a revoked key may be given to its successor.
    uniqueIndex('api_keys_name_idx').on(table.name).where(sql`${table.revokedAt} is null`),
    check('api_keys_name_check', sql`length(${table.name}) between 1 and 128`),
    check('api_keys_role_check', sql`${table.role} in ('enroller', 'viewer', 'provisioner', 'operator')`),
  ],
);

/** Who changed what, written in the transaction of the change. */
export const auditLog = pgTable(
  'audit_log',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    at: timestamptz('at').notNull().default(sql`now()`),
    actorKind: text('actor_kind').notNull(),
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    /** A device's id, a device type, a key's name, a claim's id: what the action is about. */
    target: text('target').notNull(),
    address: text('address'),
    details: jsonb('details').$type<Record<string, unknown>>().notNull().default({}),
    /** The transaction of the change; null: it was made before this was kept. */
    xid: xid8('xid').default(sql`pg_current_xact_id()`),
  },
  (table) => [
    index('audit_log_xid_idx').on(table.xid).where(sql`${table.xid} is not null`),
    index('audit_log_target_idx').on(table.target, table.id),
    index('audit_log_at_idx').on(table.at, table.id),
  ],
);

/**
 * What has become of the messages of each device, added to by every replica about once a minute. A trigger of `devices` removes the
 * row with its device.
 */
export const deviceLedger = pgTable('device_ledger', {
  deviceId: text('device_id').primaryKey(),
  received: bigint('received', { mode: 'number' }).notNull().default(0),
  stored: bigint('stored', { mode: 'number' }).notNull().default(0),
  refused: bigint('refused', { mode: 'number' }).notNull().default(0),
  delivered: bigint('delivered', { mode: 'number' }).notNull().default(0),
  lastRefusedAt: timestamptz('last_refused_at'),
  lastRefusedReason: text('last_refused_reason'),
  lastStream: text('last_stream'),
  lastSequence: bigint('last_sequence', { mode: 'number' }),
  firstSeenAt: timestamptz('first_seen_at').notNull().default(sql`now()`),
  lastAddress: text('last_address'),
});

/** Up to where services have been told of the life of devices (DEVICE_EVENTS): one row, which whoever tells them locks. */
export const eventCursor = pgTable(
  'event_cursor',
  {
    only: boolean('only').primaryKey().default(true),
    /** Which transactions had ended: `pg_snapshot` as text. */
    snapshot: text('snapshot').notNull(),
  },
  (table) => [check('event_cursor_only_check', sql`${table.only}`)],
);
