import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import type { Config } from '../../config.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { within } from '../../time-limit.js';
import { type Embedded, openEmbedded } from '../embedded/embedded.js';
import { toDatabaseError } from './database-errors.js';
import { parseDatabaseUrl } from './dsn.js';
import { setForSession, writeTimesAsIso } from './session.js';
import { encryptionOf } from './tls.js';

/** An open database: PostgreSQL, or the embedded PGlite behind its unix socket; the same client in both cases. */
export interface Database {
  readonly kind: 'postgres' | 'embedded';
  /** Where it is, without credentials, for messages: `postgres://host:port/name` or the data directory. */
  readonly where: string;
  /** DATABASE_TIMEOUT_MS: longest wait for a connection, and for the answer to a query of the pool. */
  readonly timeoutMs: number;
  /**
   * It is reached through a connection pooler: nothing may be left in a session, notifications do not arrive, and a query
   * that is given up goes on in the server. As the latest connection of a pool found it.
   */
  readonly pooled: boolean;
  readonly pool: pg.Pool;
  readonly orm: NodePgDatabase;
  /**
   * The same database on connections of its own, at most so many, which are closed with it: what devices wait for
   * must not queue behind what an operator lists.
   */
  reserve(connections: number): Database;
  /**
   * Opens a connection outside of the pool, without a limit on the time of a query; the caller ends it.
   *
   * @param options.applicationName how the connection is called in `pg_stat_activity`.
   */
  connect(options?: { applicationName?: string }): Promise<pg.Client>;
  /** Closes the idle connections of every pool, which may be dead without knowing it; new queries open new ones. */
  dropIdleConnections(): void;
  /** The embedded database's process, which passes notifications on; undefined for PostgreSQL. */
  readonly embedded: Embedded | undefined;
  /** Ends the connections and, when this process started it, the embedded database. Idempotent. */
  close(): Promise<void>;
}

export type DatabaseConfig = Pick<
  Config,
  'databaseUrl' | 'dataDir' | 'databasePoolSize' | 'databaseTimeoutMs'
>;

/** The embedded database does one thing at a time: a few connections keep it busy. */
const maxEmbeddedPoolSize = 4;
const closeTimeoutMs = 5_000;

/**
 * Opens the configured database and proves with one query that it answers.
 *
 * @param signal ends the wait for an embedded one.
 * @throws SvcMqttError DATABASE_UNREACHABLE, DATABASE_REFUSED, DATABASE_EMBEDDED, CONFIG_INVALID.
 */
export async function openDatabase(
  config: DatabaseConfig,
  log: Log,
  signal?: AbortSignal,
): Promise<Database> {
  if (config.databaseUrl !== undefined) {
    const address = parseDatabaseUrl(config.databaseUrl);
    const timeoutMs = (address.connectTimeoutSec ?? Number.POSITIVE_INFINITY) * 1_000;
    const { host, port, user, password, database, options } = address;
    const connection = {
      host,
      port,
      user,
      password,
      database,
      ...(options === undefined ? {} : { options }),
      application_name: address.applicationName,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      ...encryptionOf(address),
      connectionTimeoutMillis: Math.min(config.databaseTimeoutMs, timeoutMs),
    };
    return await requireAnswer(assemble(config, log, connection, address.where, undefined));
  }
  const embedded = await openEmbedded(config.dataDir, log, signal);
  const connection = {
    host: embedded.socketDirectory,
    port: 5_432,
    user: 'postgres',
    database: 'postgres',
    ssl: false,
    connectionTimeoutMillis: config.databaseTimeoutMs,
  };
  return await requireAnswer(assemble(config, log, connection, embedded.where, embedded));
}

async function requireAnswer(database: Database): Promise<Database> {
  try {
    await database.pool.query('select 1');
    return database;
  } catch (error) {
    await database.close();
    throw toDatabaseError(error, database.where);
  }
}

function assemble(
  config: DatabaseConfig,
  log: Log,
  connection: pg.ClientConfig,
  where: string,
  embedded: Embedded | undefined,
): Database {
  // A connection that breaks is replaced by the next query; without listeners it would end the process.
  const onLost = (error: Error) => {
    const reason = messageOf(error);
    log.debug({ event: 'database_connection_lost', where, reason }, 'a database connection was lost');
  };
  let pooled = false;
  /** A query that nobody waits for any more would go on in the server, and hold its connection there. */
  const setTimeLimit = async (client: pg.ClientBase) => {
    // The embedded database has one session for everybody, migrations included.
    if (embedded === undefined)
      pooled = !(await setForSession(client, 'statement_timeout', String(config.databaseTimeoutMs)));
  };
  const pools: pg.Pool[] = [];
  const openPool = (max: number): pg.Pool => {
    const pool = new pg.Pool({
      ...connection,
      max: embedded === undefined ? max : Math.min(max, maxEmbeddedPoolSize),
      query_timeout: config.databaseTimeoutMs,
      idleTimeoutMillis: 30_000,
      // What is set for a database or a user holds for new connections only.
      maxLifetimeSeconds: 60,
      async onConnect(client) {
        await setTimeLimit(client);
        await writeTimesAsIso(client);
      },
    });
    pool.on('error', onLost);
    pool.on('connect', (client) => client.on('error', onLost));
    pools.push(pool);
    return pool;
  };
  let closed: Promise<void> | undefined;
  const over = (pool: pg.Pool): Database => ({
    kind: embedded === undefined ? 'postgres' : 'embedded',
    where,
    timeoutMs: config.databaseTimeoutMs,
    get pooled() {
      return pooled;
    },
    pool,
    orm: drizzle(pool),
    embedded,
    reserve: (connections) => over(openPool(connections)),
    async connect(options = {}) {
      const client = new pg.Client({
        ...connection,
        ...(options.applicationName === undefined ? {} : { application_name: options.applicationName }),
      });
      client.on('error', onLost);
      try {
        await client.connect();
        await within(config.databaseTimeoutMs, writeTimesAsIso(client));
        return client;
      } catch (error) {
        // Not awaited: a connection that is cut off may take long to end.
        client.end().catch(() => {});
        throw toDatabaseError(error, where);
      }
    },
    dropIdleConnections() {
      // While there are idle connections, each is handed out at once.
      for (const each of pools) {
        for (let count = each.idleCount; count > 0; count -= 1) {
          each.connect().then((client) => client.release(true), onLost);
        }
      }
    },
    close() {
      closed ??= closeAll(pools, embedded);
      return closed;
    },
  });
  return over(openPool(config.databasePoolSize));
}

/** Waits for running queries, but not for a database that no longer answers. */
async function closeAll(pools: readonly pg.Pool[], embedded: Embedded | undefined): Promise<void> {
  await within(closeTimeoutMs, Promise.all(pools.map((pool) => pool.end()))).catch(() => {});
  await embedded?.close();
}
