import { boolean, count, setting, text } from './setting.js';

/** The database, and where an embedded one keeps its data. */
export const databaseSettings = {
  databaseUrl: setting({
    alsoEnv: 'DATABASE_DSN',
    schema: text,
    secret: true,
    url: true,
    help: 'PostgreSQL, as postgres://user:password@host:port/name or as a "host=… user=…" DSN; unset: embedded PGlite in DATA_DIR',
  }),
  dataDir: setting({
    schema: text,
    default: './.svc-mqtt',
    help: 'Directory of everything the embedded database and the embedded NATS server keep',
  }),
  databasePoolSize: setting({
    schema: count(2, 1_000),
    default: 10,
    help: 'Most connections to PostgreSQL for the HTTP API and housekeeping; at it queries wait. Logins and changes have 3 of their own beside them',
  }),
  databaseTimeoutMs: setting({
    schema: count(100, 600_000),
    default: 5_000,
    help: 'Longest wait for a database connection and for one query of the server, also while it starts; a database that lets two in a row pass counts as away',
  }),
  migrate: setting({
    schema: boolean,
    default: true,
    help: 'Bring the schema up to date at start; false: an old schema refuses to start',
    offHelp: 'Leave the schema as it is: with an old one the server refuses to start',
  }),
  auditRetentionDays: setting({
    schema: count(1, 36_500),
    default: 400,
    help: 'Days that the audit log is kept; older entries are deleted',
  }),
} as const;
