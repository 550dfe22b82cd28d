import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openDatabase } from '../../src/db/connection/open.js';
import { migrate } from '../../src/db/migrate.js';
import { openLog } from '../../src/log.js';
import { readConfig } from '../../src/read-config.js';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';
import { embeddedTemplatesVariable } from './embedded-template.js';
import { createDatabase, postgresTemplateVariable, postgresUrlVariable, startPostgres } from './postgres.js';

/** Starts one PostgreSQL with a migrated template database, and sees to it that there is a nats-server. */
export default async function setup(): Promise<() => Promise<void>> {
  const program = await obtainNatsServer({
    program: process.env.NATS_SERVER_BIN,
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
  process.env.NATS_SERVER_BIN = program.path;

  const postgres = await startPostgres();
  try {
    const template = await createDatabase(postgres.url);
    const config = readConfig({ env: { DATABASE_URL: template } });
    const db = await openDatabase(config, openLog({ level: 'silent', format: 'json' }));
    await migrate(db);
    await db.close();
    process.env[postgresUrlVariable] = postgres.url;
    process.env[postgresTemplateVariable] = new URL(template).pathname.slice(1);
  } catch (error) {
    await postgres.stop();
    throw error;
  }
  const templates = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-templates-'));
  process.env[embeddedTemplatesVariable] = templates;
  return async () => {
    await postgres.stop();
    await rm(templates, { recursive: true, force: true });
  };
}
