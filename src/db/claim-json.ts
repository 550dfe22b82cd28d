import type { Claim, ClaimState, NewClaim } from './claims.js';

/** The one form in which machines get claims, from the HTTP API and from `--json` alike. */
export interface ClaimJson {
  readonly id: string;
  readonly type: string;
  readonly state: ClaimState;
  readonly uses: number;
  readonly uses_left: number;
  readonly created_at: string;
  readonly expires_at: string;
  readonly revoked_at: string | null;
}

/** A claim just made, with its text. */
export interface NewClaimJson extends ClaimJson {
  readonly claim: string;
}

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
