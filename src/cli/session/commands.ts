import type { Command } from 'commander';
import type { Add } from '../command/command.js';
import { toCount } from '../command/usage-error.js';

const scope = `
Sessions in JetStream are those of all replicas, whichever answers. A viewer key is enough to look; to end takes an operator.`;

/** Adds `session` and the commands below it. */
export function addSessionCommands(program: Command, add: Add): void {
  const session = program
    .command('session')
    .description('Look at the sessions that outlive their connection, and end them');
  add(session, 'list', 'List sessions, of clients that are connected or away', 'api', async (call) =>
    (await import('./verbs.js')).listSessions(call),
  )
    .alias('ls')
    .option('--device <id>', 'Only sessions of this device')
    .option('--limit <n>', 'Most sessions shown (default 50)', toCount('--limit', 10_000_000))
    .option('--json', 'One JSON object a line')
    .addHelpText('after', scope);
  add(session, 'show <id>', 'Show a session, with its subscriptions', 'api', async (call) =>
    (await import('./verbs.js')).showSession(call),
  ).option('--json', 'As a JSON object');
  add(session, 'end [id...]', 'End sessions, with what waits for them', 'api', async (call) =>
    (await import('./verbs.js')).endSessions(call),
  )
    .option('--device <id>', 'All sessions of this device')
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'One JSON object a line: id and outcome (ended, unknown)');
}
