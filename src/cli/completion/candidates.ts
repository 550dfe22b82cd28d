import type { Command, Option } from 'commander';
import { settingEntries } from '../../config.js';
import type { Uses } from '../command/command.js';
import { addSettingOptions, settingSelections, wordsOf } from '../command/setting-options.js';
import { findCommand } from '../command/usage-error.js';
import { type CommandIo, write } from '../terminal/io.js';

/** A word that may stand next, and what it means. */
export interface Candidate {
  readonly word: string;
  readonly help: string;
}

/** Writes the candidates for the last word, one a line: the word, a tab, what it means. */
export async function writeCandidates(
  program: Command,
  uses: ReadonlyMap<Command, Uses>,
  words: readonly string[],
  io: CommandIo,
): Promise<void> {
  for (const { word, help } of completeWords(program, uses, words)) {
    await write(io.stdout, `${word}\t${help.replace(/\s+/g, ' ')}\n`);
  }
}

/**
 * What may stand in the place of the last word; nothing where a value is up to the user.
 *
 * @param words what follows the program's name; the last one, perhaps empty, is unfinished.
 */
export function completeWords(
  program: Command,
  uses: ReadonlyMap<Command, Uses>,
  words: readonly string[],
): Candidate[] {
  const current = words.at(-1) ?? '';
  let command = program;
  let awaiting: Option | undefined;
  let argumentsGiven = 0;
  for (const word of words.slice(0, -1)) {
    if (awaiting !== undefined) {
      awaiting = undefined;
      continue;
    }
    const subcommand = findCommand(command, word);
    if (subcommand !== undefined) {
      command = subcommand;
      addSettings(command, uses);
    } else if (word.startsWith('-')) {
      const option = command.options.find(({ long, short }) => word === long || word === short);
      if (option?.required === true) awaiting = option;
    } else {
      argumentsGiven += 1;
    }
  }
  const candidates =
    awaiting !== undefined
      ? listValues(awaiting)
      : current.startsWith('-')
        ? listOptions(command)
        : [...listCommands(command), ...listArguments(command, argumentsGiven)];
  return candidates.filter(({ word }) => word.startsWith(current));
}

function addSettings(command: Command, uses: ReadonlyMap<Command, Uses>): void {
  const settings = uses.get(command);
  if (settings === undefined || settings === 'none') return;
  addSettingOptions(command, settingSelections[settings]);
}

function listCommands(command: Command): Candidate[] {
  return command.commands.map((each) => ({ word: each.name(), help: each.description() }));
}

function listArguments(command: Command, given: number): Candidate[] {
  const argument = command.registeredArguments[given];
  return (argument?.argChoices ?? []).map((word) => ({ word, help: argument?.description ?? '' }));
}

function listOptions(command: Command): Candidate[] {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .flatMap(({ long, description }) => (long ? [{ word: long, help: description }] : []));
}

function listValues(option: Option): Candidate[] {
  const setting = settingEntries.find(([, entry]) => `--${entry.flag}` === option.long)?.[1];
  const words = option.argChoices ?? (setting === undefined ? [] : wordsOf(setting));
  return words.map((word) => ({ word, help: '' }));
}
