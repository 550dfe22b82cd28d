import { sql } from 'drizzle-orm';
import { check, customType, index, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

const bytea = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => 'bytea' });
const timestamptz = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });

/**
 * The devices. Triggers (see the migrations) set `updated_at` and notify the channel `devices_changed` when a
 * device's id, type, secret or revocation changes, whoever changes it; `last_seen_at` alone changes neither.
 */
export const devices = pgTable(
  'devices',
  {
    id: text('id').primaryKey(),
    type: text('type').notNull(),
    secretHash: bytea('secret_hash').notNull(),
    secretSalt: bytea('secret_salt').notNull(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
    revokedAt: timestamptz('revoked_at'),
    lastSeenAt: timestamptz('last_seen_at'),
  },
  (table) => [
    index('devices_type_id_idx').on(table.type, table.id),
    index('devices_updated_at_idx').on(table.updatedAt, table.id),
    check('devices_id_check', sql`length(${table.id}) between 1 and 128`),
    check('devices_type_check', sql`length(${table.type}) between 1 and 128`),
    check('devices_secret_hash_check', sql`octet_length(${table.secretHash}) = 32`),
    check('devices_secret_salt_check', sql`octet_length(${table.secretSalt}) between 16 and 64`),
  ],
);
