import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import type { Actor } from '../../src/db/audit.js';
import { type Database, type DatabaseConfig, openDatabase } from '../../src/db/connection/open.js';
import { type ChangeFeed, startChangeFeed } from '../../src/db/feed/change-feed.js';
import { migrate } from '../../src/db/migrate.js';
import { openLog } from '../../src/log.js';
import { copyEmbedded } from '../support/embedded-template.js';
import { borrowPostgres, createDatabase, postgresTemplateVariable } from '../support/postgres.js';

export const kinds = ['postgres', 'embedded'] as const;
export type Kind = (typeof kinds)[number];

/** Who makes the changes of tests. */
export const testActor: Actor = { kind: 'cli', name: 'tester' };

export const silentLog = openLog({ level: 'silent', format: 'json' });

/** An empty or migrated database of a test's own. */
export interface TestDatabase {
  readonly kind: Kind;
  readonly config: DatabaseConfig;
  readonly db: Database;
  /** Runs SQL on a connection of its own, as a person with psql would. */
  sql<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
  /** The feed of its changes, opened when it is first asked for and closed with the database. */
  feed(): Promise<ChangeFeed>;
  close(): Promise<void>;
}

export async function openTestDatabase(
  kind: Kind,
  options: { migrated?: boolean; adminUrl?: string; timeoutMs?: number } = {},
): Promise<TestDatabase> {
  const releases: (() => Promise<void>)[] = [];
  const migrated = options.migrated !== false;
  const config: { -readonly [K in keyof DatabaseConfig]: DatabaseConfig[K] } = {
    databaseUrl: undefined,
    dataDir: '',
    databasePoolSize: 10,
    databaseTimeoutMs: options.timeoutMs ?? 30_000,
  };
  if (kind === 'postgres') {
    const { url, release } =
      options.adminUrl === undefined
        ? await borrowPostgres()
        : { url: options.adminUrl, release: async () => {} };
    releases.push(release);
    const hasTemplate = migrated && options.adminUrl === undefined;
    config.databaseUrl = await createDatabase(
      url,
      hasTemplate ? process.env[postgresTemplateVariable] : undefined,
    );
  } else {
    config.dataDir = await temporaryDirectory();
    releases.push(() => rm(config.dataDir, { recursive: true, force: true }));
    await copyEmbedded(config.dataDir, migrated ? 'migrated' : 'without schema');
  }
  const db = await openDatabase(config, silentLog);
  releases.push(() => db.close());
  if (migrated) await migrate(db);
  let feed: Promise<ChangeFeed> | undefined;
  return {
    kind,
    config,
    db,
    async sql<R extends pg.QueryResultRow>(text: string, values: unknown[] = []) {
      const client = await connectPlainly(db, config);
      try {
        return (await client.query<R>(text, values)).rows;
      } finally {
        await client.end();
      }
    },
    feed() {
      feed ??= startChangeFeed(db, silentLog).then((opened) => {
        releases.push(() => opened.close());
        return opened;
      });
      return feed;
    },
    async close() {
      for (const release of releases.reverse()) await release();
    },
  };
}

async function connectPlainly(db: Database, config: DatabaseConfig): Promise<pg.Client> {
  const client =
    config.databaseUrl === undefined
      ? new pg.Client({ host: db.embedded?.socketDirectory, user: 'postgres', database: 'postgres' })
      : new pg.Client({ connectionString: config.databaseUrl });
  await client.connect();
  return client;
}

/** A new directory with a space in its name. */
export async function temporaryDirectory(): Promise<string> {
  return await mkdtemp(path.join(tmpdir(), 'svc mqtt-'));
}

/** Waits until `condition` holds; fails, naming it, when it does not within `timeoutMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    if (await condition()) return performance.now() - start;
    if (performance.now() - start > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
