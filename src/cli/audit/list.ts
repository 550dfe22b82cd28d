import { isDeepStrictEqual } from 'node:util';
import { toAuditJson } from '../../api/audit-entry.js';
import type { Config } from '../../config.js';
import type { AuditRecord } from '../../db/audit-log.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type FormatTime, openTable, type TableColumn, tableTime, timeWidth } from '../terminal/table.js';
import { toJsonLine } from '../terminal/text.js';

export interface AuditOptions {
  readonly device?: string | undefined;
  /** Only changes of the last so many ms. */
  readonly since?: number | undefined;
  readonly limit?: number | undefined;
  readonly json?: boolean | undefined;
}

const defaultLimit = 100;
const pageSize = 1_000;
const columns: readonly TableColumn[] = [
  { title: 'TIME', keep: timeWidth },
  { title: 'ACTOR', keep: 12 },
  { title: 'ADDRESS' },
  { title: 'ACTION', keep: 14 },
  { title: 'TARGET', keep: 16 },
  { title: 'DETAILS' },
];

/** Most entries that are read for a table, whose lines may stand for many each. */
const mostRead = 100_000;
/** Targets that a line for several names. */
const targetsShown = 3;

/** What one change did, perhaps to many: an entry for each of them. */
interface Change {
  /** The first entry of it. */
  readonly record: AuditRecord;
  readonly targets: readonly string[];
  readonly count: number;
}

/**
 * Shows the latest changes, newest last. In the table a change of many devices is one line, so that it does not hide the
 * others; JSON has every entry.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function showAudit(config: Config, options: AuditOptions, io: CommandIo): Promise<void> {
  const limit = options.limit ?? defaultLimit;
  const since = options.since === undefined ? undefined : new Date(Date.now() - options.since);
  const { changes, more } = await withStore(config, io, ({ listAudit }) => {
    const read = (after: AuditRecord | undefined) =>
      listAudit({ device: options.device, since, after, limit: pageSize });
    return collectChanges(read, { limit, folds: options.json !== true });
  });
  if (options.json === true) {
    for (const { record } of changes) await write(io.stdout, toJsonLine(toAuditJson(record)));
  } else if (changes.length > 0) {
    const time = tableTime(io);
    await openTable(io, columns)(changes.map((change) => toCells(change, time)));
  }
  if (changes.length === 0) await write(io.stderr, 'There are no such entries in the audit log.\n');
  if (more) await write(io.stderr, 'There are older entries; --limit shows more.\n');
}

/** The latest changes, oldest first, and whether there are older ones. */
async function collectChanges(
  read: (after: AuditRecord | undefined) => Promise<readonly AuditRecord[]>,
  { limit, folds }: { limit: number; folds: boolean },
): Promise<{ changes: Change[]; more: boolean }> {
  const newestFirst: Change[] = [];
  let total = 0;
  let last: AuditRecord | undefined;
  for (;;) {
    const page: readonly AuditRecord[] = await read(last);
    last = page.at(-1);
    for (const record of page) {
      const newer = newestFirst.at(-1);
      if (folds && newer !== undefined && isSameChange(newer.record, record)) {
        const targets = [record.target, ...newer.targets].slice(0, targetsShown);
        newestFirst[newestFirst.length - 1] = {
          record: merge(record, newer.record),
          targets,
          count: newer.count + 1,
        };
      } else if (newestFirst.length === limit) {
        return { changes: newestFirst.reverse(), more: true };
      } else newestFirst.push({ record, targets: [record.target], count: 1 });
    }
    total += page.length;
    const ended = page.length < pageSize;
    if (ended || total >= mostRead) return { changes: newestFirst.reverse(), more: !ended };
  }
}

/** Entries of one transaction have one time. */
function isSameChange(one: AuditRecord, other: AuditRecord): boolean {
  return (
    one.at.getTime() === other.at.getTime() &&
    one.action === other.action &&
    one.actor === other.actor &&
    one.actorKind === other.actorKind &&
    one.address === other.address
  );
}

/** An entry with those details only that another has too. */
function merge(record: AuditRecord, other: AuditRecord): AuditRecord {
  const common = Object.entries(record.details).filter(([name, value]) =>
    isDeepStrictEqual(value, other.details[name]),
  );
  return { ...record, details: Object.fromEntries(common) };
}

function toTarget({ record, targets, count }: Change): string {
  if (count === 1) return record.target;
  const noun = record.action.startsWith('device.') ? 'devices' : 'entries';
  return `${count.toLocaleString('en-US')} ${noun}: ${targets.join(', ')}${count > targets.length ? ', …' : ''}`;
}

function toCells(change: Change, time: FormatTime): string[] {
  const { record } = change;
  const details = Object.entries(record.details).map(([name, value]) => `${name}=${toDetail(name, value)}`);
  return [
    time(record.at),
    record.actorKind === record.actor ? record.actor : `${record.actorKind}:${record.actor}`,
    record.address ?? '-',
    record.action,
    toTarget(change),
    details.join(' '),
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
