import type { Command } from 'commander';
import { usageError } from './usage-error.js';

/**
 * Makes a command refuse what begins with a hyphen as the value of the option before: it is far more often the next
 * option, behind a value that was forgotten. Behind an equals sign it is a value.
 */
export function requireOptionValues(command: Command): void {
  const parse = command.parseOptions.bind(command);
  command.parseOptions = (args) => {
    const end = args.indexOf('--');
    const words = end === -1 ? args : args.slice(0, end);
    for (let at = 0; at + 1 < words.length; at += 1) {
      const option = command.options.find(({ long, short }) => [long, short].includes(words[at]));
      if (option?.required !== true) continue;
      at += 1;
      const value = words[at] ?? '';
      // Of a number the option itself says what is wrong; a lone hyphen is stdin or stdout.
      if (!value.startsWith('-') || value === '-' || /<n>$/.test(option.flags)) continue;
      const shown = value.replace(/=.*/s, '');
      throw usageError(
        `${option.long} cannot be "${shown}": its value is missing`,
        `A value that begins with a hyphen is given as ${option.long}=VALUE`,
      );
    }
    return parse(args);
  };
}
