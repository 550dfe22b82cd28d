import { type Command, Option } from 'commander';
import { flagForms, type SettingGroup, type SettingName, settingEntries } from '../../config.js';

type Entry = (typeof settingEntries)[number][1];

/** Names the configuration file; not a setting, since no file can name itself. */
export const fileVariable = 'SVC_MQTT_CONFIG';
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
  const words = wordsOf(entry);
  const choice = words.every((word) => entry.help.includes(word)) ? '' : `${words.join(', ')}; `;
  const byDefault = entry.default === undefined ? '' : `; default ${String(entry.default)}`;
  return `${choice}env ${entry.env.join(' or ')}${byDefault}`;
}

function placeholder(entry: Entry): string {
  if (wordsOf(entry).length > 0) return 'word';
  if (entry.schema.type === 'integer') return 'n';
  if (entry.url === true) return 'url';
  if (entry.flag === 'wait') return 'duration';
  if (/-(dir)$/.test(entry.flag)) return 'dir';
  if (/-(file|ca|cert|key|bin)$/.test(entry.flag)) return 'path';
  return 'text';
}

export function isBoolean(entry: Entry): boolean {
  return entry.schema.type === 'boolean';
}

/** The words that a setting chooses from; none where it takes something else. */
export function wordsOf({ schema }: Entry): readonly string[] {
  return schema.type === 'string' ? (schema.enum ?? []) : [];
}
