import type { Command } from 'commander';
import type { Add } from '../command/command.js';
import { maxListed, toCount, toDurationMs } from '../command/usage-error.js';

/** Adds `claim` and the commands below it. */
export function addClaimCommands(program: Command, add: Add): void {
  const claim = program.command('claim').description('Let devices provision themselves');
  add(claim, 'create', 'Make a claim and show it, once', 'store', async (call) =>
    (await import('./verbs.js')).createClaim(call),
  )
    .usage('--type <type> [options]')
    .option('--type <type>', 'Type of the devices that it makes')
    .option('--uses <n>', 'How many devices it can make (default 1)', toCount('--uses', 1_000_000))
    .option(
      '--expires <duration>',
      'How long it can be used, such as 90s, 10m, 2h or 7d (default 1d)',
      toDurationMs('--expires'),
    )
    .option('--json', 'As a JSON object')
    .addHelpText(
      'after',
      `
A device shows the claim once and gets its own credentials:
  POST /claims/redeem {"claim":"svcmqttclaim_...","metadata":{"serial":"A-17"}}`,
    );
  add(claim, 'list', 'List claims, without their secrets', 'store', async (call) =>
    (await import('./verbs.js')).listClaims(call),
  )
    .alias('ls')
    .option('--all', 'Spent, expired and revoked claims too')
    .option('--limit <n>', 'Most claims shown; all unless given', toCount('--limit', maxListed))
    .option('--json', 'One JSON object a line');
  add(claim, 'revoke <id>', 'Revoke a claim; devices that it has made stay', 'store', async (call) =>
    (await import('./verbs.js')).revokeClaim(call),
  )
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'As a JSON object: id and outcome (revoked, already_revoked)');
}
