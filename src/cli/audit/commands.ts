import type { Command } from 'commander';
import type { Add } from '../command/command.js';
import { toCount, toDurationMs } from '../command/usage-error.js';

/** Adds the command. */
export function addAuditCommand(program: Command, add: Add): void {
  add(program, 'audit', 'Show who changed what, newest last', 'store', async (call) =>
    (await import('./list.js')).showAudit(call),
  )
    .option('--device <id>', 'Only changes of this device')
    .option(
      '--since <duration>',
      'Only changes of the last so long, such as 90s, 2h or 2d',
      toDurationMs('--since'),
    )
    .option(
      '--limit <n>',
      'Most changes shown, the latest ones; 100 unless given',
      toCount('--limit', 100_000),
    )
    .option('--json', 'One JSON object a line, for each device that a change was made to')
    .addHelpText(
      'after',
      `
A change of many devices at once is one line here; --device shows it for each of them, and --json has an entry for each.`,
    );
}
