import type { Database } from './open.js';

/** How the schema stands. */
export interface MigrationStatus {
  /** Migrations applied, by name, oldest first. */
  readonly applied: readonly string[];
  /** Migrations this program brings that are not applied. */
  readonly pending: readonly string[];
  /** The database has migrations that this program does not know: it is newer. */
  readonly newer: boolean;
  /** The Go service's table, when it is there to be converted, and the devices still to convert. */
  readonly legacy: { readonly devices: number } | undefined;
}

export interface MigrationProgress {
  readonly step: string;
  readonly done: number;
  readonly total: number;
}

/** Reads how the schema stands; changes nothing. */
export async function readMigrationStatus(_db: Database): Promise<MigrationStatus> {
  throw new Error('not built');
}

/**
 * Brings the schema up to date under an advisory lock, converting the Go service's `devices` table in place.
 * Safe to interrupt and run again.
 *
 * @throws SvcMqttError DATABASE_SCHEMA when the database is newer or the old table cannot be converted.
 */
export async function migrate(
  _db: Database,
  _options?: { onProgress?: (progress: MigrationProgress) => void },
): Promise<{ applied: string[]; converted: number }> {
  throw new Error('not built');
}
