import { type Command, Option } from 'commander';
import { maxGraceMs } from '../../db/devices/device-fields.js';
import type { Add } from '../command/command.js';
import { maxListed, toCount, toDurationMs, usageError } from '../command/usage-error.js';
import { collectMetadata, collectWords, toExpiry, toExpiryOrNever, toQos } from './options.js';

const expiresHelp =
  'a duration such as 30d, a day (its beginning, UTC) or a time such as 2027-01-31T12:00:00Z';

const tableHelp = `
In a terminal the table fits its width, times are relative, and ONLINE says who is connected, where the HTTP API at
LISTEN_ADDR answers with API_KEY. Elsewhere nothing is cut: cells are parted by tabs and times are ISO 8601.`;

/** Adds `device` and the commands below it. */
export function addDeviceCommands(program: Command, add: Add): void {
  const device = program.command('device').description('Add, look at, change and revoke devices');
  addAddCommand(device, add);
  addLookCommands(device, add);
  addSetCommand(device, add);
  addRotateCommand(device, add);
  addRevocationCommands(device, add);
  addSendCommand(device, add);
  addCommandCommand(device, add);
  addTransferCommands(device, add);
}

function addAddCommand(device: Command, add: Add): void {
  add(device, 'add', 'Add devices and show their secrets, once', 'store', async (call) =>
    (await import('./add.js')).addDevice(call),
  )
    .usage('--type <type> [options]')
    .option('--type <type>', 'Type of the device, 1 to 128 characters')
    .addOption(
      new Option(
        '--id <id>',
        'Id to give it, such as roof-7 or a MAC address; otherwise one is generated',
      ).conflicts('count'),
    )
    .option('--count <n>', 'How many devices to add', toCount('--count', 100_000))
    .option(
      '-o, --output <file>',
      'Write their secrets to a new file, mode 0600: CSV, or JSON lines for *.jsonl; - is stdout',
    )
    .option('--force', 'Replace the file if it is there')
    .option('--expires <when>', `When they expire: ${expiresHelp}`, toExpiry('--expires'))
    .option(
      '--metadata <key=value>',
      'What to note about them, never a secret; may be repeated',
      collectMetadata('--metadata'),
    )
    .option(
      '--json',
      'One JSON object a line: id, type, mqtt_user, mqtt_password, created_at, and what was given',
    );
}

function addLookCommands(device: Command, add: Add): void {
  add(device, 'list', 'List devices', 'store', async (call) => (await import('./list.js')).listDevices(call))
    .alias('ls')
    .option('--type <type>', 'Only devices of this type')
    .option(
      '--metadata <key=value>',
      'Only devices with this entry; repeated: with all of them',
      collectMetadata('--metadata'),
    )
    .addOption(new Option('--revoked', 'Only revoked devices').conflicts(['all', 'expired']))
    .addOption(new Option('--expired', 'Only expired devices').conflicts('all'))
    .option('--all', 'Revoked and expired devices too')
    .addOption(
      new Option('--sort <column>', 'What to sort by; times: the latest first, expires: the soonest first')
        .choices(['id', 'type', 'created', 'last_seen', 'expires'])
        .default('id'),
    )
    .option('--reverse', 'Sort the other way round')
    .option('--limit <n>', 'Most devices shown; all unless given', toCount('--limit', maxListed))
    .option('--json', 'One JSON object a line')
    .addHelpText('after', tableHelp);
  add(device, 'show <id>', 'Show a device', 'store', async (call) =>
    (await import('./show.js')).showDevice(call),
  ).option('--json', 'As a JSON object, with online: true, false, or null where nobody can say');
}

function addSetCommand(device: Command, add: Add): void {
  add(device, 'set <id>', 'Change the expiry and the metadata of a device', 'store', async (call) =>
    (await import('./set.js')).setDevice(call),
  )
    .option('--expires <when>', `When it expires: never, ${expiresHelp}`, toExpiryOrNever('--expires'))
    .option(
      '--metadata <key=value>',
      'An entry to set; others stay; may be repeated',
      collectMetadata('--metadata'),
    )
    .option('--unset <key>', 'An entry to remove; may be repeated', collectWords)
    .option('--json', 'The device as it is then, as a JSON object');
}

function addRotateCommand(device: Command, add: Add): void {
  const toGraceMs = (value: string) => {
    const graceMs = toDurationMs('--grace')(value);
    if (graceMs <= maxGraceMs) return graceMs;
    throw usageError(`--grace cannot be "${value}": it must be at most 365d`);
  };
  add(device, 'rotate <id>', 'Give a device a new secret and show it, once', 'store', async (call) =>
    (await import('./rotate.js')).rotateDevice(call),
  )
    .option(
      '--grace <duration>',
      'Keep the old secret valid for so long, such as 24h; at most 365d',
      toGraceMs,
    )
    .option('--until-used', 'End the old secret when the new one is used, if that is earlier')
    .option('-y, --yes', 'Do not ask')
    .option(
      '--json',
      'As a JSON object: id, type, mqtt_user, mqtt_password and what becomes of the old secret',
    )
    .addHelpText(
      'after',
      `
Without --grace the old secret ends at once, and the connections made by it; that is asked first. With a grace both are valid; connections
made by the old one end with it, and their sessions wait for the device to come back with the new one.

Rotated again before the device has used the new secret, that one is replaced, and the one that the device has stays
valid for the new grace.`,
    );
}

function addRevocationCommands(device: Command, add: Add): void {
  add(device, 'revoke <id...>', 'Revoke devices; - reads ids from stdin', 'store', async (call) =>
    (await import('./revoke.js')).revokeDevices(call),
  )
    .option('--reason <text>', 'Why; kept in the audit log')
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'One JSON object a line: id and outcome (revoked, already_revoked, unknown)');
  add(
    device,
    'enable <id...>',
    'End the revocation of devices; - reads ids from stdin',
    'store',
    async (call) => (await import('./revoke.js')).enableDevices(call),
  ).option('--json', 'One JSON object a line: id and outcome (enabled, already_enabled, unknown)');
  add(device, 'remove <id...>', 'Remove devices for good; - reads ids from stdin', 'store', async (call) =>
    (await import('./revoke.js')).removeDevices(call),
  )
    .alias('rm')
    .option('-y, --yes', 'Do not ask')
    .option('--json', 'One JSON object a line: id and outcome (removed, unknown)')
    .addHelpText(
      'after',
      `
What is known of a device goes with it, except for the audit log, and its id is free for another one. To keep it out
and be able to let it in again, revoke it.`,
    );
}

function addSendCommand(device: Command, add: Add): void {
  add(device, 'send [arguments...]', 'Send a command to a device, or ask it', 'api', async (call) =>
    (await import('./send.js')).sendToDevice(call),
  )
    .usage('[options] <id> <topic> [payload|-]')
    .option('-f, --file <file>', 'The payload, from a file; - reads stdin')
    .option('--qos <n>', 'Largest QoS with which it is sent, 0 or 1 (default 1)', toQos)
    .option('--expires <duration>', 'A device that comes later does not get it, such as 1h')
    .option(
      '--wait <duration>',
      'Ask the device, which has to be connected, and print its answer; at most 60s',
    )
    .option('--ack', 'With --wait: that the device has it is the answer')
    .option('--type <type>', 'To all devices of this type, in place of an id')
    .option(
      '--metadata <key=value>',
      'To all devices with this entry; repeated: with all of them',
      collectMetadata('--metadata'),
    )
    .option('-y, --yes', 'Do not ask before sending to many')
    .option('--json', 'As a JSON object: device, topic, stored, answer; one a line with --type or --metadata')
    .addHelpText(
      'after',
      `
The topic is what follows cmd/<id>/. A command is stored in NATS until the device has it, however long it sleeps; with --wait nothing is
stored, and the device answers as docs/services.md says.`,
    );
}

function addCommandCommand(device: Command, add: Add): void {
  add(device, 'command <id> <sequence>', 'Show how far a command is that was sent', 'api', async (call) =>
    (await import('./command.js')).followCommand(call),
  )
    .option(
      '--wait <duration>',
      'Until a client has it or none will, no longer than this, such as 10m',
      toDurationMs('--wait'),
    )
    .option('--json', 'As a JSON object, as GET /devices/{id}/commands/{sequence} has it')
    .addHelpText(
      'after',
      `
The sequence is what device send prints. State of each session that takes the command, and of the device, the first of these:
  acknowledged  the client has acknowledged it
  sent          sent, and not acknowledged yet; with QoS 0 nobody acknowledges
  queued        it waits for the client
  unknown       the session is past it, too long ago to say how, or cannot be read
  refused       the client does not take it
  expired       its time was over first
  unclaimed     no session of the device takes it
With --wait the exit status is 1 unless it is acknowledged, or sent with QoS 0.`,
    );
}

function addTransferCommands(device: Command, add: Add): void {
  add(device, 'import <file>', 'Import devices from CSV or JSON; - reads stdin', 'store', async (call) =>
    (await import('./import.js')).importDevices(call),
  )
    .option('--hashed', 'The rows have secret_salt and secret_hash in place of secret')
    .option(
      '-o, --output <file>',
      'Generate ids and secrets that are missing, and write them to a new file, mode 0600',
    )
    .option('--continue', 'Import the good rows and list the others in --report; otherwise all or none')
    .option('--report <file>', 'New file for refused rows: line, column, id, problem')
    .option('--force', 'Replace these files if they are there')
    .option('--json', 'The result as a JSON object: imported, refused, generated')
    .addHelpText(
      'after',
      `
The first line of CSV names the columns, parted by commas, semicolons or tabs; JSON, as lines or an array of objects, has
fields of the same names:
  id                      as it is to be, 1 to 128 characters A-Z a-z 0-9 _ = ~ @ ! , : -; without it one is generated (--output)
  type                    required
  metadata                a JSON object of strings; or columns metadata.<key>
  created_at, expires_at, revoked_at, last_seen_at
                          such as 2027-01-31T12:00:00Z
  secret                  in clear, generated elsewhere, of at least 128 bits; without it one is generated (--output)
  mqtt_password           the same as secret, and mqtt_user as id: so files of \`device add --output\` can be imported
with --hashed in place of secret:
  secret_hash             SHA-256 of the bytes of salt and secret, one after the other
  secret_salt             16 to 64 bytes; both in hexadecimal or both in base64
  previous_secret_salt, previous_secret_hash, previous_secret_until, previous_secret_until_used
                          a secret that is being replaced, as \`device export --hashed\` writes it

Over the HTTP API all or none goes up to 1,000 devices; --continue imports any number.

In CSV an apostrophe before = + - @ is left out: export and --output put it there to keep spreadsheets from taking
the cell for a formula.`,
    );
  add(device, 'export', 'Write all devices as CSV or JSON lines', 'store', async (call) =>
    (await import('./export.js')).exportDevices(call),
  )
    .option('--hashed', 'With salts and hashes of the secrets, for `device import --hashed`')
    .option('--type <type>', 'Only devices of this type')
    .option(
      '--metadata <key=value>',
      'Only devices with this entry; repeated: with all of them',
      collectMetadata('--metadata'),
    )
    .option('-o, --output <file>', 'Write to a new file, mode 0600, in place of stdout, which - means, too')
    .option('--force', 'Replace the file if it is there')
    .addOption(
      new Option(
        '--format <name>',
        'csv, or jsonl for JSON lines; by default as --output is named, else csv',
      ).choices(['csv', 'jsonl']),
    )
    .addOption(new Option('--json', 'One JSON object a line, as --format jsonl').conflicts('format'));
}
