import { type Command, Option } from 'commander';
import type { Add } from '../command/command.js';

/** Adds the command. */
export function addMigrateCommand(program: Command, add: Add): void {
  add(program, 'migrate', 'Bring the database schema up to date', 'database', async (call) =>
    (await import('./migrate.js')).migrateSchema(call),
  )
    .addOption(new Option('--status', 'Only say how the schema stands').conflicts('dryRun'))
    .option('--dry-run', 'Only say what would be done')
    .option('--json', 'The result as a JSON object');
}
