import { beforeAll } from 'vitest';
import type { Database } from '../../src/db/connection/open.js';
import { type Kind, openTestDatabase, type TestDatabase } from '../db/databases.js';
import { undoAfterAll } from '../support/undo-after-all.js';

/** A migrated database for the commands of a `describe`, held open as a running server does: the commands attach to it. */
export function useDatabase(kind: Kind): { readonly db: Database; readonly env: Record<string, string> } {
  const later = undoAfterAll();
  let opened: TestDatabase;
  beforeAll(async () => {
    opened = await openTestDatabase(kind);
    later(() => opened.close());
  });
  return {
    get db() {
      return opened.db;
    },
    get env() {
      const { databaseUrl, dataDir } = opened.config;
      return databaseUrl === undefined ? { DATA_DIR: dataDir } : { DATABASE_URL: databaseUrl };
    },
  };
}
