import { and, desc, eq, getTableColumns, gte, like, lt, or, sql } from 'drizzle-orm';
import type { Database } from './connection/open.js';
import { query } from './connection/query.js';
import { auditLog } from './schema.js';

/** One change as the audit log keeps it. */
export interface AuditRecord {
  readonly id: number;
  readonly at: Date;
  readonly actorKind: string;
  readonly actor: string;
  readonly address: string | null;
  readonly action: string;
  readonly target: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** A record as it may be shown. */
const { xid: _, ...shownColumns } = getTableColumns(auditLog);

/** Most records that one page of `listAudit` holds. */
const maxAuditRecordsPerPage = 1_000;
/** Rows of one DELETE: small enough to stay far below the limit on the time of a query. */
const rowsPerPrune = 5_000;

const ofDevices = ['device.%', 'connection.%', 'session.%'].map((some) => like(auditLog.action, some));

/**
 * Lists changes, newest first, `limit` at a time.
 *
 * @param request.device only what was done to the device with this id, or to its connections and sessions.
 * @param request.before the id of the last record of the page before.
 */
export async function listAudit(
  db: Database,
  request: {
    device?: string | undefined;
    since?: Date | undefined;
    before?: number | undefined;
    limit: number;
  },
): Promise<AuditRecord[]> {
  const { device, since, before, limit } = request;
  if (device?.includes('\0') === true) return [];
  return await query(db, () =>
    db.orm
      .select(shownColumns)
      .from(auditLog)
      .where(
        and(
          // A device type or a key may have the name that a device has as its id.
          device === undefined ? undefined : and(eq(auditLog.target, device), or(...ofDevices)),
          since === undefined ? undefined : gte(auditLog.at, since),
          before === undefined ? undefined : lt(auditLog.id, before),
        ),
      )
      .orderBy(desc(auditLog.id))
      .limit(Math.max(1, Math.min(limit, maxAuditRecordsPerPage))),
  );
}

/**
 * Deletes a batch of the records that are older than so many days; several servers may do so at once.
 *
 * @returns how many were deleted, and whether there may be more.
 */
export async function pruneAudit(db: Database, days: number): Promise<{ deleted: number; more: boolean }> {
  const result = await query(db, () =>
    db.orm.execute(sql`
      delete from ${auditLog} where id in (
        select id from ${auditLog} where at < now() - make_interval(days => ${days})
        order by at, id limit ${rowsPerPrune} for update skip locked
      )`),
  );
  const deleted = result.rowCount ?? 0;
  return { deleted, more: deleted === rowsPerPrune };
}
