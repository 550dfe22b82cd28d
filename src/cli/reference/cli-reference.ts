import type { EventEmitter } from 'node:events';
import type { Argument, Command, Option } from 'commander';
import type { Uses } from '../command/command.js';

const settingsNotes: Readonly<Record<Uses, string>> = {
  all: 'all',
  database: 'the database and logging',
  store: 'the database, the HTTP API and logging',
  nats: 'database, HTTP API, NATS and logging',
  setup: '`NATS_SERVER_BIN` and logging',
  api: 'the HTTP API',
  none: 'none',
};

const preamble = `# Commands

This page is made from the commands themselves by \`npm run docs:cli\`; a test compares the two.

Results go to stdout, everything else to stderr. \`--json\` prints JSON, an object a line where there may be several, with the
same fields as the HTTP API. A failure is one line, \`svc-mqtt: what happened. What to do\`.

| exit status | meaning |
| --- | --- |
| 0 | Done. |
| 1 | It failed: something did not answer, refused, or does not exist. [errors.md](errors.md) has every code. Also: a question was answered with no, \`doctor\` found a problem, \`device import --continue\` refused a row, \`tail-nats --count\` ran out of time. |
| 2 | The command line, a setting or an input is wrong. |
| 128 + n | Signal n ended the command: 130 after Ctrl-C. A change that is under way is waited for: when it is made, the command ends as if no signal had come. \`serve\`, \`top\` and \`tail-nats\` are meant to be ended that way and exit with 0. |

Settings come from options, then from environment variables, then from the file that \`--config\` or \`SVC_MQTT_CONFIG\` names,
then from their defaults: [configuration.md](configuration.md) has all of them. Each command takes those that it uses. \`svc-mqtt config print\` shows what holds. A secret is never an argument, which every user of a machine could
read: it is a variable, or stands in a file.
`;

/** All commands as a Markdown page. */
export function renderCliReference(program: Command, uses: ReadonlyMap<Command, Uses>): string {
  const leaves = listLeaves(program);
  const contents = leaves.map(
    ({ path, command }) =>
      `- [\`${path}\`](#${path.replaceAll(' ', '-')}): ${escapeCell(command.description())}`,
  );
  const sections = leaves.map(({ path, command }) =>
    renderCommand(path, command, uses.get(command) ?? 'none'),
  );
  return [preamble, contents.join('\n'), ...sections].join('\n').concat('\n');
}

/** The commands that do something, each with what is typed behind the program's name. */
export function listLeaves(command: Command, path = ''): { path: string; command: Command }[] {
  return command.commands.flatMap((each) => {
    const below = `${path} ${each.name()}`.trim();
    return each.commands.length > 0 ? listLeaves(each, below) : [{ path: below, command: each }];
  });
}

function renderCommand(path: string, command: Command, uses: Uses): string {
  const options = command.options.filter(({ hidden }) => !hidden);
  const rows = [
    ...command.registeredArguments
      .filter(({ description }) => description !== '')
      .map((argument) => renderRow(argument.name(), argument)),
    ...options.map((option) => renderRow(option.flags, option)),
  ];
  return [
    '',
    `## ${path}`,
    '',
    `${escapeCell(command.description())}.`,
    '',
    '```',
    `svc-mqtt ${path} ${command.usage()}`,
    '```',
    ...command.aliases().flatMap((alias) => ['', `Also: \`${path.replace(/\S+$/, alias)}\`.`]),
    ...(rows.length > 0 ? ['', '| option | meaning |', '| --- | --- |', ...rows] : []),
    '',
    `Settings: ${settingsNotes[uses]}.`,
    ...renderAfter(command),
  ].join('\n');
}

function renderRow(name: string, { description, argChoices }: Argument | Option): string {
  const choices = argChoices === undefined ? '' : ` (${argChoices.join(', ')})`;
  return `| \`${name}\` | ${escapeCell(description)}${choices} |`;
}

/** What the help shows behind the options. */
function renderAfter(command: Command): string[] {
  const texts: string[] = [];
  (command as unknown as EventEmitter).emit('afterHelp', {
    error: false,
    command,
    write: (text: string) => texts.push(text),
  });
  const text = texts.join('').trim();
  return text === '' ? [] : ['', '```', text, '```'];
}

/** A bar would end the cell and an angle bracket could begin HTML. */
export function escapeCell(text: string): string {
  return text.replace(/\|/g, '\\|').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
