import { eq, sql } from 'drizzle-orm';
import type { LedgerCounts } from '../ledger-counts.js';
import { isStorable } from './device-fields.js';
import type { Database } from './open.js';
import { query } from './query.js';
import { deviceLedger } from './schema.js';

/** What has become of a device's messages. */
export interface Ledger extends Readonly<LedgerCounts> {
  readonly lastRefusedAt: Date | null;
  /** A word, as in docs/errors.md. */
  readonly lastRefusedReason: string | null;
  /** Where its last message was stored. */
  readonly lastStream: string | null;
  readonly lastSequence: number | null;
  readonly firstSeenAt: Date;
  readonly lastAddress: string | null;
}

/** What is to be added for one device. */
export interface LedgerAddition extends Readonly<LedgerCounts> {
  readonly device_id: string;
  /** ISO 8601. */
  readonly last_refused_at?: string | undefined;
  readonly last_refused_reason?: string | undefined;
  readonly last_stream?: string | undefined;
  readonly last_sequence?: number | undefined;
  readonly last_address?: string | undefined;
}

/** Adds to the ledger of many devices with one statement; a device that is gone is left out. */
export async function addToLedger(db: Database, additions: readonly LedgerAddition[]): Promise<void> {
  const json = JSON.stringify(additions.filter(({ device_id: id }) => isStorable(id)));
  // In order of id: of two replicas that add to the same devices none waits for the other in a circle.
  await query(db, () =>
    db.orm.execute(sql`
      insert into ${deviceLedger} as ledger (device_id, received, stored, refused, delivered, last_refused_at,
        last_refused_reason, last_stream, last_sequence, last_address)
      select added.* from json_to_recordset(${json}::json) as added (device_id text, received bigint, stored bigint,
          refused bigint, delivered bigint, last_refused_at timestamptz, last_refused_reason text, last_stream text,
          last_sequence bigint, last_address text)
        join devices on devices.id = added.device_id
      order by added.device_id
      on conflict (device_id) do update set
        received = ledger.received + excluded.received,
        stored = ledger.stored + excluded.stored,
        refused = ledger.refused + excluded.refused,
        delivered = ledger.delivered + excluded.delivered,
        last_refused_at = coalesce(excluded.last_refused_at, ledger.last_refused_at),
        last_refused_reason = coalesce(excluded.last_refused_reason, ledger.last_refused_reason),
        last_stream = coalesce(excluded.last_stream, ledger.last_stream),
        last_sequence = case when excluded.last_stream is null then ledger.last_sequence
          when excluded.last_stream = ledger.last_stream then greatest(excluded.last_sequence, ledger.last_sequence)
          else excluded.last_sequence end,
        last_address = coalesce(excluded.last_address, ledger.last_address)`),
  );
}

/** @returns undefined when nothing was ever written down. */
export async function findLedger(db: Database, deviceId: string): Promise<Ledger | undefined> {
  if (!isStorable(deviceId)) return undefined;
  const [row] = await query(db, () =>
    db.orm.select().from(deviceLedger).where(eq(deviceLedger.deviceId, deviceId)),
  );
  return row;
}

/** A ledger with counts that are not in it yet. */
export function addCounts(ledger: Ledger, counts: Readonly<LedgerCounts>): Ledger {
  const { received, stored, refused, delivered } = counts;
  return {
    ...ledger,
    received: ledger.received + received,
    stored: ledger.stored + stored,
    refused: ledger.refused + refused,
    delivered: ledger.delivered + delivered,
  };
}
