import { readFileSync, statSync } from 'node:fs';
import { type Config, describeSchema, fileKey, type SettingName, settingEntries } from './config.js';
import { type ConfigFile, readConfigFile } from './config-file.js';
import { SvcMqttError } from './errors.js';
import { readValue } from './settings/setting.js';

type Setting = (typeof settingEntries)[number][1];

/** Largest file that a secret is read from. */
const maxSecretFileBytes = 65_536;

/** Where the configuration comes from. */
export interface ConfigSources {
  /** As `process.env`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly flags?: Partial<Record<SettingName, string | boolean>>;
  /** Files that hold a secret, as given by options. */
  readonly secretFiles?: Partial<Record<SettingName, string>>;
  /** The path of a configuration file. */
  readonly file?: string | undefined;
}

/** The configuration, and for each setting what set it: an option, a variable, a line of the file, or `default`. */
export interface ReadSettings {
  readonly config: Config;
  readonly origins: Readonly<Record<SettingName, string>>;
}

/**
 * Reads the configuration: an option beats the environment, which beats the file, which beats the default. A variable
 * set to the empty string counts as unset. Line ends behind a value are not part of it. A secret may stand in a file named by `secretFiles`, by its variable with
 * `_FILE` or by its key with `_file` appended.
 *
 * @throws SvcMqttError CONFIG_INVALID naming every setting that has a bad value, with value and remedy.
 */
export function readConfig(sources: ConfigSources): Config {
  return readSettings(sources).config;
}

/** As `readConfig`, with the origins. */
export function readSettings(sources: ConfigSources): ReadSettings {
  const config: Record<string, unknown> = {};
  const origins: Record<string, string> = {};
  const file = sources.file === undefined ? undefined : readConfigFile(sources.file);
  const problems: string[] = [...(file?.problems ?? [])];
  for (const [name, entry] of settingEntries) {
    const given = cleanText(findRaw(name, entry, sources, file), entry);
    origins[name] = given === undefined || 'problem' in given ? 'default' : given.source;
    if (given === undefined) {
      config[name] = entry.default;
      continue;
    }
    if ('problem' in given) {
      problems.push(given.problem);
      continue;
    }
    const value = readValue(entry.schema, given.raw);
    if (value !== undefined) config[name] = value;
    else {
      const shown = entry.secret === true ? 'the given value' : `"${String(given.raw)}"`;
      problems.push(`${given.source} cannot be ${shown}: it must be ${describeSchema(entry.schema)}`);
    }
  }
  if (problems.length > 0) throw new SvcMqttError('CONFIG_INVALID', problems.join('; '));
  return { config: config as Config, origins: origins as ReadSettings['origins'] };
}

/** The line end that editors, and files written on Windows, leave behind a value. No value begins or goes on there. */
const lineEnds = /[\r\n]+$/;

/**
 * Holds every value, whatever its source, to one rule: line ends behind it are taken off, control characters refused.
 * Only between the keywords of a DSN white space of any kind is part of the form.
 */
function cleanText(found: Found | undefined, entry: Setting): Found | undefined {
  if (found === undefined || 'problem' in found || typeof found.raw !== 'string') return found;
  const raw = found.raw.replace(lineEnds, '');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this looks for.
  if (!/[\x00-\x1f\x7f]/.test(entry.url === true ? raw.replace(/[\t\r\n]/g, ' ') : raw))
    return { ...found, raw };
  return { problem: `${found.source} holds a control character, such as a line break: remove it` };
}

/** A value as given, with the name of its source; or what is wrong with how it was given. */
type Found = { readonly source: string; readonly raw: string | boolean } | { readonly problem: string };

function findRaw(
  name: SettingName,
  entry: Setting,
  { env, flags, secretFiles }: ConfigSources,
  file: ConfigFile | undefined,
): Found | undefined {
  const flag = flags?.[name];
  const flagFile = secretFiles?.[name];
  const source = flag === false ? `--no-${entry.flag}` : `--${entry.flag}`;
  if (flag !== undefined && flagFile !== undefined)
    return { problem: `give ${source} or ${source}-file, not both` };
  if (flagFile !== undefined) return readSecretFile(`${source}-file`, flagFile);
  if (flag !== undefined) {
    if (entry.secret === true && carriesPassword(entry, String(flag))) {
      return {
        problem: `${source} cannot carry a password, which every user of this machine could read: set ${entry.env[0]} or use ${source}-file`,
      };
    }
    return { source, raw: flag };
  }
  const isSet = (variable: string) => (env[variable] ?? '').replace(lineEnds, '') !== '';
  const variable = entry.env.find(isSet);
  const fileVariable =
    entry.secret === true ? entry.env.map((each) => `${each}_FILE`).find(isSet) : undefined;
  if (variable !== undefined && fileVariable !== undefined) {
    return { problem: `set ${variable} or ${fileVariable}, not both` };
  }
  if (fileVariable !== undefined) return readSecretFile(fileVariable, env[fileVariable] ?? '');
  if (variable !== undefined) return { source: variable, raw: env[variable] ?? '' };
  return file === undefined ? undefined : findInFile(entry, file);
}

function findInFile(entry: Setting, file: ConfigFile): Found | undefined {
  const key = fileKey(entry);
  const given = file.entries.get(key);
  const secretFile = entry.secret === true ? file.entries.get(`${key}_file`) : undefined;
  if (secretFile !== undefined) {
    return given === undefined
      ? readSecretFile(secretFile.source, secretFile.raw)
      : { problem: `${given.source}: give ${key} or ${key}_file, not both` };
  }
  return given;
}

/** Reads a secret from a file; `givenPath` comes from the same sources as values do. */
function readSecretFile(source: string, givenPath: string): Found {
  const path = givenPath.replace(lineEnds, '');
  try {
    if (statSync(path).size > maxSecretFileBytes) {
      return { problem: `${source}: ${path} is over ${maxSecretFileBytes} bytes` };
    }
    const raw = readFileSync(path, 'utf8').replace(lineEnds, '');
    return raw === '' ? { problem: `${source}: ${path} is empty` } : { source, raw };
  } catch (error) {
    return {
      problem: `${source}: ${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
    };
  }
}

/** A secret setting's value that must not be an argument; a URL or DSN without a password may be one. */
export function carriesPassword(entry: Setting, value: string): boolean {
  if (entry.url !== true) return true;
  if (/(^|[\s?&])(ssl)?password\s*=/i.test(value)) return true;
  // NATS reads a lone word before the @ as a token, so there any word counts; PostgreSQL reads it as the user.
  return entry.group === 'nats' ? value.includes('@') : /:\/\/[^@]*:[^@]*@/.test(value);
}
