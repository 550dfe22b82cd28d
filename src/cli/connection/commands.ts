import { type Command, Option } from 'commander';
import { sortFields } from '../../api/constants.js';
import type { Add } from '../command/command.js';
import { toCount } from '../command/usage-error.js';

const allReplicas = `
Whichever replica is asked, it answers for all. A viewer key is enough to look; to kick takes an operator.`;

/** Adds `connection` and the commands below it. */
export function addConnectionCommands(program: Command, add: Add): void {
  const connection = program.command('connection').description('Look at live connections, and end them');
  add(connection, 'list', 'List the live connections of all replicas', 'api', async (call) =>
    (await import('./verbs.js')).listConnections(call),
  )
    .alias('ls')
    .option('--filter <words>', 'Only connections in which every word occurs')
    .option('--replica <id>', 'Only connections of this replica')
    .addOption(new Option('--sort <column>', 'What to sort by').choices(sortFields).default('device'))
    .option('--reverse', 'Sort the other way round')
    .option('--limit <n>', 'Most connections shown (default 50)', toCount('--limit', 1_000_000))
    .option('--json', 'One JSON object a line')
    .addHelpText('after', allReplicas);
  add(
    connection,
    'show <id>',
    'Show a connection, with its subscriptions and last topics',
    'api',
    async (call) => (await import('./verbs.js')).showConnection(call),
  ).option('--json', 'As a JSON object');
  add(connection, 'kick [id...]', 'End connections; their clients may come back', 'api', async (call) =>
    (await import('./verbs.js')).kickConnections(call),
  )
    .option('--device <id>', 'All connections of this device')
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'One JSON object a line: id and outcome (kicked, unknown)');
}
