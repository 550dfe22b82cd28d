import { type Command, Option } from 'commander';
import { sortFields } from '../../api/constants.js';
import type { Add } from '../command/command.js';
import { toCount } from '../command/usage-error.js';

/** Declares `svc-mqtt top`. */
export function addTopCommand(program: Command, add: Add): void {
  add(program, 'top', 'Show live connections, devices, sessions, replicas and events', 'api', async (call) =>
    (await import('./top.js')).top(call.config, call.options, call.io),
  )
    .option('--once', 'Print one snapshot and end, as without a terminal')
    .option(
      '--json',
      'One JSON object a second, until the first that cannot be had: stats and connections; with --once one object',
    )
    .option('--limit <n>', 'Connections in a snapshot or JSON object (default 50)', toCount('--limit', 500))
    .addOption(new Option('--sort <column>', 'What to sort by').choices(sortFields).default('rate'))
    .option('--reverse', 'Sort the other way round')
    .option('--filter <words>', 'Only connections in which every word occurs')
    .addHelpText(
      'after',
      `
Shows all replicas, whichever is asked. The keys 1 to 5 and Tab go from connections to devices, sessions, replicas and
events; p shows the messages of a device as they pass; ? shows all keys. A viewer key is enough to look; messages,
kicks, the end of a session and a revocation take an operator.`,
    );
}
