import type { Config } from '../config.js';
import { type AuditRecord, listAudit, maxAuditRecordsPerPage, toAuditJson } from '../db/audit-log.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { columnWidths, escapeControls, formatRow, formatTime, toJsonLine } from './text.js';

export interface AuditOptions {
  readonly device?: string | undefined;
  /** Only changes of the last so many ms. */
  readonly since?: number | undefined;
  readonly limit?: number | undefined;
  readonly json?: boolean | undefined;
}

const defaultLimit = 100;
const header = ['TIME', 'ACTOR', 'ADDRESS', 'ACTION', 'TARGET', 'DETAILS'];

/**
 * Shows the latest changes, newest last.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function showAudit(config: Config, options: AuditOptions, io: CommandIo): Promise<void> {
  const limit = options.limit ?? defaultLimit;
  const { records, more } = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const since = options.since === undefined ? undefined : new Date(Date.now() - options.since);
    const records: AuditRecord[] = [];
    // One more than asked for shows whether there are older ones.
    while (records.length <= limit) {
      const wanted = Math.min(maxAuditRecordsPerPage, limit + 1 - records.length);
      const before = records.at(-1)?.id;
      const page = await listAudit(db, { device: options.device, since, before, limit: wanted });
      records.push(...page);
      if (page.length < wanted) break;
    }
    return { records: records.slice(0, limit).reverse(), more: records.length > limit };
  });
  if (options.json === true) {
    for (const record of records) await write(io.stdout, toJsonLine(toAuditJson(record)));
  } else if (records.length > 0) {
    const rows = records.map(toCells);
    const widths = columnWidths([header, ...rows.slice(-1_000)]);
    await write(io.stdout, formatRow(header, widths));
    for (const row of rows) await write(io.stdout, formatRow(row, widths));
  }
  if (records.length === 0) await write(io.stderr, 'There are no such entries in the audit log.\n');
  if (more) await write(io.stderr, 'There are older entries; --limit shows more.\n');
}

function toCells(record: AuditRecord): string[] {
  const details = Object.entries(record.details).map(([name, value]) => `${name}=${toDetail(name, value)}`);
  return [
    formatTime(record.at),
    escapeControls(record.actorKind === record.actor ? record.actor : `${record.actorKind}:${record.actor}`),
    escapeControls(record.address ?? '-'),
    escapeControls(record.action),
    escapeControls(record.target),
    escapeControls(details.join(' ')),
  ];
}

/** What null means in a field; elsewhere: nothing is there. */
const nullWords: Readonly<Record<string, string>> = {
  expires_at: 'never',
  publish_rate: 'default',
  max_packet_bytes: 'default',
  nats_subject: 'default',
};

function toDetail(name: string, value: unknown): string {
  if (value === null) return nullWords[name] ?? 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
