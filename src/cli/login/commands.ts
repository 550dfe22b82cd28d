import type { Command } from 'commander';
import type { Add } from '../command/command.js';

/** Adds `login`, `logout` and `context`. */
export function addLoginCommands(program: Command, add: Add): void {
  add(program, 'login [url]', 'Remember an HTTP API and a key, for commands to use', 'api', async (call) =>
    (await import('./login.js')).login(call),
  )
    .option('--name <name>', 'How to call it; otherwise as its host and port')
    .option('--json', 'As a JSON object: name, url')
    .addHelpText(
      'after',
      `
Without an address: the API of the server on this machine. The key is asked for and not shown, or is the first line of
stdin, API_KEY or API_KEY_FILE. It is tried, and then kept in svc-mqtt/contexts.json in XDG_CONFIG_HOME or ~/.config, which
only you may read. From then on commands ask this API, unless an option or a variable names another place.`,
    );
  add(program, 'logout [name]', 'Forget a login: the one in use, or the named one', 'api', async (call) =>
    (await import('./context.js')).logout(call),
  );
  add(program, 'context [name]', 'Show the logins, or choose the one to use', 'api', async (call) =>
    (await import('./context.js')).chooseContext(call),
  )
    .option('--json', 'One JSON object a line: name, url, current')
    .addHelpText(
      'after',
      `
The name local stands for none: commands work on the database and the server of this machine again.

What names the place for a command: an option (--url, --context, or --database-url and --data-dir); else a variable
(API_URL, API_CONTEXT, or DATABASE_URL and DATA_DIR); else the file of --config; else the login in use, which stderr then
says; else this machine.`,
    );
}
