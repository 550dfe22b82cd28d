import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import type pg from 'pg';
import { messageOf, SvcMqttError } from '../errors.js';
import type { Progress } from '../progress.js';
import { within } from '../time-limit.js';
import { codeOf, toDatabaseError } from './connection/database-errors.js';
import type { Database } from './connection/open.js';
import {
  clearStatistics,
  convertLegacy,
  countLegacyDevices,
  findLegacyProblem,
  type LegacyProblem,
  legacyTable,
  noteStatistics,
  setLegacyAside,
} from './devices/legacy.js';

/** How the schema stands. */
export interface MigrationStatus {
  /** Migrations applied, by name, oldest first. */
  readonly applied: readonly string[];
  /** Migrations this program brings that are not applied. */
  readonly pending: readonly string[];
  /** The database has migrations that this program does not know: it is newer. */
  readonly newer: boolean;
  /**
   * The Go service's table, when it is there to be converted, the devices still to convert, and why that is not
   * possible and what to do about it, if so.
   */
  readonly legacy: ({ readonly devices: number } & Partial<LegacyProblem>) | undefined;
}

/** What a migration has done. */
export interface Migrated {
  readonly applied: readonly string[];
  /** Devices of the Go service. */
  readonly converted: number;
  /** What the database warns of, such as what could not be made. */
  readonly warnings: readonly string[];
}

interface Migration {
  readonly name: string;
  /** When it was made, ms: drizzle's key of a migration. */
  readonly when: number;
  readonly hash: string;
  readonly statements: readonly string[];
}

/** Drizzle's table of applied migrations, as drizzle.config.ts names it. */
const migrationsTable = 'svc_mqtt_migrations';
/** Any constant, the same in every version. */
const advisoryLock = '5312479610287';
/** Longest wait for another replica that migrates, and for whoever uses the old table. */
const lockTimeoutMs = 120_000;

/**
 * Reads how the schema stands; changes nothing.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function readMigrationStatus(db: Database): Promise<MigrationStatus> {
  return await withConnection(db, async (client) => {
    const { pending, ...state } = await within(db.timeoutMs, readApplied(client));
    const devices = await countLegacyDevices(client);
    const legacy = devices === undefined ? undefined : { devices, ...(await findLegacyProblem(client)) };
    return { ...state, pending: pending.map(({ name }) => name), legacy };
  });
}

/**
 * Brings the schema up to date under an advisory lock, converting the Go service's `devices` table in place.
 * Everything happens in one transaction: interrupted at any moment, nothing has changed, and it can run again.
 *
 * @throws SvcMqttError DATABASE_SCHEMA when the database is newer or the old table cannot be converted; DATABASE_UNREACHABLE
 *   when it does not answer the first question within DATABASE_TIMEOUT_MS.
 */
export async function migrate(
  db: Database,
  options: { onProgress?: (progress: Progress) => void } = {},
): Promise<Migrated> {
  const report = options.onProgress ?? (() => {});
  return await withConnection(db, async (client) => {
    const warnings: string[] = [];
    // The class of SQLSTATE that warns: the severity is a word of the server's language.
    client.on('notice', ({ code = '', message = '', hint }) => {
      if (code.startsWith('01')) warnings.push(hint === undefined ? message : `${message}. ${hint}`);
    });
    const before = await within(db.timeoutMs, readApplied(client));
    requireNotNewer(db, before);
    if (before.pending.length === 0) {
      await clearStatistics(client, migrationsTable, report);
      return { applied: [], converted: 0, warnings };
    }
    await client.query('begin');
    // The lock belongs to the transaction: it is never left behind, whatever becomes of this process.
    await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
    await client.query('set local statement_timeout = 0');
    await lockAgainstReplicas(client, report);
    const { pending, ...state } = await readApplied(client);
    requireNotNewer(db, state);
    const legacyDevices = await countLegacyDevices(client);
    if (legacyDevices !== undefined) {
      report({ step: `locking the old table ${legacyTable}`, done: 0, total: legacyDevices });
      await setLegacyAside(client);
    }
    await client.query(
      `create table if not exists ${migrationsTable} (id serial primary key, hash text not null, created_at bigint)`,
    );
    for (const [index, migration] of pending.entries()) {
      report({ step: `applying ${migration.name}`, done: index, total: pending.length });
      for (const statement of migration.statements) await client.query(statement);
      await client.query(`insert into ${migrationsTable} (hash, created_at) values ($1, $2)`, [
        migration.hash,
        migration.when,
      ]);
      report({ step: `applying ${migration.name}`, done: index + 1, total: pending.length });
    }
    let converted = 0;
    if (legacyDevices !== undefined) {
      converted = await convertLegacy(client, report);
      await noteStatistics(client, migrationsTable);
    }
    await client.query('commit');
    await clearStatistics(client, migrationsTable, report);
    return { applied: pending.map((migration) => migration.name), converted, warnings };
  });
}

/** Runs `work` on a connection of its own; ending it undoes a transaction that was not committed. */
async function withConnection<T>(db: Database, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await db.connect();
  try {
    return await work(client);
  } catch (error) {
    const schemaError = (detail: string, suggestion: string) =>
      new SvcMqttError('DATABASE_SCHEMA', detail, { suggestion, cause: error });
    if (codeOf(error) === '55P03') {
      throw schemaError(
        `The schema of ${db.where} was locked by someone else for ${lockTimeoutMs / 1_000} s`,
        'Stop the old service and long transactions on the table devices, and run svc-mqtt migrate again',
      );
    }
    if (codeOf(error) === '42P07') {
      throw schemaError(
        `The database at ${db.where} holds something else under a name that is needed: ${messageOf(error)}`,
        'Rename it, or set DATABASE_URL to another database',
      );
    }
    if (codeOf(error) === '2BP01') {
      throw schemaError(
        `The old table devices cannot be replaced, because something else depends on it: ${messageOf(error)}`,
        'Drop the views and foreign keys on it and run svc-mqtt migrate again; nothing was changed',
      );
    }
    throw toDatabaseError(error, db.where);
  } finally {
    await client.end().catch(() => {});
  }
}

async function lockAgainstReplicas(client: pg.Client, report: (progress: Progress) => void): Promise<void> {
  const { rows } = await client.query<{ locked: boolean }>(
    `select pg_try_advisory_xact_lock(${advisoryLock}) as locked`,
  );
  if (rows[0]?.locked === true) return;
  report({ step: 'waiting for another replica that migrates', done: 0, total: 1 });
  await client.query(`select pg_advisory_xact_lock(${advisoryLock})`);
}

function requireNotNewer(db: Database, state: { newer: boolean; applied: readonly string[] }): void {
  if (!state.newer) return;
  throw new SvcMqttError(
    'DATABASE_SCHEMA',
    `The schema of ${db.where} is newer than this program: it has ${state.applied.at(-1)}`,
    { suggestion: 'Run the version of svc-mqtt that made it, or a later one' },
  );
}

async function readApplied(
  client: pg.Client,
): Promise<{ applied: string[]; pending: Migration[]; newer: boolean }> {
  const known = readMigrations();
  // Not to_regclass: after waiting for a lock it may still answer from a cache of before.
  const { rows: tables } = await client.query(
    `select from pg_class where relname = '${migrationsTable}' and relkind = 'r' and pg_table_is_visible(oid)`,
  );
  const { rows } =
    tables.length > 0
      ? await client.query<{ when: string }>(
          `select created_at::text as when from ${migrationsTable} order by created_at, id`,
        )
      : { rows: [] };
  const byTime = new Map(known.map((migration) => [String(migration.when), migration]));
  const applied = new Set(rows.map((row) => row.when));
  return {
    applied: rows.map(
      (row) => byTime.get(row.when)?.name ?? `an unknown migration of ${describeTime(row.when)}`,
    ),
    pending: known.filter((migration) => !applied.has(String(migration.when))),
    newer: rows.some((row) => !byTime.has(row.when)),
  };
}

function describeTime(when: string): string {
  const date = new Date(Number(when));
  return Number.isNaN(date.getTime()) ? 'unknown time' : date.toISOString();
}

/** The migrations of the directory `drizzle` beside `src` and `dist`, oldest first. */
function readMigrations(): Migration[] {
  const folder = fileURLToPath(new URL('../../drizzle', import.meta.url));
  const journal = JSON.parse(readFileSync(path.join(folder, 'meta', '_journal.json'), 'utf8')) as {
    entries: { tag: string }[];
  };
  return readMigrationFiles({ migrationsFolder: folder }).map((migration, index) => ({
    name: journal.entries[index]?.tag ?? migration.hash,
    when: migration.folderMillis,
    hash: migration.hash,
    statements: migration.sql,
  }));
}
