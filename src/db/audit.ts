import { sql } from 'drizzle-orm';
import type { NodePgDatabase } from 'drizzle-orm/node-postgres';
import { auditLog } from './schema.js';

/** Who makes a change, as the audit log keeps it. */
export interface Actor {
  /** `cli`: a user of this machine; `api-token`: the bootstrap operator; `local`: the API without a token. */
  readonly kind: 'cli' | 'api-key' | 'api-token' | 'local' | 'claim' | 'server';
  /** The key's name, the machine's user, the claim's id. */
  readonly name: string;
  /** The address of the peer's socket; none for a command. */
  readonly address?: string | undefined;
  /** The id of the API key, which no later key of the name has; not in the audit log. */
  readonly keyId?: string | undefined;
}

/** One change: what was done to what. `details` never holds a secret. */
export interface AuditEntry {
  /** `<noun>.<verb>`, such as `device.revoke`. */
  readonly action: string;
  readonly target: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Rows of one INSERT: small enough to stay far below the limit on the time of a query. */
const rowsPerInsert = 5_000;

/** What PostgreSQL's text cannot hold would fail the change, or leave it unnoted where it is done already. */
function toStorable(_key: string, value: unknown): unknown {
  return typeof value === 'string' ? value.replace(/[\0\p{Cs}]/gu, '\ufffd') : value;
}

/** Writes changes to the audit log, in the transaction that makes them: `orm` is the transaction's. */
export async function writeAudit(
  orm: NodePgDatabase,
  actor: Actor,
  entries: readonly AuditEntry[],
): Promise<void> {
  for (let at = 0; at < entries.length; at += rowsPerInsert) {
    const batch = entries.slice(at, at + rowsPerInsert);
    const json = JSON.stringify(
      batch.map(({ action, target, details = {} }) => ({ action, target, details })),
      toStorable,
    );
    // One parameter for all rows: a fleet that is imported has an entry for each device.
    await orm.execute(sql`
      insert into ${auditLog} (actor_kind, actor, address, action, target, details)
      select ${actor.kind}::text, ${actor.name}::text, ${actor.address ?? null}::text, action, target, details
      from json_to_recordset(${json}::json) as entry (action text, target text, details jsonb)`);
  }
}
