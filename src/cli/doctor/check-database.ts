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
import { type Finding, ok, problem, skipped, toFinding, warning } from './finding.js';

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
  config: Config,
  log: Log,
  found: UsableDatabase,
  add: (finding: Finding) => void,
): Promise<void> {
  const embedded = config.databaseUrl === undefined;
  if (embedded && !hasEmbeddedDatabase(config.dataDir)) {
    // Looking must not make one.
    add(ok('database', `There is no embedded database in ${resolve(config.dataDir)} yet; serve makes it`));
    add(skipped('schema', 'There is no database yet'));
    return;
  }
  let db: Database;
  try {
    db = await openDatabase(config, log);
  } catch (error) {
    add(toDatabaseFinding(config, error));
    add(skipped('schema', 'The database cannot be used'));
    return;
  }
  found.db = db;
  const startMs = Date.now();
  const { version, now, readOnly, maxConnections, statementTimeout } = await inspectDatabase(db);
  const endMs = Date.now();
  const what = embedded
    ? `Embedded PGlite (PostgreSQL ${version}) in ${db.where}`
    : `PostgreSQL ${version} at ${db.where}`;
  if (readOnly) {
    add(problem('database', `${what} takes no changes`, readOnlyAdvice));
  } else if (Number.parseInt(version, 10) < oldestVersion) {
    add(
      warning(
        'database',
        `${what} is no longer maintained`,
        `Upgrade to PostgreSQL ${oldestVersion} or later`,
      ),
    );
  } else if (!embedded && config.databasePoolSize + 1 > maxConnections / 2) {
    add(
      warning(
        'database',
        `${what} allows ${maxConnections} connections, and each replica takes up to ${config.databasePoolSize + 1}`,
        'Lower DATABASE_POOL_SIZE, or raise max_connections',
      ),
    );
  } else {
    add(ok('database', `${what} answers in ${endMs - startMs} ms`));
  }
  if (db.pooled) add(checkPooler(statementTimeout));
  add(checkClock('the database', { now, askedMs: startMs, answeredMs: endMs }));
  await checkSchema(config, db, found, add);
}

/** A pooler's sessions are not the server's to set: what would be set for each is asked of the role. */
function checkPooler(statementTimeout: string): Finding {
  const detail =
    'A connection pooler passes no notifications on: changes of devices are asked for, twice a second';
  if (statementTimeout !== '0') return ok('pooler', `${detail}; statement_timeout is ${statementTimeout}`);
  return warning(
    'pooler',
    `${detail}; a query that is given up goes on in PostgreSQL, as statement_timeout is 0`,
    "Set it for the role, as ALTER ROLE name SET statement_timeout = '30s', or name PostgreSQL itself in DATABASE_URL",
  );
}

async function checkSchema(
  config: Config,
  db: Database,
  found: UsableDatabase,
  add: (finding: Finding) => void,
): Promise<void> {
  const { applied, pending, newer, legacy } = await readMigrationStatus(db);
  if (newer) {
    add(
      problem(
        'schema',
        'The schema is newer than this program',
        'Run the version of svc-mqtt that migrated it, or a later one',
      ),
    );
    return;
  }
  if (legacy?.problem !== undefined) {
    add(
      problem(
        'schema',
        `The old table of devices cannot be converted: ${legacy.problem}`,
        'Mend the table, then run svc-mqtt migrate',
      ),
    );
    return;
  }
  if (pending.length > 0) {
    const detail = `The schema lacks ${formatCount(pending.length, 'migration')}: ${pending.join(', ')}`;
    add(
      config.migrate
        ? warning('schema', detail, 'serve applies them when it starts; svc-mqtt migrate does it now')
        : problem('schema', detail, 'Run svc-mqtt migrate'),
    );
    return;
  }
  found.current = true;
  found.policies = await listPolicies(db);
  add(ok('schema', `The schema is up to date (${applied.at(-1) ?? 'nothing to apply'})`));
}

/** The address is named with what went wrong there: a wrong database is seen at a glance. */
function toDatabaseFinding(config: Config, error: unknown): Finding {
  const finding = toFinding('database', error);
  if (config.databaseUrl === undefined || !(error instanceof SvcMqttError)) return finding;
  try {
    const { where } = parseDatabaseUrl(config.databaseUrl);
    return finding.detail.includes(where) ? finding : { ...finding, detail: `${finding.detail} (${where})` };
  } catch (unreadable) {
    return problem('database', messageOf(unreadable), 'Correct DATABASE_URL');
  }
}
