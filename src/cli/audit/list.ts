import { isDeepStrictEqual } from 'node:util';
import type { AuditJson } from '../../api/audit-entry.js';
import type { Call } from '../command/command.js';
import { readStore } from '../store/open.js';
import type { Pages } from '../store/store.js';
import { write } from '../terminal/io.js';
import { type FormatTime, openTable, type TableColumn, tableTime, timeWidth } from '../terminal/table.js';
import { toJsonLine } from '../terminal/text.js';

interface AuditOptions {
  readonly device?: string;
  /** Only changes of the last so many ms. */
  readonly since?: number;
}

const defaultLimit = 100;
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
  readonly record: AuditJson;
  readonly targets: readonly string[];
  readonly count: number;
}

/**
 * Shows the latest changes, newest last. In the table a change of many devices is one line, so that it does not hide the
 * others; JSON has every entry.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function showAudit({ config, options, io }: Call<AuditOptions>): Promise<void> {
  const { device, json, limit = defaultLimit } = options;
  const since = options.since === undefined ? undefined : new Date(Date.now() - options.since);
  const { changes, more } = await readStore(config, io, ({ listAudit }) =>
    collectChanges(listAudit({ device, since }), { limit, folds: json !== true }),
  );
  if (json === true) {
    for (const { record } of changes) await write(io.stdout, toJsonLine(record));
  } else if (changes.length > 0) {
    const time = tableTime(io);
    await openTable(io, columns)(changes.map((change) => toCells(change, time)));
  }
  if (changes.length === 0) await write(io.stderr, 'There are no such entries in the audit log.\n');
  if (more) await write(io.stderr, 'There are older entries; --limit shows more.\n');
}

/** The latest changes, oldest first, and whether there are older ones. */
async function collectChanges(
  pages: Pages<AuditJson>,
  { limit, folds }: { limit: number; folds: boolean },
): Promise<{ changes: Change[]; more: boolean }> {
  const newestFirst: Change[] = [];
  let total = 0;
  for await (const page of pages) {
    for (const record of page) {
      const newer = newestFirst.at(-1);
      if (total === mostRead) return { changes: newestFirst.reverse(), more: true };
      total += 1;
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
  }
  return { changes: newestFirst.reverse(), more: false };
}

/** Entries of one transaction have one time. */
function isSameChange(one: AuditJson, other: AuditJson): boolean {
  return (
    one.at === other.at &&
    one.action === other.action &&
    one.actor === other.actor &&
    one.actor_kind === other.actor_kind &&
    one.address === other.address
  );
}

/** An entry with those details only that another has too. */
function merge(record: AuditJson, other: AuditJson): AuditJson {
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
    record.actor_kind === record.actor ? record.actor : `${record.actor_kind}:${record.actor}`,
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
  ack_level: 'default',
  on_refusal: 'default',
  receipts: 'default',
};

function toDetail(name: string, value: unknown): string {
  if (value === null) return nullWords[name] ?? 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
