import { type Command, Option } from 'commander';
import { ackLevels } from '../../ack-level.js';
import { maxPublishRate, mostPacketBytes, refusalRules } from '../../policy.js';
import type { Add } from '../command/command.js';
import { maxListed, toCount } from '../command/usage-error.js';
import { collectFields, collectTemplates, refuseTemplates, resettableFields } from './options.js';

/** Adds `policy` and the commands below it. */
export function addPolicyCommands(program: Command, add: Add): void {
  const policy = program.command('policy').description('Say what devices of a type may do');
  add(policy, 'list', 'List policies; other types have the default', 'store', async (call) =>
    (await import('./verbs.js')).listPolicies(call),
  )
    .alias('ls')
    .option('--limit <n>', 'Most policies shown; all unless given', toCount('--limit', maxListed))
    .option('--json', 'One JSON object a line');
  add(policy, 'show <type>', 'Show the policy of a device type, or the default', 'store', async (call) =>
    (await import('./verbs.js')).showPolicy(call),
  ).option('--json', 'As a JSON object');
  addSetCommand(policy, add);
  add(policy, 'remove <type>', 'Give a device type the default again', 'store', async (call) =>
    (await import('./verbs.js')).removePolicy(call),
  )
    .alias('rm')
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'As a JSON object');
}

function addSetCommand(policy: Command, add: Add): void {
  add(policy, 'set <type>', 'Change the policy of a device type', 'store', async (call) =>
    (await import('./verbs.js')).setPolicy(call),
  )
    .option(
      '--publish <template>',
      'Topics to publish to, with {id} and {type}; may be repeated',
      collectTemplates('publish'),
    )
    .addOption(new Option('--no-publish', 'Publish nothing').argParser(refuseTemplates('publish')))
    .option(
      '--subscribe <template>',
      'Filters to subscribe to; may be repeated',
      collectTemplates('subscribe'),
    )
    .addOption(new Option('--no-subscribe', 'Subscribe to nothing').argParser(refuseTemplates('subscribe')))
    .option(
      '--publish-rate <n>',
      'Messages per second of one device',
      toCount('--publish-rate', maxPublishRate),
    )
    .option(
      '--max-packet-bytes <n>',
      'Largest packet, where it is less than MAX_PACKET_BYTES',
      toCount('--max-packet-bytes', mostPacketBytes),
    )
    .option('--nats-subject <template>', 'Subject in NATS, with {id}, {type} and {topic}')
    .addOption(new Option('--ack-level <level>', 'What an acknowledgement is to be worth').choices(ackLevels))
    .addOption(
      new Option(
        '--on-refusal <rule>',
        'What a client of MQTT 5 learns of a message that NATS refuses',
      ).choices(refusalRules),
    )
    .option('--receipts', 'PUBACK and PUBREC say where a message is stored, to clients of MQTT 5')
    .option('--no-receipts', 'They do not, unless the client asks for it')
    .addOption(
      new Option('--default <field>', 'A field to be as without a policy; may be repeated')
        .choices(resettableFields)
        .argParser(collectFields),
    )
    .option('--json', 'As a JSON object, with warnings')
    .addHelpText(
      'after',
      `
What no option names stays as it is; for a type without a policy that is the default: publish raw.{id}, raw/{id} and
raw/{id}/#, subscribe cmd/{id}/#, and the server's settings. The templates of --publish or --subscribe replace those
before. Connected devices are under the policy within a second.`,
    );
}
