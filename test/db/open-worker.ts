import { openDatabase } from '../../src/db/connection/open.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { migrate } from '../../src/db/migrate.js';
import { silentLog, testActor } from './databases.js';

/**
 * A process for tests: opens the database of the JSON in its first argument, migrates it, adds as many devices as
 * the second says, prints a line, and, with `wait`, keeps the database open until its input ends.
 */
const [, , configText = '', count = '0', wait] = process.argv;
const db = await openDatabase(
  { databaseUrl: undefined, databasePoolSize: 4, databaseTimeoutMs: 30_000, ...JSON.parse(configText) },
  silentLog,
);
const { applied, converted } = await migrate(db, {
  onProgress: (progress) => process.stderr.write(`${JSON.stringify(progress)}\n`),
});
for (let added = 0; added < Number(count); added += 1) await addDevices(db, testActor, { type: 'sensor' });
process.stdout.write(`${JSON.stringify({ applied: applied.length, converted })}\n`);
if (wait === 'wait') await new Promise((resolve) => process.stdin.resume().once('end', resolve));
await db.close();
