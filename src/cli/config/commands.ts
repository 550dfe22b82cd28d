import type { Command } from 'commander';
import type { Add } from '../command/command.js';

/** Adds `config` and the commands below it. */
export function addConfigCommands(program: Command, add: Add): void {
  const config = program.command('config').description('Show settings');
  add(config, 'print', 'Show the effective settings and where each came from', 'all', async (call) =>
    (await import('./print.js')).printConfig(call),
  )
    .option('--changed', 'Only what differs from the default')
    .option('--json', 'One JSON object a line: key, value (null: unset), origin, secret')
    .addHelpText('after', '\nSecrets and the passwords in URLs are masked.');
  add(
    config,
    'example',
    'Show a configuration file with every setting at its default',
    'none',
    async (call) => (await import('./example.js')).printConfigExample(call),
  );
}
