import { eq, sql } from 'drizzle-orm';
import type { LedgerCounts } from '../../ledger-counts.js';
import type { Database } from '../connection/open.js';
import { query } from '../connection/query.js';
import { deviceLedger, devices } from '../schema.js';
import { isStorable } from './device-fields.js';

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
  /** When the first of it was noted; undefined: now. */
  readonly first_seen_at?: string | undefined;
}

/**
 * Adds to the ledger of many devices with one statement; a device that is gone is left out, and one that is about to be removed
 * waits: otherwise its ledger would be that of the next device with its id.
 */
export async function addToLedger(db: Database, additions: readonly LedgerAddition[]): Promise<void> {
  const sound = additions.filter(({ device_id: id }) => isStorable(id)).map(withSoundPlace);
  const ids = sql.param(sound.map(({ device_id: id }) => id));
  // First all devices and then all rows, in order of id: of those who add to, change or remove the same ones none waits in a circle.
  await query(db, () =>
    db.orm.execute(sql`
      with held as (
        select id from ${devices} where id = any(${ids}::text[]) order by id for key share
      )
      insert into ${deviceLedger} as ledger (device_id, received, stored, refused, delivered, last_refused_at,
        last_refused_reason, last_stream, last_sequence, last_address, first_seen_at)
      select device_id, received, stored, refused, delivered, last_refused_at, last_refused_reason, last_stream,
          last_sequence, last_address, coalesce(added.first_seen_at, now())
        from json_to_recordset(${JSON.stringify(sound)}::json) as added (device_id text, received bigint, stored bigint,
          refused bigint, delivered bigint, last_refused_at timestamptz, last_refused_reason text, last_stream text,
          last_sequence bigint, last_address text, first_seen_at timestamptz)
        join held on held.id = added.device_id
      -- Which reads all of them, so that all are locked, before the first row is written.
      where (select count(*) from held) > 0
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

/** Whoever hears a device's messages can answer in the place of the stream: what no stream has said is left out. */
function withSoundPlace(addition: LedgerAddition): LedgerAddition {
  const { last_stream: stream, last_sequence: sequence } = addition;
  if (stream === undefined || (isStorable(stream) && Number.isSafeInteger(sequence))) return addition;
  return { ...addition, last_stream: undefined, last_sequence: undefined };
}

/** @returns undefined when nothing was ever written down. */
export async function findLedger(db: Database, deviceId: string): Promise<Ledger | undefined> {
  if (!isStorable(deviceId)) return undefined;
  const [row] = await query(db, () =>
    db.orm.select().from(deviceLedger).where(eq(deviceLedger.deviceId, deviceId)),
  );
  return row;
}

/**
 * A ledger with what is noted and not in it yet, as `addToLedger` will have it.
 *
 * @param written undefined: nothing is written yet.
 */
export function addUnwritten(written: Ledger | undefined, unwritten: Ledger): Ledger {
  if (written === undefined) return unwritten;
  const isSameStream = unwritten.lastStream === null || unwritten.lastStream === written.lastStream;
  const sequence = isSameStream
    ? Math.max(unwritten.lastSequence ?? 0, written.lastSequence ?? 0)
    : (unwritten.lastSequence ?? 0);
  return {
    received: written.received + unwritten.received,
    stored: written.stored + unwritten.stored,
    refused: written.refused + unwritten.refused,
    delivered: written.delivered + unwritten.delivered,
    lastRefusedAt: unwritten.lastRefusedAt ?? written.lastRefusedAt,
    lastRefusedReason: unwritten.lastRefusedReason ?? written.lastRefusedReason,
    lastStream: unwritten.lastStream ?? written.lastStream,
    lastSequence: sequence === 0 ? null : sequence,
    firstSeenAt: written.firstSeenAt,
    lastAddress: unwritten.lastAddress ?? written.lastAddress,
  };
}
