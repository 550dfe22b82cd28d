import { type Command, Option } from 'commander';
import { type Config, flagForms, type SettingGroup, type SettingName, settingEntries } from '../config.js';
import { type ConfigSources, type ReadSettings, readSettings } from '../read-config.js';
import type { Uses } from './command-line.js';
import { settleTarget } from './target.js';

type Entry = (typeof settingEntries)[number][1];

/** Names the configuration file; not a setting, since no file can name itself. */
const fileVariable = 'SVC_MQTT_CONFIG';
const databaseSettings = ['databaseUrl', 'dataDir', 'databasePoolSize', 'databaseTimeoutMs'] as const;
/** Where commands find an API, and how; a server has no use for them. */
const remoteSettings: readonly SettingName[] = ['apiUrl', 'apiContext', 'apiKey'];
const logSettings = ['logLevel', 'logFormat'] as const;

/** Which settings each kind of command takes; `migrate` is a setting of the server alone. */
export const settingSelections: Readonly<
  Record<'all' | 'database' | 'store' | 'nats' | 'setup' | 'api', readonly SettingName[]>
> = {
  all: settingEntries.map(([name]) => name).filter((name) => !remoteSettings.includes(name)),
  database: [...databaseSettings, ...logSettings],
  store: [...databaseSettings, 'listenAddr', 'apiToken', ...remoteSettings, ...logSettings],
  nats: [
    ...databaseSettings,
    'apiToken',
    ...remoteSettings,
    'natsUrl',
    'embeddedNatsPort',
    'natsUser',
    'natsPassword',
    'natsToken',
    'natsNkeyFile',
    'natsCredsFile',
    'natsTlsCa',
    'natsTlsCert',
    'natsTlsKey',
    'natsSubject',
    ...logSettings,
  ],
  setup: ['natsServerBin', 'natsServerDownloadUrl', ...logSettings],
  api: ['listenAddr', 'apiToken', ...remoteSettings],
};

export const groupTitles: Readonly<Record<SettingGroup, string>> = {
  database: 'Database:',
  nats: 'NATS:',
  mqtt: 'MQTT:',
  http: 'HTTP API:',
  limits: 'Limits:',
  process: 'Process:',
};

/** Adds an option for every selected setting to a command, each in its group of the help. */
export function addSettingOptions(command: Command, selection: readonly SettingName[]): void {
  for (const [name, entry] of settingEntries) {
    if (!selection.includes(name)) continue;
    for (const option of settingOptions(entry)) command.addOption(option.helpGroup(groupTitles[entry.group]));
  }
  const help = `File with settings, YAML or JSON, as \`svc-mqtt config example\` shows (env ${fileVariable})`;
  command.addOption(new Option('--config <path>', help).helpGroup(groupTitles.process));
}

/** The options of one setting. Of a boolean both forms work and the help shows the one that changes something. */
function settingOptions(entry: Entry): Option[] {
  const help = `${entry.help} (${helpNotes(entry)})`;
  if (isBoolean(entry)) {
    const offHelp = `${entry.offHelp ?? help} (env ${entry.env.map((name) => `${name}=false`).join(' or ')})`;
    const [on, off] = [new Option(`--${entry.flag}`, help), new Option(`--no-${entry.flag}`, offHelp)];
    (entry.default === true ? on : off).hideHelp();
    return [on, off];
  }
  const { value, file } = flagForms(entry);
  const options: Option[] = [];
  if (value) options.push(new Option(`--${entry.flag} <${placeholder(entry)}>`, help));
  if (file) {
    const fileHelp = value
      ? `File with the value of --${entry.flag}, for one with a password (env ${entry.env[0]}_FILE)`
      : `${entry.help}, in a file (env ${entry.env[0]}, or ${entry.env[0]}_FILE for the file)`;
    options.push(new Option(`--${entry.flag}-file <path>`, fileHelp));
  }
  return options;
}

function helpNotes(entry: Entry): string {
  const words = (entry.schema as { enum?: readonly string[] }).enum ?? [];
  const choice = words.every((word) => entry.help.includes(word)) ? '' : `${words.join(', ')}; `;
  const byDefault = entry.default === undefined ? '' : `; default ${String(entry.default)}`;
  return `${choice}env ${entry.env.join(' or ')}${byDefault}`;
}

function placeholder(entry: Entry): string {
  const { type, enum: words } = entry.schema as { type?: string; enum?: readonly string[] };
  if (words !== undefined) return 'word';
  if (type === 'integer') return 'n';
  if (entry.url === true) return 'url';
  if (entry.flag === 'wait') return 'duration';
  if (/-(dir)$/.test(entry.flag)) return 'dir';
  if (/-(file|ca|cert|key|bin)$/.test(entry.flag)) return 'path';
  return 'text';
}

export function isBoolean(entry: Entry): boolean {
  return (entry.schema as { type?: string }).type === 'boolean';
}

/**
 * Reads the configuration of a command from its parsed options, the environment and the configuration file.
 *
 * @param options as commander parsed them, by the options' camel-case names.
 * @param uses whose settings the command takes.
 * @throws SvcMqttError CONFIG_INVALID, USAGE.
 */
export function readCommandConfig(
  options: Readonly<Record<string, unknown>>,
  env: ConfigSources['env'],
  uses: Uses = 'all',
): Config {
  const settings = readCommandSettings(options, env);
  if (uses === 'api') return settleTarget(settings, ['listenAddr'], 'goes before');
  // Where a device is looked up is no contradiction for who names none.
  if (uses === 'nats') return settleTarget(settings, ['databaseUrl', 'dataDir'], 'goes before');
  if (uses === 'store') return settleTarget(settings, ['databaseUrl', 'dataDir'], 'contradicts');
  return settings.config;
}

/** As it is given, with what set each setting. */
export function readCommandSettings(
  options: Readonly<Record<string, unknown>>,
  env: ConfigSources['env'],
): ReadSettings {
  const flags: Partial<Record<SettingName, string | boolean>> = {};
  const secretFiles: Partial<Record<SettingName, string>> = {};
  for (const [name, entry] of settingEntries) {
    const value = options[camelCase(entry.flag)];
    const forms = flagForms(entry);
    if (forms.value && (typeof value === 'string' || typeof value === 'boolean')) flags[name] = value;
    const file = options[camelCase(`${entry.flag}-file`)];
    if (forms.file && typeof file === 'string') secretFiles[name] = file;
  }
  const given = options.config ?? env[fileVariable];
  const file = typeof given === 'string' && given !== '' ? given : undefined;
  return readSettings({ env, flags, secretFiles, file });
}

function camelCase(flag: string): string {
  return flag.replace(/-(.)/g, (_match, letter: string) => letter.toUpperCase());
}
