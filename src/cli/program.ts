import { Command, CommanderError, Option } from 'commander';
import type { Config } from '../config.js';
import { readVersion } from '../version.js';
import { addDeviceCommands } from './device-commands.js';
import type { CommandIo } from './io.js';
import { toCount, toDurationMs, toUsageError } from './usage-error.js';

/** One call of a command. */
interface Call {
  readonly config: Config;
  // biome-ignore lint/suspicious/noExplicitAny: commander parses into what each command declares below.
  readonly options: any;
  readonly args: readonly string[];
  readonly io: CommandIo;
}

/** What a command does: answers its exit status, or nothing for 0. */
type Run = (call: Call) => Promise<number | undefined> | Promise<void>;
/** Whose settings a command takes. */
type Uses = 'all' | 'database' | 'nats' | 'setup';

/**
 * Runs one command line.
 *
 * @param args what follows the program's name.
 * @returns the exit status.
 * @throws SvcMqttError, or Interrupted when a signal ended the command.
 */
export async function runProgram(args: readonly string[], io: CommandIo): Promise<number> {
  // `help x` reads as `x --help`, so that it shows the settings too, which load with the command.
  const line = args[0] === 'help' ? [...args.slice(1), '--help'] : args;
  let status = 0;
  const program = buildProgram(io, (value) => {
    status = value;
  });
  try {
    await program.parseAsync(line, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
  }
  return status;
}

/**
 * The commands and their options. Each loads its code, and the settings, when it is called: help and version
 * must not wait for a database.
 */
function buildProgram(io: CommandIo, finish: (status: number) => void): Command {
  const program = new Command('svc-mqtt')
    .description('Device gateway: MQTT devices in, NATS JetStream out, identities in PostgreSQL')
    .version(readVersion(), '-V, --version', 'Print the version')
    .addHelpText('after', '\nSettings are environment variables and options of the commands that use them.');
  const uses = new Map<Command, Uses>();

  const add = (parent: Command, usage: string, description: string, settings: Uses, run: Run): Command => {
    const command = parent.command(usage).description(description);
    uses.set(command, settings);
    return command.action(async () => {
      const { readCommandConfig } = await import('./flags.js');
      const options = command.opts();
      finish(
        (await run({ config: readCommandConfig(options, io.env), options, args: command.args, io })) ?? 0,
      );
    });
  };

  add(program, 'serve', 'Run the gateway: MQTT broker, forwarder and HTTP API', 'all', async (call) =>
    (await import('./serve.js')).serve(call.config, call.io),
  );
  addDeviceCommands(program.command('device').description('Add, look at, change and revoke devices'), add);
  addPolicyCommands(program.command('policy').description('Say what devices of a type may do'), add);
  addClaimCommands(program.command('claim').description('Let devices provision themselves'), add);
  addApiKeyCommands(program.command('api-key').description('Say who may use the HTTP API'), add);
  addAuditCommand(program, add);
  addMigrateCommand(program, add);
  addTailCommand(program, add);
  add(program, 'setup', 'Get the nats-server program for the embedded NATS server', 'setup', async (call) =>
    (await import('./setup.js')).setup(call.config, call.io),
  );
  prepare(program, io, uses);
  return program;
}

/** Adds a command to a parent. */
export type Add = (parent: Command, usage: string, description: string, settings: Uses, run: Run) => Command;

function addPolicyCommands(policy: Command, add: Add): void {
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
settings. Connected devices are under the policy within a second.

Example: svc-mqtt policy set sensor --publish 'raw/{id}/#' --subscribe 'cmd/{id}/#' --publish-rate 10`,
    );
  add(policy, 'remove <type>', 'Give a device type the default again', 'database', async (call) =>
    (await import('./policy-remove.js')).removeDevicePolicy(
      call.config,
      { ...call.options, type: call.args[0] },
      call.io,
    ),
  ).option('--json', 'As a JSON object');
}

function addClaimCommands(claim: Command, add: Add): void {
  add(claim, 'create', 'Make a claim and show it, once', 'database', async (call) =>
    (await import('./claim-create.js')).createDeviceClaim(call.config, call.options, call.io),
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
  POST /claims/redeem {"claim":"svcmqttclaim_...","metadata":{"serial":"A-17"}}

Example: svc-mqtt claim create --type sensor --uses 100 --expires 7d`,
    );
  add(claim, 'list', 'List claims, without their secrets', 'database', async (call) =>
    (await import('./claim-list.js')).listAllClaims(call.config, call.options, call.io),
  )
    .option('--all', 'Spent, expired and revoked claims too')
    .option('--json', 'One JSON object a line');
  add(claim, 'revoke <id>', 'Revoke a claim; devices that it has made stay', 'database', async (call) =>
    (await import('./claim-revoke.js')).revokeDeviceClaim(
      call.config,
      { ...call.options, id: call.args[0] },
      call.io,
    ),
  ).option('--json', 'As a JSON object: id and outcome (revoked, already_revoked)');
}

function addApiKeyCommands(apiKey: Command, add: Add): void {
  add(apiKey, 'create', 'Make a key of the HTTP API and show it, once', 'database', async (call) =>
    (await import('./api-key-create.js')).createKey(call.config, call.options, call.io),
  )
    .usage('--name <name> --role <role> [options]')
    .option('--name <name>', 'Its name, 1 to 64 characters of A-Z a-z 0-9 . _ -')
    .addOption(
      new Option(
        '--role <role>',
        'viewer looks, provisioner also adds devices, operator does everything',
      ).choices(['viewer', 'provisioner', 'operator']),
    )
    .option('--expires <duration>', 'How long it is valid, such as 12h or 90d', toDurationMs('--expires'))
    .option('--json', 'As a JSON object: id, name, role, key, created_at, expires_at');
  add(apiKey, 'list', 'List keys', 'database', async ({ config, options, io }) => {
    const state = options.all === true ? 'all' : options.revoked === true ? 'revoked' : 'active';
    await (await import('./api-key-list.js')).listKeys(config, { ...options, state }, io);
  })
    .addOption(new Option('--revoked', 'Only revoked keys').conflicts('all'))
    .option('--all', 'Revoked keys too')
    .option('--json', 'One JSON object a line');
  add(
    apiKey,
    'revoke <name|id>',
    'Revoke a key for good; it is refused within two seconds',
    'database',
    async ({ config, options, args, io }) =>
      (await import('./api-key-revoke.js')).revokeKey(config, { ...options, key: args[0] ?? '' }, io),
  ).option('--json', 'As a JSON object: id, name and outcome (revoked, already_revoked)');
}

function addAuditCommand(program: Command, add: Add): void {
  add(program, 'audit', 'Show who changed what, newest last', 'database', async ({ config, options, io }) =>
    (await import('./audit.js')).showAudit(config, options, io),
  )
    .option('--device <id>', 'Only changes of this device')
    .option(
      '--since <duration>',
      'Only changes of the last so long, such as 90s, 2h or 2d',
      toDurationMs('--since'),
    )
    .option(
      '--limit <n>',
      'Most entries shown, the latest ones; 100 unless given',
      toCount('--limit', 100_000),
    )
    .option('--json', 'One JSON object a line');
}

function addMigrateCommand(program: Command, add: Add): void {
  add(program, 'migrate', 'Bring the database schema up to date', 'database', async (call) =>
    (await import('./migrate.js')).migrateSchema(call.config, call.options, call.io),
  )
    .addOption(new Option('--status', 'Only say how the schema stands').conflicts('dryRun'))
    .option('--dry-run', 'Only say what would be done')
    .option('--json', 'The result as a JSON object');
}

function addTailCommand(program: Command, add: Add): void {
  add(program, 'tail-nats [subject]', 'Show messages in NATS as they come', 'nats', async (call) =>
    (await import('./tail-nats.js')).tailNats(
      call.config,
      { ...call.options, subject: call.args[0] },
      call.io,
    ),
  )
    .option('--count <n>', 'End after this many messages', toCount('--count', 1_000_000_000))
    .option(
      '--since <duration>',
      'Start with the messages stored since then, such as 90s, 10m, 2h or 1d',
      toDurationMs('--since'),
    )
    .option('--device <id>', 'Only this device, by NATS_SUBJECT; excludes a subject')
    .option('--full', 'Show payloads in full')
    .option('--json', 'One JSON object a line')
    .addHelpText(
      'after',
      `
The subject is raw.> unless given.

JSON lines have time (when it was stored or received), subject, topic (the MQTT topic, or null), size (bytes of
the payload), seq (its number in the stream; absent on a subject that no stream covers), encoding and payload:
encoding json: payload is the JSON value itself; text: a string; base64: a string, for any other bytes.`,
    );
}

/** Gives every command the same manners: errors are thrown, help goes to stdout, settings load when called. */
function prepare(command: Command, io: CommandIo, uses: ReadonlyMap<Command, Uses>): void {
  command
    .helpOption('-h, --help', 'Show this help')
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      // Only the help of a command without its subcommand comes here, and it is the answer to a question too.
      writeErr: (text) => io.stdout.write(text),
      outputError: () => {},
      getOutHelpWidth: () => Math.max(60, io.stdout.columns ?? 110),
      getErrHelpWidth: () => Math.max(60, io.stdout.columns ?? 110),
    })
    .exitOverride((error) => {
      throw error.exitCode === 0 || error.code === 'commander.help' ? error : toUsageError(command, error);
    })
    .on('beforeHelp', () => {
      const [word] = command.args;
      if (command.commands.length === 0 || word === undefined || word.startsWith('-')) return;
      command.error(`error: unknown command '${word}'`);
    })
    .hook('preSubcommand', async (_parent, subcommand) => {
      const settings = uses.get(subcommand);
      if (settings === undefined) return;
      const { addSettingOptions, settingSelections } = await import('./flags.js');
      addSettingOptions(subcommand, settingSelections[settings]);
    });
  for (const subcommand of command.commands) prepare(subcommand, io, uses);
}
