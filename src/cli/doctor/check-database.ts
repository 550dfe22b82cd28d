import { resolve } from 'node:path';
import type { Config } from '../../config.js';
import { readOnlyAdvice } from '../../db/connection/database-errors.js';
import { parseDatabaseUrl } from '../../db/connection/dsn.js';
import { inspectDatabase } from '../../db/connection/inspect.js';
import { type Database, openDatabase } from '../../db/connection/open.js';
import { hasEmbeddedDatabase } from '../../db/embedded/embedded.js';
import { readMigrationStatus } from '../../db/migrate.js';
import { type DevicePolicy, listPolicies } from '../../db/policies.js';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { formatCount } from '../terminal/text.js';
import { checkClock } from './check-clock.js';
import type { Check } from './finding.js';

/** What of the database later checks need; nothing of it when the database cannot be used. */
export interface UsableDatabase {
  db: Database | undefined;
  /** The schema is what this program needs. */
  current: boolean;
  policies: readonly DevicePolicy[];
}

/** Oldest PostgreSQL that its makers still mend. */
const oldestVersion = 15;

/** Looks at the database and at its schema; leaves it open in `found`, as the caller's to close. */
export async function checkDatabase(
  check: Check,
  config: Config,
  log: Log,
  found: UsableDatabase,
): Promise<void> {
  const embedded = config.databaseUrl === undefined;
  const schema = check.named('schema');
  if (embedded && !hasEmbeddedDatabase(config.dataDir)) {
    // Looking must not make one.
    check.ok(`There is no embedded database in ${resolve(config.dataDir)} yet; serve makes it`);
    schema.skipped('There is no database yet');
    return;
  }
  let db: Database;
  try {
    db = await openDatabase(config, log);
  } catch (error) {
    tellFailure(check, config, error);
    schema.skipped('The database cannot be used');
    return;
  }
  found.db = db;
  const askedMs = Date.now();
  const { version, now, readOnly, maxConnections, statementTimeout } = await inspectDatabase(db);
  const answeredMs = Date.now();
  const what = embedded
    ? `Embedded PGlite (PostgreSQL ${version}) in ${db.where}`
    : `PostgreSQL ${version} at ${db.where}`;
  if (readOnly) check.problem(`${what} takes no changes`, readOnlyAdvice);
  else if (Number.parseInt(version, 10) < oldestVersion)
    check.warning(`${what} is no longer maintained`, `Upgrade to PostgreSQL ${oldestVersion} or later`);
  else if (!embedded && config.databasePoolSize + 1 > maxConnections / 2)
    check.warning(
      `${what} allows ${maxConnections} connections, and each replica takes up to ${config.databasePoolSize + 1}`,
      'Lower DATABASE_POOL_SIZE, or raise max_connections',
    );
  else check.ok(`${what} answers in ${answeredMs - askedMs} ms`);
  if (db.pooled) checkPooler(check.named('pooler'), statementTimeout);
  checkClock(check.named('clock'), 'the database', { now, askedMs, answeredMs });
  await checkSchema(schema, config, db, found);
}

/** A pooler's sessions are not the server's to set: what would be set for each is asked of the role. */
function checkPooler({ ok, warning }: Check, statementTimeout: string): void {
  const detail =
    'A connection pooler passes no notifications on: changes of devices are asked for, twice a second';
  if (statementTimeout !== '0') ok(`${detail}; statement_timeout is ${statementTimeout}`);
  else
    warning(
      `${detail}; a query that is given up goes on in PostgreSQL, as statement_timeout is 0`,
      "Set it for the role, as ALTER ROLE name SET statement_timeout = '30s', or name PostgreSQL itself in DATABASE_URL",
    );
}

async function checkSchema(
  { ok, warning, problem }: Check,
  config: Config,
  db: Database,
  found: UsableDatabase,
): Promise<void> {
  const { applied, pending, newer, legacy } = await readMigrationStatus(db);
  if (newer)
    return problem(
      'The schema is newer than this program',
      'Run the version of svc-mqtt that migrated it, or a later one',
    );
  if (legacy?.problem !== undefined)
    return problem(
      `The old table of devices cannot be converted: ${legacy.problem}`,
      'Mend the table, then run svc-mqtt migrate',
    );
  if (pending.length > 0) {
    const detail = `The schema lacks ${formatCount(pending.length, 'migration')}: ${pending.join(', ')}`;
    return config.migrate
      ? warning(detail, 'serve applies them when it starts; svc-mqtt migrate does it now')
      : problem(detail, 'Run svc-mqtt migrate');
  }
  found.current = true;
  found.policies = await listPolicies(db);
  ok(`The schema is up to date (${applied.at(-1) ?? 'nothing to apply'})`);
}

/** The address is named with what went wrong there: a wrong database is seen at a glance. */
function tellFailure(check: Check, { databaseUrl }: Config, error: unknown): void {
  try {
    const isNamed = databaseUrl !== undefined && error instanceof SvcMqttError;
    check.failure(error, isNamed ? parseDatabaseUrl(databaseUrl).where : undefined);
  } catch (unreadable) {
    check.problem(messageOf(unreadable), 'Correct DATABASE_URL');
  }
}
