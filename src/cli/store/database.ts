import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../config.js';
import { type Database, openDatabase } from '../../db/connection/open.js';
import { hasEmbeddedDatabase } from '../../db/embedded/embedded.js';
import { migrate, readMigrationStatus } from '../../db/migrate.js';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { openCommandLog } from '../command/command-log.js';
import { type CommandIo, waitFor } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';

/** Longest wait for the database to close after a signal. */
const closeTimeoutMs = 3_000;

/**
 * Opens the database, runs `work` on it and closes it, whatever happens. A signal does not end the work, which looks at
 * it before it commits: only its end says what was changed.
 *
 * @param options.endsAtOnce of the work: see `waitFor`. The database is closed under it.
 * @param options.creates an embedded database that is not there yet is made, which stderr says; otherwise the command is
 *   refused, since one that it makes in the wrong directory is not the server's.
 * @throws SvcMqttError as `openDatabase` and `work`, DATABASE_EMBEDDED; Interrupted when a signal came first.
 */
export async function withDatabase<T>(
  config: Config,
  io: CommandIo,
  work: (db: Database, log: Log) => Promise<T>,
  options: { readonly creates?: boolean; readonly endsAtOnce?: boolean } = {},
): Promise<T> {
  if (config.databaseUrl === undefined && !hasEmbeddedDatabase(config.dataDir)) {
    const where = escapeControls(resolve(config.dataDir));
    if (options.creates !== true) throw noEmbeddedDatabase(where);
    io.stderr.write(`Creating an embedded database in ${where}, for servers with this DATA_DIR only.\n`);
  }
  const log = openCommandLog(config);
  const opening = openDatabase(config, log);
  // A database that opens after the signal still has to be closed, or its embedded server would outlive us.
  const closeLate = () => opening.then((db) => db.close()).catch(() => {});
  try {
    const db = await waitFor(opening, io, { endsAtOnce: true });
    return await waitFor(work(db, log), io, options);
  } finally {
    const closed = closeLate();
    await (io.signal.aborted ? Promise.race([closed, delay(closeTimeoutMs)]) : closed);
  }
}

function noEmbeddedDatabase(where: string): SvcMqttError {
  return new SvcMqttError('DATABASE_EMBEDDED', `There is no embedded database in ${where}`, {
    suggestion: "Run the command in the server's directory, or set DATA_DIR or DATABASE_URL",
  });
}

/**
 * Requires a schema that this program can work with. An embedded database is brought up to date, since nobody
 * else does; a PostgreSQL database may belong to running replicas, so there the operator decides.
 *
 * @param looks an embedded database is left as it is, too.
 * @throws SvcMqttError DATABASE_SCHEMA.
 */
export async function requireSchema(db: Database, looks: boolean): Promise<void> {
  const status = await readMigrationStatus(db);
  if (status.newer) throw newerSchema(db);
  if (status.pending.length === 0) return;
  if (db.kind === 'embedded' && !looks) {
    await migrate(db);
    return;
  }
  throw new SvcMqttError('DATABASE_SCHEMA', `The schema of ${db.where} is not up to date`, {
    suggestion: 'Run `svc-mqtt migrate` first',
  });
}

/** The refusal of a database that a newer svc-mqtt has migrated. */
export function newerSchema(db: Database): SvcMqttError {
  return new SvcMqttError('DATABASE_SCHEMA', `The schema of ${db.where} is newer than this program`, {
    suggestion: 'Use a svc-mqtt at least as new as the one that migrated it',
  });
}
