import { isDeepStrictEqual } from 'node:util';
import { eq, getTableColumns, gt, sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { SvcMqttError } from '../errors.js';
import { checkPolicy, defaultRules, type PolicyRules, toRulesJson } from '../policy.js';
import { type Actor, writeAudit } from './audit.js';
import type { Database } from './connection/open.js';
import { query } from './connection/query.js';
import { inTransaction } from './connection/transaction.js';
import { checkDeviceType } from './devices/device-fields.js';
import { policies } from './schema.js';
import { checkHoldsNoKey } from './secrets.js';

/** What the devices of one type may do. A type without a policy has the server's default. */
export interface DevicePolicy extends PolicyRules {
  readonly type: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Most policies: every replica keeps all of them. */
export const maxPolicies = 10_000;

const { deviceType, ...otherColumns } = getTableColumns(policies);
const columns = { type: deviceType, ...otherColumns };

/**
 * Lists policies in order of type.
 *
 * @param request.after the last type of the page before.
 * @param request.limit default: all of them.
 */
export async function listPolicies(
  db: Database,
  request: { after?: string | undefined; limit?: number } = {},
): Promise<DevicePolicy[]> {
  const { after, limit = maxPolicies } = request;
  return await query(db, () =>
    db.orm
      .select(columns)
      .from(policies)
      .where(after === undefined ? undefined : gt(policies.deviceType, after))
      .orderBy(policies.deviceType)
      .limit(Math.max(1, Math.min(limit, maxPolicies))),
  );
}

/**
 * All policies, for a replica to keep. Rather than some it gives none: a type left out would have the default.
 *
 * @throws SvcMqttError INPUT_INVALID when there are more than `maxPolicies`, put there by hand; DATABASE_*.
 */
export async function loadPolicies(db: Database): Promise<DevicePolicy[]> {
  const loaded = await query(db, () =>
    db.orm
      .select(columns)
      .from(policies)
      .limit(maxPolicies + 1),
  );
  if (loaded.length <= maxPolicies) return loaded;
  throw new SvcMqttError('INPUT_INVALID', `There are more than ${maxPolicies} policies in the database`, {
    suggestion: 'Remove those that no device needs',
  });
}

/** The policy of a type, or undefined when it has none. */
export async function findPolicy(db: Database, type: string): Promise<DevicePolicy | undefined> {
  if (checkDeviceType(type) !== undefined) return undefined;
  const rows = await query(db, () =>
    db.orm.select(columns).from(policies).where(eq(policies.deviceType, type)),
  );
  return rows[0];
}

/**
 * Sets the policy of a type, whole: nothing of an earlier one is kept.
 *
 * @throws SvcMqttError INPUT_INVALID naming every fault, or at `maxPolicies`; DATABASE_*.
 */
export async function setPolicy(
  db: Database,
  actor: Actor,
  request: PolicyRules & { readonly type: string },
): Promise<DevicePolicy> {
  const { type, ...rules } = request;
  requireSound(type, rules);
  return await inTransaction(db, async (orm) => {
    await lockPolicies(orm);
    return storePolicy(orm, actor, type, rules);
  });
}

/** A policy before and after a change. */
export interface PolicyChange {
  /** Undefined: the type had none, and so the default. */
  readonly before: DevicePolicy | undefined;
  readonly after: DevicePolicy;
}

/**
 * Changes some fields of the policy of a type, and keeps the others as they are by then; a type without a policy is
 * given one that differs from the default in these fields. What changes nothing is not written.
 *
 * @throws SvcMqttError INPUT_INVALID naming every fault, or at `maxPolicies`; DATABASE_*.
 */
export async function changePolicy(
  db: Database,
  actor: Actor,
  type: string,
  changes: Partial<PolicyRules>,
): Promise<PolicyChange> {
  requireSound(type, { ...defaultRules, ...changes });
  return await inTransaction(db, async (orm) => {
    await lockPolicies(orm);
    const [before] = await orm.select(columns).from(policies).where(eq(policies.deviceType, type));
    const rules = { ...rulesOf(before ?? defaultRules), ...changes };
    if (before !== undefined && isDeepStrictEqual(rulesOf(before), rules)) return { before, after: before };
    // What is kept may have been written by hand.
    requireSound(type, rules);
    return { before, after: await storePolicy(orm, actor, type, rules) };
  });
}

function rulesOf(rules: PolicyRules): PolicyRules {
  const { publish, subscribe, publishRate, maxPacketBytes, natsSubject } = rules;
  const { ackLevel, onRefusal, receipts } = rules;
  return { publish, subscribe, publishRate, maxPacketBytes, natsSubject, ackLevel, onRefusal, receipts };
}

function requireSound(type: string, rules: PolicyRules): void {
  const typeProblem = checkDeviceType(type) ?? checkHoldsNoKey(type);
  const faults = checkPolicy(rules).map(({ field, problem }) => `${field} ${problem}`);
  if (typeProblem !== undefined) faults.unshift(`type ${typeProblem}`);
  if (faults.length > 0) throw new SvcMqttError('INPUT_INVALID', faults.join('; '));
}

/** Two additions at once would pass the bound, and of two changes at once one would be lost; there are few. */
async function lockPolicies(orm: NodePgDatabase): Promise<void> {
  await orm.execute(sql`lock table ${policies} in share row exclusive mode`);
}

/** Writes a policy with its audit entry, under the lock. */
async function storePolicy(
  orm: NodePgDatabase,
  actor: Actor,
  type: string,
  rules: PolicyRules,
): Promise<DevicePolicy> {
  const values = { ...rules, publish: [...rules.publish], subscribe: [...rules.subscribe] };
  const [stored] = await orm
    .insert(policies)
    .values({ deviceType: type, ...values })
    .onConflictDoUpdate({ target: policies.deviceType, set: values })
    .returning(columns);
  if (stored === undefined) throw new SvcMqttError('INTERNAL', 'Setting a policy answered none');
  if ((await orm.$count(policies)) > maxPolicies) {
    throw new SvcMqttError('INPUT_INVALID', `There are ${maxPolicies} policies already`, {
      suggestion: 'Remove one that no device needs',
    });
  }
  await writeAudit(orm, actor, [{ action: 'policy.set', target: type, details: toRulesJson(stored) }]);
  return stored;
}

/** Removes the policy of a type, which then has the default; answers whether there was one. */
export async function removePolicy(db: Database, actor: Actor, type: string): Promise<boolean> {
  if (checkDeviceType(type) !== undefined) return false;
  return await inTransaction(db, async (orm) => {
    const removed = await orm.delete(policies).where(eq(policies.deviceType, type)).returning({
      type: policies.deviceType,
    });
    if (removed.length === 0) return false;
    await writeAudit(orm, actor, [{ action: 'policy.remove', target: type }]);
    return true;
  });
}
