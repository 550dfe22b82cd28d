import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openDatabase } from '../../src/db/connection/open.js';
import { migrate } from '../../src/db/migrate.js';
import { openLog } from '../../src/log.js';

/** Name under which the global set-up announces where the test run keeps its templates. */
export const embeddedTemplatesVariable = 'TEST_EMBEDDED_TEMPLATES';

/** Longer than a database takes to be made on a machine that has much else to do. */
const madeWithinMs = 180_000;

/**
 * Puts an embedded database into a data directory. Making one takes the processor for 3 to 4 s, so that the first who
 * asks makes it for all of the test run, and the others get copies of the files.
 */
export async function copyEmbedded(
  dataDir: string,
  state: 'migrated' | 'without schema' = 'migrated',
): Promise<void> {
  const template = await (state === 'migrated' ? migratedTemplate() : bareTemplate());
  await cp(path.join(template, 'database', 'data'), path.join(dataDir, 'database', 'data'), {
    recursive: true,
  });
}

/** A new directory with a space in its name, holding a migrated embedded database. */
export async function embeddedDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'svc mqtt-'));
  await copyEmbedded(directory);
  return directory;
}

const bareTemplate = () => makeOnce('bare', (directory) => openAndClose(directory, false));

const migratedTemplate = () =>
  makeOnce('migrated', async (directory) => {
    await copyEmbedded(directory, 'without schema');
    await openAndClose(directory, true);
  });

/** One process makes it; the others wait for the mark behind its end. */
async function makeOnce(name: string, make: (directory: string) => Promise<void>): Promise<string> {
  const directory = path.join(process.env[embeddedTemplatesVariable] ?? '', name);
  const mark = path.join(directory, 'made');
  if (existsSync(mark)) return directory;
  try {
    await mkdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const until = performance.now() + madeWithinMs;
    while (!existsSync(mark)) {
      if (performance.now() > until) throw new Error(`${directory} was not made`);
      await delay(50);
    }
    return directory;
  }
  try {
    await make(directory);
    await writeFile(mark, '');
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return directory;
}

async function openAndClose(dataDir: string, migrated: boolean): Promise<void> {
  const config = { databaseUrl: undefined, dataDir, databasePoolSize: 2, databaseTimeoutMs: 60_000 };
  const db = await openDatabase(config, openLog({ level: 'silent', format: 'json' }));
  try {
    if (migrated) await migrate(db);
  } finally {
    await db.close();
  }
  // Its process may still be on the way to its end; the claim is the last that it removes.
  const isClaimed = async () =>
    (await readdir(path.join(dataDir, 'database'))).some((name) => name.startsWith('claim-'));
  while (await isClaimed()) await delay(20);
}
