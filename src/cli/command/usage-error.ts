import type { Command, CommanderError } from 'commander';
import { readDurationMs } from '../../duration.js';
import { SvcMqttError } from '../../errors.js';
import { escapeControls } from '../terminal/text.js';

/** The name of a command with those above it, as it is typed. */
function commandPath(command: Command): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

/** What commander found wrong with a command line, as one line with the right form and a way to learn more. */
export function toUsageError(command: Command, error: CommanderError): SvcMqttError {
  const detail = describe(command, error)
    .replace(/^error: /, '')
    // An option may have been followed by a secret, which must not be repeated.
    .replace(/'(--?[^=']+)=[^']*'/, "'$1'")
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  const path = commandPath(command);
  const below = error.code === 'commander.unknownOption' ? commandPathBelow(command) : undefined;
  if (below !== undefined) {
    const option = /^unknown option '([^']+)'/.exec(detail)?.[1] ?? 'option';
    return new SvcMqttError('USAGE', escapeControls(`${option} stands before the command`), {
      suggestion: `Put it after the command: ${below} ${option} …`,
    });
  }
  return new SvcMqttError('USAGE', escapeControls(detail), {
    suggestion: `Usage: ${path} ${command.usage()}; see \`${path} --help\``,
  });
}

/** The path of the command that an argument of a group names, behind an option; undefined when none does. */
function commandPathBelow(group: Command): string | undefined {
  let named: Command | undefined;
  for (const word of group.args) named = findCommand(named ?? group, word) ?? named;
  return named === undefined ? undefined : commandPath(named);
}

/** The command below a group that a word names, by its name or an alias. */
export function findCommand(group: Command, word: string): Command | undefined {
  return group.commands.find((each) => each.name() === word || each.aliases().includes(word));
}

/** Commander's message, with names where it counts and with the form that a secret takes. */
function describe(command: Command, error: CommanderError): string {
  if (error.code === 'commander.excessArguments') {
    const excess = command.args.slice(command.registeredArguments.length);
    return `unexpected argument${excess.length === 1 ? '' : 's'} ${excess.map((each) => `'${each}'`).join(' ')}`;
  }
  const unknown = /^error: unknown option '(--[^=']+)/.exec(error.message)?.[1];
  const fileForm = command.options.find((option) => option.long === `${unknown}-file`)?.long;
  return fileForm === undefined
    ? error.message
    : `unknown option '${unknown}' (Secrets are never arguments: use ${fileForm} or the environment)`;
}

/** A usage error that the command itself found. */
export function usageError(detail: string, suggestion?: string): SvcMqttError {
  return new SvcMqttError('USAGE', escapeControls(detail), suggestion === undefined ? {} : { suggestion });
}

/** Most rows of a list that --limit can ask for. */
export const maxListed = 10_000_000;

/** A parser of a whole number from 1 to `most`, for an option's value. */
export function toCount(option: string, most: number): (value: string) => number {
  return (value) => {
    const count = /^\d{1,15}$/.test(value) ? Number(value) : 0;
    if (count >= 1 && count <= most) return count;
    throw usageError(`${option} cannot be "${value}": it must be a whole number from 1 to ${most}`);
  };
}

const longestDurationMs = 3_650 * 86_400_000;

/** The form of a duration, for messages. */
export const durationForm = 'one whole number with the unit s, m, h or d, such as 90s or 36h';

/** A parser of a duration such as `90s`, `10m`, `2h` or `1d`, for an option's value; up to ten years. */
export function toDurationMs(option: string): (value: string) => number {
  return (value) => {
    const durationMs = readDurationMs(value) ?? 0;
    if (durationMs > 0 && durationMs <= longestDurationMs) return durationMs;
    throw usageError(`${option} cannot be "${value}": it must be a duration, ${durationForm}, at most 3650d`);
  };
}
