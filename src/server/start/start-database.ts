import type { Config } from '../../config.js';
import { type Database, openDatabase } from '../../db/connection/open.js';
import { migrate, readMigrationStatus } from '../../db/migrate.js';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import type { StartWait } from './start-wait.js';

/**
 * Opens the database: PostgreSQL is waited for; what is embedded is started here, or by the process that starts workers.
 *
 * @throws SvcMqttError of `openDatabase`; StartAborted.
 */
export function startDatabase(config: Config, wait: StartWait, log: Log): Promise<Database> {
  if (config.databaseUrl === undefined) return wait.once((signal) => openDatabase(config, log, signal));
  return wait.until('PostgreSQL', () => openDatabase(config, log));
}

/**
 * Brings the schema up to date, or with MIGRATE=false looks whether it is.
 *
 * @throws SvcMqttError DATABASE_SCHEMA and those of the database.
 */
export async function bringSchemaUpToDate(config: Config, db: Database, log: Log): Promise<void> {
  if (config.migrate) {
    const { applied, converted, warnings } = await migrate(db);
    if (applied.length > 0)
      log.info({ event: 'schema_migrated', applied, converted }, 'The schema was brought up to date');
    for (const reason of warnings)
      log.warn({ event: 'schema_incomplete', reason }, 'The schema could not be made as a whole');
    return;
  }
  const status = await readMigrationStatus(db);
  if (status.newer || status.pending.length > 0) {
    throw new SvcMqttError(
      'DATABASE_SCHEMA',
      status.newer
        ? 'The database has a newer schema than this program knows'
        : `The database lacks ${status.pending.length} migration${status.pending.length === 1 ? '' : 's'}`,
      {
        suggestion: status.newer
          ? 'Run a newer svc-mqtt'
          : 'Run "svc-mqtt migrate", or start without --no-migrate',
      },
    );
  }
}
