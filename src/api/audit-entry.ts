import type { Static } from 'typebox';
import type { AuditRecord } from '../db/audit-log.js';
import type * as schema from './audit-entry-schema.js';

export type AuditJson = Static<typeof schema.AuditEntry>;
export type AuditPageJson = Static<typeof schema.AuditPage>;

export function toAuditJson(record: AuditRecord): AuditJson {
  return {
    id: record.id,
    at: record.at.toISOString(),
    actor_kind: record.actorKind,
    actor: record.actor,
    address: record.address,
    action: record.action,
    target: record.target,
    details: record.details,
  };
}
