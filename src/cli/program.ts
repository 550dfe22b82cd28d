import { Command, CommanderError } from 'commander';
import type { Config } from '../config.js';
import { readVersion } from '../version.js';
import { addApiKeyCommands } from './api-key/commands.js';
import { addAuditCommand } from './audit/commands.js';
import { addClaimCommands } from './claim/commands.js';
import type { Add, Call, Run, Uses } from './command/command.js';
import { examples } from './command/examples.js';
import { requireOptionValues } from './command/option-values.js';
import { toUsageError } from './command/usage-error.js';
import { addCompletionCommand } from './completion/commands.js';
import { completeCommand } from './completion/script.js';
import { addConfigCommands } from './config/commands.js';
import { addConnectionCommands } from './connection/commands.js';
import { addDeviceCommands } from './device/commands.js';
import { addDoctorCommand } from './doctor/commands.js';
import { addLoginCommands } from './login/commands.js';
import { addMigrateCommand } from './migrate/commands.js';
import { addPolicyCommands } from './policy/commands.js';
import { listLeaves } from './reference/cli-reference.js';
import { addSessionCommands } from './session/commands.js';
import { addTailCommand } from './tail-nats/commands.js';
import type { CommandIo } from './terminal/io.js';
import { addTopCommand } from './top/commands.js';

/**
 * Runs one command line.
 *
 * @param args what follows the program's name.
 * @returns the exit status.
 * @throws SvcMqttError, or Interrupted when a signal ended the command.
 */
export async function runProgram(args: readonly string[], io: CommandIo): Promise<number> {
  const line = toLine(args);
  let status = 0;
  const { program, uses } = buildProgram(async (run, command) => {
    const { readCommandConfig } = await import('./command/flags.js');
    const options = command.opts();
    let config: Config | undefined;
    const call: Call = {
      get config() {
        // Once: what a secret comes from may be a pipe.
        config ??= readCommandConfig(options, io.env, uses.get(command) ?? 'none');
        return config;
      },
      options,
      args: command.args,
      io,
    };
    status = (await run(call)) ?? 0;
  });
  prepare(program, io, uses);
  if (line[0] === completeCommand) {
    await (await import('./completion/candidates.js')).writeCandidates(program, uses, line.slice(1), io);
    return 0;
  }
  try {
    await program.parseAsync(line, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
  }
  return status;
}

/** What is typed, in the one form that the commands know. */
function toLine(args: readonly string[]): readonly string[] {
  // So `help x` shows the settings too, which load with the command.
  if (args[0] === 'help') return [...args.slice(1), '--help'];
  return args[0] === '-V' ? ['--version', ...args.slice(1)] : args;
}

/**
 * The commands; each group declares its own. Each loads its code, and the settings, when it is called: help and version
 * must not wait for a database.
 *
 * @param call runs what a command does.
 */
export function buildProgram(call: (run: Run, command: Command) => void | Promise<void>): {
  readonly program: Command;
  readonly uses: ReadonlyMap<Command, Uses>;
} {
  const program = new Command('svc-mqtt')
    .description('Device gateway: MQTT devices in, NATS JetStream out, identities in PostgreSQL')
    .version(readVersion(), '-v, --version', 'Print the version')
    .addHelpText(
      'after',
      '\nSettings are options of the commands that use them, environment variables, and keys of the file that --config names.',
    );
  const uses = new Map<Command, Uses>();
  const add: Add = (parent, usage, description, settings, run) => {
    const command = parent.command(usage).description(description);
    uses.set(command, settings);
    return command.action(() => call(run, command));
  };

  add(program, 'serve', 'Run the gateway: MQTT broker, forwarder and HTTP API', 'all', async (call) =>
    (await import('./serve/serve.js')).serve(call),
  )
    .option('--tui', 'Show the live connections, as svc-mqtt top does; the log goes to serve.log in DATA_DIR')
    .addHelpText(
      'after',
      `
In a terminal the server says what runs where when it is ready, and of the log of its start shows warnings only;
LOG_FORMAT=pretty or LOG_LEVEL=debug shows all of it.`,
    );
  addTopCommand(program, add);
  addLoginCommands(program, add);
  addConnectionCommands(program, add);
  addSessionCommands(program, add);
  addDeviceCommands(program, add);
  addPolicyCommands(program, add);
  addClaimCommands(program, add);
  addApiKeyCommands(program, add);
  addAuditCommand(program, add);
  addMigrateCommand(program, add);
  addTailCommand(program, add);
  addConfigCommands(program, add);
  addDoctorCommand(program, add);
  add(program, 'setup', 'Get the nats-server program for the embedded NATS server', 'setup', async (call) =>
    (await import('./migrate/setup.js')).setup(call),
  ).option('--json', 'As a JSON object: path, version');
  addCompletionCommand(program, add);
  for (const { path, command } of listLeaves(program)) addExamples(command, examples[path] ?? []);
  return { program, uses };
}

function addExamples(command: Command, lines: readonly string[]): void {
  if (lines.length === 0) return;
  const title = lines.length === 1 ? 'Example:' : 'Examples:';
  command.addHelpText('after', ['', title, ...lines.map((line) => `  ${line}`)].join('\n'));
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
      if (settings === undefined || settings === 'none') return;
      const { addSettingOptions, settingSelections } = await import('./command/setting-options.js');
      addSettingOptions(subcommand, settingSelections[settings]);
    });
  requireOptionValues(command);
  for (const subcommand of command.commands) prepare(subcommand, io, uses);
}
