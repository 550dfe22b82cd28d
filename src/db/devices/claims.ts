import { and, eq, gt, sql } from 'drizzle-orm';
import { SvcMqttError } from '../../errors.js';
import { checkLifetime } from '../api-keys.js';
import { type Actor, writeAudit } from '../audit.js';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { inTransaction } from '../connection/transaction.js';
import { claims } from '../schema.js';
import { generateId, generateSecret, matchesHash } from '../secrets.js';
import { checkMetadata, checkNewDeviceType, type Metadata } from './device-fields.js';
import { insertDevices } from './device-insert.js';
import type { NewDevice } from './devices.js';

/** `active`: it can still make a device. */
export type ClaimState = 'active' | 'spent' | 'expired' | 'revoked';

/** A claim as it may be shown: never its secret, hash or salt. */
export interface Claim {
  readonly id: string;
  readonly type: string;
  readonly state: ClaimState;
  /** Devices that it can make in all. */
  readonly uses: number;
  readonly usesLeft: number;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly revokedAt: Date | null;
}

/** A claim just made, with the text that devices show: the only time that it exists outside of them. */
export interface NewClaim extends Claim {
  readonly claim: string;
}

export const maxClaimUses = 1_000_000;
/** Most claims that one page of `listClaims` holds. */
const maxClaimsPerPage = 10_000;

/** A prefix that scanners for secrets can look for, the id to look it up by, and a secret of 160 bits. */
const claimPattern = /^svcmqttclaim_([a-z2-7]{16})_([a-z2-7]{32})$/;
/** What is compared when there is no claim, so that the answer takes as long. */
const noClaim = { secretHash: Buffer.alloc(32), secretSalt: Buffer.alloc(16) };

const isActive = sql`${claims.revokedAt} is null and ${claims.expiresAt} > now() and ${claims.usesLeft} > 0`;

const shownColumns = {
  id: claims.id,
  type: claims.deviceType,
  state: sql<ClaimState>`case when ${claims.revokedAt} is not null then 'revoked' when ${claims.expiresAt} <= now() then 'expired' when ${claims.usesLeft} = 0 then 'spent' else 'active' end`,
  uses: claims.uses,
  usesLeft: claims.usesLeft,
  createdAt: claims.createdAt,
  expiresAt: claims.expiresAt,
  revokedAt: claims.revokedAt,
};

/**
 * Makes a claim, by which `uses` devices of a type can add themselves until it expires.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function createClaim(
  db: Database,
  actor: Actor,
  request: { readonly type: string; readonly uses: number; readonly expiresAt: Date },
): Promise<NewClaim> {
  const { type, uses, expiresAt } = request;
  const expiryProblem = checkLifetime(expiresAt);
  const typeProblem = checkNewDeviceType(type);
  if (typeProblem !== undefined) throw new SvcMqttError('INPUT_INVALID', `type ${typeProblem}`);
  if (!Number.isInteger(uses) || uses < 1 || uses > maxClaimUses) {
    throw new SvcMqttError('INPUT_INVALID', `uses must be a whole number from 1 to ${maxClaimUses}`);
  }
  if (expiryProblem !== undefined) throw new SvcMqttError('INPUT_INVALID', `expires_at ${expiryProblem}`);
  const { id, secret, hash, salt } = generateSecret(generateId());
  return await inTransaction(db, async (orm) => {
    const [claim] = await orm
      .insert(claims)
      .values({ id, deviceType: type, secretHash: hash, secretSalt: salt, uses, usesLeft: uses, expiresAt })
      .returning(shownColumns);
    if (claim === undefined) throw new SvcMqttError('INTERNAL', 'Making a claim made none');
    const details = { type, uses, expires_at: expiresAt.toISOString() };
    await writeAudit(orm, actor, [{ action: 'claim.create', target: id, details }]);
    return { ...claim, claim: `svcmqttclaim_${id}_${secret}` };
  });
}

/**
 * Lists claims in order of id.
 *
 * @param request.after the last id of the page before.
 */
export async function listClaims(
  db: Database,
  request: { readonly state: 'active' | 'all'; readonly after?: string | undefined; readonly limit: number },
): Promise<Claim[]> {
  const { state, after, limit } = request;
  return await query(db, () =>
    db.orm
      .select(shownColumns)
      .from(claims)
      .where(
        and(
          state === 'active' ? isActive : undefined,
          after === undefined ? undefined : gt(claims.id, after),
        ),
      )
      .orderBy(claims.id)
      .limit(Math.max(1, Math.min(limit, maxClaimsPerPage))),
  );
}

/** Revokes a claim for good; devices that it has made stay. Revoking a revoked claim changes nothing. */
export async function revokeClaim(
  db: Database,
  actor: Actor,
  id: string,
): Promise<'revoked' | 'already revoked' | 'unknown'> {
  if (id.includes('\0')) return 'unknown';
  return await inTransaction(db, async (orm) => {
    const [claim] = await orm
      .select({ revokedAt: claims.revokedAt })
      .from(claims)
      .where(eq(claims.id, id))
      .for('update');
    if (claim === undefined) return 'unknown';
    if (claim.revokedAt !== null) return 'already revoked';
    await orm.update(claims).set({ revokedAt: sql`clock_timestamp()` }).where(eq(claims.id, id));
    await writeAudit(orm, actor, [{ action: 'claim.revoke', target: id }]);
    return 'revoked';
  });
}

/**
 * Makes a device by a claim: the use is taken and the device added in one transaction.
 *
 * Who does not show a claim's whole text learns nothing of it: the same error, after the same work, whether there is a
 * claim with the id or not.
 *
 * @param request.address the address of the peer's socket, for the audit log.
 * @throws SvcMqttError CLAIM_NOT_FOUND; CLAIM_GONE when it is spent, expired or revoked; INPUT_INVALID; DATABASE_*.
 */
export async function redeemClaim(
  db: Database,
  request: {
    readonly claim: string;
    readonly metadata?: Metadata | undefined;
    readonly address?: string | undefined;
  },
): Promise<NewDevice> {
  const { metadata, address } = request;
  const inMetadata = metadata === undefined ? undefined : checkMetadata(metadata);
  if (inMetadata !== undefined) {
    throw new SvcMqttError('INPUT_INVALID', `${inMetadata.field} ${inMetadata.problem}`);
  }
  const { id, active } = await requireClaim(db, request.claim);
  if (!active) throw claimGone();
  return await inTransaction(db, async (orm) => {
    // The row stays locked until the end of the transaction: no two take the same use.
    const [taken] = await orm
      .update(claims)
      .set({ usesLeft: sql`${claims.usesLeft} - 1` })
      .where(and(eq(claims.id, id), isActive))
      .returning({ type: claims.deviceType });
    if (taken === undefined) throw claimGone();
    const { type } = taken;
    const { id: deviceId, secret, hash, salt } = generateSecret(generateId());
    const row = { id: deviceId, type, secretHash: hash, secretSalt: salt, metadata };
    const createdAt = (await insertDevices(orm, [row])).get(deviceId);
    if (createdAt === undefined) throw new SvcMqttError('INTERNAL', 'A generated id was taken');
    const details = { type, claim: id, ...(metadata && { metadata }) };
    const entry = { action: 'device.add', target: deviceId, details };
    await writeAudit(orm, { kind: 'claim', name: id, address }, [entry]);
    const names = { id: deviceId, type, mqttUser: deviceId, mqttPassword: secret };
    return { ...names, createdAt, expiresAt: undefined, metadata };
  });
}

/** The id of the claim whose whole text was shown, and whether it was active just now. */
async function requireClaim(db: Database, text: string): Promise<{ id: string; active: boolean }> {
  const [, id, secret] = claimPattern.exec(text) ?? [];
  if (id === undefined || secret === undefined) throw claimNotFound();
  const [claim] = await query(db, () =>
    db.orm
      .select({
        secretHash: claims.secretHash,
        secretSalt: claims.secretSalt,
        active: sql<boolean>`${isActive}`,
      })
      .from(claims)
      .where(eq(claims.id, id)),
  );
  const { secretHash, secretSalt } = claim ?? noClaim;
  const matches = matchesHash(Buffer.from(secret), secretHash, secretSalt);
  if (claim === undefined || !matches) throw claimNotFound();
  return { id, active: claim.active };
}

function claimNotFound(): SvcMqttError {
  return new SvcMqttError('CLAIM_NOT_FOUND', 'There is no such claim', {
    suggestion: 'Show it whole, as it was given out',
  });
}

function claimGone(): SvcMqttError {
  return new SvcMqttError('CLAIM_GONE', 'The claim makes no device any more', {
    suggestion: 'Ask an operator for another one',
  });
}
