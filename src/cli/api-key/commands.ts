import { type Command, Option } from 'commander';
import type { Add } from '../command/command.js';
import { maxListed, toCount, toDurationMs } from '../command/usage-error.js';

/** Adds `api-key` and the commands below it. */
export function addApiKeyCommands(program: Command, add: Add): void {
  const apiKey = program.command('api-key').description('Say who may use the HTTP API');
  add(apiKey, 'create', 'Make a key of the HTTP API and show it, once', 'store', async (call) =>
    (await import('./verbs.js')).createKey(call),
  )
    .usage('--name <name> --role <role> [options]')
    .option('--name <name>', 'Its name, 1 to 64 characters of A-Z a-z 0-9 . _ -, the first a letter or digit')
    .addOption(
      new Option(
        '--role <role>',
        'enroller adds devices and sees only those, viewer looks, provisioner does both, operator everything',
      ).choices(['enroller', 'viewer', 'provisioner', 'operator']),
    )
    .option('--expires <duration>', 'How long it is valid, such as 12h or 90d', toDurationMs('--expires'))
    .option('--json', 'As a JSON object: id, name, role, key, created_at, expires_at');
  add(apiKey, 'list', 'List keys', 'store', async (call) => (await import('./verbs.js')).listKeys(call))
    .alias('ls')
    .addOption(new Option('--revoked', 'Only revoked keys').conflicts('all'))
    .option('--all', 'Revoked keys too')
    .option('--limit <n>', 'Most keys shown; all unless given', toCount('--limit', maxListed))
    .option('--json', 'One JSON object a line');
  add(
    apiKey,
    'revoke <name|id>',
    'Revoke a key for good; it is refused within a second',
    'store',
    async (call) => (await import('./verbs.js')).revokeKey(call),
  ).option('--json', 'As a JSON object: id, name and outcome (revoked, already_revoked)');
}
