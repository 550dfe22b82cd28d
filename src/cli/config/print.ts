import { fileKey, settingEntries } from '../../config.js';
import { parseDatabaseUrl } from '../../db/connection/dsn.js';
import { carriesPassword } from '../../read-config.js';
import type { Call } from '../command/command.js';
import { readCommandSettings } from '../command/flags.js';
import { write } from '../terminal/io.js';
import { openTable } from '../terminal/table.js';
import { toJsonLine } from '../terminal/text.js';

type Setting = (typeof settingEntries)[number][1];

/**
 * Shows the settings that `serve` would run with, each with the option, variable or line of the file that set it.
 *
 * @throws SvcMqttError CONFIG_INVALID.
 */
export async function printConfig({ options, io }: Call): Promise<void> {
  const { config, origins } = readCommandSettings(options, io.env);
  const rows = settingEntries
    .map(([name, entry]) => ({
      key: fileKey(entry),
      value: maskSetting(entry, config[name]),
      origin: origins[name],
      secret: entry.secret === true,
      changed: config[name] !== entry.default,
    }))
    .filter(({ changed }) => options.changed !== true || changed);
  if (rows.length === 0) io.stderr.write('Every setting is at its default.\n');
  if (options.json === true) {
    for (const { changed: _, ...row } of rows) await write(io.stdout, toJsonLine(row));
    return;
  }
  const cells = rows.map(({ key, value, origin }) => [key, value === null ? '' : String(value), origin]);
  await openTable(io, [{ title: 'SETTING', keep: 32 }, { title: 'VALUE', keep: 16 }, { title: 'FROM' }])(
    cells,
  );
}

/** A value as it may be shown; null when it is unset. */
export function maskSetting(
  entry: Setting,
  value: string | number | boolean | undefined,
): string | number | boolean | null {
  if (value === undefined) return null;
  if (entry.secret !== true) return value;
  const shown = entry.url === true ? maskPasswords(String(value)) : undefined;
  return shown === undefined || carriesPassword(entry, shown.replace(/\S*\*\*\*@?/g, '')) ? '***' : shown;
}

/**
 * A URL, list of URLs or DSN without what stands for a password in it, and without the user of a URL; undefined when it
 * has another form, of which nobody knows what in it is secret: `password=two words`.
 */
function maskPasswords(text: string): string | undefined {
  const masked = text.replace(
    /((?:^|[\s?&])(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|(?:\\.|[^\s\\])+)/gi,
    '$1***',
  );
  // Of a DSN without a URL's scheme the rest is names; a NATS server may be given without a scheme.
  if (/^\s*[a-z_]+\s*=/i.test(masked)) {
    return isDsn(masked) ? masked : undefined;
  }
  return masked
    .split(',')
    .map((part) => part.replace(/^([a-z]+:\/\/)?.*@/i, (_match, scheme?: string) => `${scheme ?? ''}***@`))
    .join(',');
}

function isDsn(text: string): boolean {
  try {
    parseDatabaseUrl(text);
    return true;
  } catch {
    return false;
  }
}
