import {
  createApiKey,
  hasApiKeys,
  listApiKeys,
  loadApiKeys,
  markApiKeyUsed,
  revokeApiKey,
} from '../../db/api-keys.js';
import { type Actor, writeAudit } from '../../db/audit.js';
import { listAudit } from '../../db/audit-log.js';
import type { Database } from '../../db/connection/open.js';
import { query } from '../../db/connection/query.js';
import { createClaim, listClaims, redeemClaim, revokeClaim } from '../../db/devices/claims.js';
import { changePolicy, findPolicy, listPolicies, removePolicy, setPolicy } from '../../db/policies.js';
import type { PolicyRules } from '../../policy.js';
import { bindDeviceQueries, type ReadLedger } from './resources/device-queries.js';

/** What a sound policy allows that should be intended, each as a sentence. */
export type RisksOf = (rules: PolicyRules) => Promise<string[]>;

/**
 * The queries that the API makes, each with the errors of its namesake in `src/db`.
 *
 * @param urgent the database for what every request waits for.
 */
export function bindQueries(
  db: Database,
  urgent: Database,
  { risksOf, readLedger }: { risksOf: RisksOf; readLedger: ReadLedger },
) {
  return {
    devices: bindDeviceQueries(db, readLedger),
    policies: {
      list: bind(db, listPolicies),
      find: bind(db, findPolicy),
      set: bind(db, setPolicy),
      change: bind(db, changePolicy),
      remove: bind(db, removePolicy),
      risksOf,
    },
    claims: {
      create: bind(db, createClaim),
      list: bind(db, listClaims),
      revoke: bind(db, revokeClaim),
      redeem: bind(db, redeemClaim),
    },
    keys: {
      load: bind(urgent, loadApiKeys),
      exist: bind(urgent, hasApiKeys),
      markUsed: bind(db, markApiKeyUsed),
      create: bind(db, createApiKey),
      list: bind(db, listApiKeys),
      revoke: bind(db, revokeApiKey),
    },
    listAudit: bind(db, listAudit),
    noteCommand: (actor: Actor, device: string, details: Readonly<Record<string, unknown>>) =>
      query(db, () => writeAudit(db.orm, actor, [{ action: 'device.command', target: device, details }])),
  };
}

export type Queries = ReturnType<typeof bindQueries>;

function bind<Given extends unknown[], Answer>(
  db: Database,
  ask: (db: Database, ...given: Given) => Answer,
): (...given: Given) => Answer {
  return (...given) => ask(db, ...given);
}
