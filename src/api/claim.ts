import type { Static } from 'typebox';
import type { Claim, NewClaim } from '../db/devices/claims.js';
import type * as schema from './claim-schema.js';

export type ClaimJson = Static<typeof schema.ClaimResponse>;
export type ClaimPageJson = Static<typeof schema.ClaimPage>;
/** A claim just made, with its text. */
export type NewClaimJson = Static<typeof schema.NewClaimResponse>;

export function toClaimJson(claim: Claim): ClaimJson {
  return {
    id: claim.id,
    type: claim.type,
    state: claim.state,
    uses: claim.uses,
    uses_left: claim.usesLeft,
    created_at: claim.createdAt.toISOString(),
    expires_at: claim.expiresAt.toISOString(),
    revoked_at: claim.revokedAt?.toISOString() ?? null,
  };
}

export function toNewClaimJson(claim: NewClaim): NewClaimJson {
  return { ...toClaimJson(claim), claim: claim.claim };
}
