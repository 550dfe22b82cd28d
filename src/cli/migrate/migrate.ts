import type { Database } from '../../db/connection/open.js';
import { legacyRefusal } from '../../db/devices/legacy.js';
import { type Migrated, type MigrationStatus, migrate, readMigrationStatus } from '../../db/migrate.js';
import type { Call } from '../command/command.js';
import { newerSchema, withDatabase } from '../store/database.js';
import { type CommandIo, write } from '../terminal/io.js';
import { startProgress } from '../terminal/progress-report.js';
import { escapeControls, formatCount, toJsonLine } from '../terminal/text.js';

type Options = Call<{ readonly status?: boolean; readonly dryRun?: boolean }>['options'];

/**
 * Brings the schema up to date, or, with `status` or `dryRun`, only says how it stands or what would be done.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function migrateSchema(call: Call): Promise<void> {
  const { config, options, io } = call;
  const looks = options.status === true || options.dryRun === true;
  const work = (db: Database) => (looks ? writeStatus(db, options, io) : writeMigration(db, options, io));
  await withDatabase(config, io, work, { creates: !looks, endsAtOnce: true });
}

async function writeStatus(db: Database, options: Options, io: CommandIo): Promise<void> {
  const status = await readMigrationStatus(db);
  if (options.status !== true) requireMigratable(status, db);
  const describe = options.status === true ? describeStatus : describePlan;
  await write(io.stdout, options.json === true ? toJsonLine(statusFields(status)) : describe(status, db));
}

async function writeMigration(db: Database, options: Options, io: CommandIo): Promise<void> {
  const progress = startProgress(io);
  const result = await migrate(db, { onProgress: progress.update }).finally(() => progress.close());
  const { applied, converted, warnings } = result;
  for (const warning of warnings) io.stderr.write(`${escapeControls(warning)}\n`);
  const fields = { applied, converted_devices: converted };
  await write(io.stdout, options.json === true ? toJsonLine(fields) : describeResult(result, db));
}

/** Refuses what `migrate` would refuse. */
function requireMigratable(status: MigrationStatus, db: Database): void {
  if (status.newer) throw newerSchema(db);
  const { problem, advice } = status.legacy ?? {};
  if (problem !== undefined && advice !== undefined) throw legacyRefusal({ problem, advice });
}

function statusFields(status: MigrationStatus): Record<string, unknown> {
  return {
    applied: status.applied,
    pending: status.pending,
    newer: status.newer,
    legacy_devices: status.legacy?.devices ?? null,
    legacy_problem: status.legacy?.problem ?? null,
  };
}

function describeStatus(status: MigrationStatus, db: Database): string {
  const lines = [
    ...status.applied.map((name) => `applied  ${escapeControls(name)}`),
    ...status.pending.map((name) => `pending  ${escapeControls(name)}`),
  ];
  if (status.legacy !== undefined) {
    lines.push(
      `The Go service's table is there: ${formatCount(status.legacy.devices, 'device')} to convert.`,
    );
  }
  const { problem, advice } = status.legacy ?? {};
  if (problem !== undefined) lines.push(`${escapeControls(problem)}. ${escapeControls(advice ?? '')}.`);
  if (status.newer) lines.push(`The schema of ${db.where} is newer than this program.`);
  else if (status.pending.length === 0 && status.legacy === undefined) lines.push(upToDate(db));
  else lines.push(`Run \`svc-mqtt migrate\` to bring the schema of ${db.where} up to date.`);
  return `${lines.join('\n')}\n`;
}

function describePlan(status: MigrationStatus, db: Database): string {
  const lines = status.pending.map((name) => `would apply ${escapeControls(name)}`);
  if (status.legacy !== undefined) {
    lines.push(
      `would convert ${formatCount(status.legacy.devices, 'device')} of the Go service in place: passwords become hashes`,
    );
  }
  return `${lines.length === 0 ? upToDate(db) : lines.join('\n')}\n`;
}

function describeResult(result: Migrated, db: Database): string {
  const lines = result.applied.map((name) => `applied ${escapeControls(name)}`);
  if (result.converted > 0) {
    lines.push(`converted ${formatCount(result.converted, 'device')}: every password is a hash now`);
  }
  return `${lines.length === 0 ? upToDate(db) : lines.join('\n')}\n`;
}

function upToDate(db: Database): string {
  return `The schema of ${db.where} is up to date.`;
}
