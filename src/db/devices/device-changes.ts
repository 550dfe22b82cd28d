import { eq, sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { inTransaction } from '../connection/transaction.js';
import { devices } from '../schema.js';
import { generateSecret } from '../secrets.js';
import {
  checkExpiry,
  checkMetadata,
  checkMetadataKey,
  isStorable,
  type Metadata,
  maxGraceMs,
  requireValid,
} from './device-fields.js';
import { type Device, shownColumns } from './devices.js';

/** What of a device shall be otherwise; what is left out stays. */
export interface DeviceChanges {
  /** null: it never expires. */
  readonly expiresAt?: Date | null | undefined;
  /** Metadata by key; null removes an entry. */
  readonly metadata?: Readonly<Record<string, string | null>> | undefined;
}

/**
 * Changes a device's expiry and metadata.
 *
 * @returns the device as it is now, or undefined when there is none.
 * @throws SvcMqttError INPUT_INVALID.
 */
export async function setDevice(
  db: Database,
  actor: Actor,
  id: string,
  changes: DeviceChanges,
): Promise<Device | undefined> {
  const { expiresAt, metadata = {} } = changes;
  if (expiresAt !== undefined && expiresAt !== null) requireValid('expires_at', checkExpiry(expiresAt));
  for (const key of Object.keys(metadata)) {
    const problem = checkMetadataKey(key);
    if (problem !== undefined) requireValid(`metadata.${key.slice(0, 64)}`, `has a key that ${problem}`);
  }
  if (!isStorable(id)) return undefined;
  return await inTransaction(db, async (orm) => {
    const before = await lockDevice(orm, id);
    if (before === undefined) return undefined;
    const merged = mergeMetadata(before.metadata, metadata);
    // What SQL has written there is of no concern to who changes something else.
    const inMetadata = Object.keys(metadata).length === 0 ? undefined : checkMetadata(merged);
    if (inMetadata !== undefined) requireValid(inMetadata.field, inMetadata.problem);
    const expiry = expiresAt === undefined ? before.expiresAt : expiresAt;
    const sameMetadata = JSON.stringify(merged) === JSON.stringify(mergeMetadata(before.metadata, {}));
    if (sameMetadata && expiry?.getTime() === before.expiresAt?.getTime()) return before;
    const [after] = await orm
      .update(devices)
      .set({ expiresAt: expiry, ...(sameMetadata ? {} : { metadata: merged }) })
      .where(eq(devices.id, id))
      .returning(shownColumns);
    const details = {
      ...(expiresAt === undefined ? {} : { expires_at: expiresAt }),
      ...(sameMetadata ? {} : { metadata }),
    };
    await writeAudit(orm, actor, [{ action: 'device.set', target: id, details }]);
    return after;
  });
}

async function lockDevice(orm: NodePgDatabase, id: string): Promise<Device | undefined> {
  const [row] = await orm.select(shownColumns).from(devices).where(eq(devices.id, id)).for('update');
  return row;
}

/** The entries in order of their keys, so that equal metadata is equal text. */
function mergeMetadata(before: Metadata, changes: Readonly<Record<string, string | null>>): Metadata {
  const merged = new Map<string, string | null>([...Object.entries(before), ...Object.entries(changes)]);
  const kept = [...merged].filter((entry): entry is [string, string] => entry[1] !== null);
  return Object.fromEntries(kept.sort(([one], [other]) => (one < other ? -1 : 1)));
}

export interface Rotation {
  /** How long the secret until now stays valid; left out: it ends at once. */
  readonly graceMs?: number | undefined;
  /** The secret until now ends already when the new one has been used. */
  readonly untilUsed?: boolean | undefined;
}

/** A device's new secret in clear: the only time that it exists outside the device. */
export interface RotatedDevice {
  readonly id: string;
  readonly type: string;
  readonly mqttUser: string;
  readonly mqttPassword: string;
  /** Until when the secret before is valid; null: it has ended. */
  readonly previousSecretUntil: Date | null;
  readonly previousSecretUntilUsed: boolean;
}

/**
 * Gives a device a new secret. With a grace the one before stays valid beside it. A second rotation within the grace
 * of the first, made before the device has used its new secret, replaces that one, and the secret that the device
 * has stays valid: otherwise a lost new secret could not be replaced without locking the device out.
 *
 * @returns undefined when there is no such device.
 * @throws SvcMqttError INPUT_INVALID.
 */
export async function rotateSecret(
  db: Database,
  actor: Actor,
  id: string,
  request: Rotation = {},
): Promise<RotatedDevice | undefined> {
  const { graceMs, untilUsed = false } = request;
  if (graceMs !== undefined && !(graceMs >= 1_000 && graceMs <= maxGraceMs)) {
    requireValid('grace', 'must be from 1 second to 365 days');
  }
  if (untilUsed && graceMs === undefined) {
    requireValid('until_used', 'needs a grace: how long the secret before stays valid at most');
  }
  if (!isStorable(id)) return undefined;
  const { secret, hash, salt } = generateSecret(id);
  return await inTransaction(db, async (orm) => {
    const before = await lockDevice(orm, id);
    if (before === undefined) return undefined;
    const keepsPrevious = before.previousSecretUntil !== null && before.lastSecretUsed !== 'current';
    const until = sql`clock_timestamp() + ${graceMs ?? 0} * interval '1 millisecond'`;
    const [after] = await orm
      .update(devices)
      .set({
        secretHash: hash,
        secretSalt: salt,
        ...(graceMs === undefined
          ? { previousSecretHash: null, previousSecretSalt: null, previousSecretUntil: null }
          : {
              previousSecretHash: keepsPrevious ? devices.previousSecretHash : devices.secretHash,
              previousSecretSalt: keepsPrevious ? devices.previousSecretSalt : devices.secretSalt,
              previousSecretUntil: until,
            }),
        previousSecretUntilUsed: graceMs !== undefined && untilUsed,
        lastSecretUsed: lastUsedAfter(before, graceMs !== undefined, keepsPrevious),
      })
      .where(eq(devices.id, id))
      .returning(shownColumns);
    if (after === undefined) return undefined;
    const { type, previousSecretUntil, previousSecretUntilUsed } = after;
    const details = {
      previous_secret_until: previousSecretUntil,
      previous_secret_until_used: previousSecretUntilUsed,
    };
    await writeAudit(orm, actor, [{ action: 'device.rotate', target: id, details }]);
    return { id, type, mqttUser: id, mqttPassword: secret, previousSecretUntil, previousSecretUntilUsed };
  });
}

/** What `last_secret_used` says once the secrets have moved. */
function lastUsedAfter(before: Device, withGrace: boolean, keepsPrevious: boolean): 'previous' | null {
  if (!withGrace) return null;
  const usesKept = before.lastSecretUsed === (keepsPrevious ? 'previous' : 'current');
  return usesKept ? 'previous' : null;
}
