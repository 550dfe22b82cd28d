import type { Command } from 'commander';
import type { Add } from './command-line.js';
import { toCount } from './usage-error.js';

/** Adds `policy` and the commands below it. */
export function addPolicyCommands(program: Command, add: Add): void {
  const policy = program.command('policy').description('Say what devices of a type may do');
  add(policy, 'list', 'List policies; other types have the default', 'database', async (call) =>
    (await import('./policy-list.js')).listAllPolicies(call.config, call.options, call.io),
  ).option('--json', 'One JSON object a line');
  add(policy, 'show <type>', 'Show the policy of a device type', 'database', async (call) =>
    (await import('./policy-show.js')).showPolicy(
      call.config,
      { ...call.options, type: call.args[0] },
      call.io,
    ),
  ).option('--json', 'As a JSON object');
  const collect = (value: string, earlier: unknown) => [...(Array.isArray(earlier) ? earlier : []), value];
  add(policy, 'set <type>', 'Set the policy of a device type, whole', 'database', async (call) =>
    (await import('./policy-set.js')).setDevicePolicy(
      call.config,
      { ...call.options, type: call.args[0] },
      call.io,
    ),
  )
    .option('--publish <template>', 'Topics to publish to, with {id} and {type}; may be repeated', collect)
    .option('--no-publish', 'Publish nothing')
    .option('--subscribe <template>', 'Filters to subscribe to; may be repeated', collect)
    .option('--no-subscribe', 'Subscribe to nothing')
    .option('--publish-rate <n>', 'Messages per second of one device', toCount('--publish-rate', 1_000_000))
    .option(
      '--max-packet-bytes <n>',
      'Largest packet, where it is less than MAX_PACKET_BYTES',
      toCount('--max-packet-bytes', 268_435_460),
    )
    .option('--nats-subject <template>', 'Subject in NATS, with {id}, {type} and {topic}')
    .option('--json', 'As a JSON object, with warnings')
    .addHelpText(
      'after',
      `
What is left out is the default: publish raw.{id}, raw/{id} and raw/{id}/#, subscribe cmd/{id}/#, and the server's
settings. Connected devices are under the policy within a second.`,
    );
  add(policy, 'remove <type>', 'Give a device type the default again', 'database', async (call) =>
    (await import('./policy-remove.js')).removeDevicePolicy(
      call.config,
      { ...call.options, type: call.args[0] },
      call.io,
    ),
  ).option('--json', 'As a JSON object');
}
