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
}

/** One change: what was done to what. `details` never holds a secret. */
export interface AuditEntry {
  /** `<noun>.<verb>`, such as `device.revoke`. */
  readonly action: string;
  readonly target: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Rows of one INSERT, far below PostgreSQL's limit on parameters. */
const rowsPerInsert = 5_000;

/** Writes changes to the audit log, in the transaction that makes them: `orm` is the transaction's. */
export async function writeAudit(
  orm: NodePgDatabase,
  actor: Actor,
  entries: readonly AuditEntry[],
): Promise<void> {
  for (let at = 0; at < entries.length; at += rowsPerInsert) {
    await orm.insert(auditLog).values(
      entries.slice(at, at + rowsPerInsert).map((entry) => ({
        actorKind: actor.kind,
        actor: actor.name,
        address: actor.address ?? null,
        action: entry.action,
        target: entry.target,
        details: entry.details ?? {},
      })),
    );
  }
}
