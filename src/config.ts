import { databaseSettings } from './settings/database.js';
import { httpSettings } from './settings/http.js';
import { limitsSettings } from './settings/limits.js';
import { mqttSettings } from './settings/mqtt.js';
import { natsSettings } from './settings/nats.js';
import { processSettings } from './settings/process.js';
import {
  named,
  type Setting,
  type SettingNames,
  type SettingSchema,
  type SettingValue,
} from './settings/setting.js';

/** The settings by group, in the order in which they are shown. */
const groups = {
  database: databaseSettings,
  nats: natsSettings,
  mqtt: mqttSettings,
  http: httpSettings,
  limits: limitsSettings,
  process: processSettings,
} as const;

/** The schema of the whole configuration: types, environment, flags, `--help` and docs/configuration.md come from it. */
export const settings = named({
  ...databaseSettings,
  ...natsSettings,
  ...mqttSettings,
  ...httpSettings,
  ...limitsSettings,
  ...processSettings,
});

export type SettingName = keyof typeof settings;
export type SettingGroup = keyof typeof groups;

/** A setting with its names and its group. */
export type GroupedSetting = Setting & SettingNames & { readonly group: SettingGroup };

type ValueOf<T> =
  T extends Setting<infer S, infer D>
    ? undefined extends D
      ? SettingValue<S> | undefined
      : SettingValue<S>
    : never;

export type Config = { readonly [K in SettingName]: ValueOf<(typeof settings)[K]> };

/** Every setting with its name, in the order of the table. */
export const settingEntries = Object.entries(groups).flatMap(([group, members]) =>
  Object.keys(members).map((name) => [name, { ...settings[name as SettingName], group }]),
) as [SettingName, GroupedSetting][];

/** The name of a setting in the configuration file: the documented variable in lower case. */
export function fileKey(entry: SettingNames): string {
  return entry.env[0].toLowerCase();
}

/** How a setting is given on the command line: with its value, with a file that holds it, or either. */
export function flagForms(entry: Setting): { readonly value: boolean; readonly file: boolean } {
  return { value: entry.secret !== true || entry.url === true, file: entry.secret === true };
}

/** What a setting accepts, in words: those of its schema, where the schema alone would be a regular expression. */
export function describeSchema(schema: SettingSchema): string {
  if (schema.type === 'boolean') return 'true or false';
  if (schema.type === 'integer') return `a whole number from ${schema.minimum} to ${schema.maximum}`;
  if (schema.enum !== undefined) return schema.enum.join(' or ');
  const { minLength = 1, maxLength, description } = schema;
  if (description !== undefined) return description;
  return maxLength === undefined
    ? `text of at least ${minLength} character${minLength === 1 ? '' : 's'}`
    : `text of ${minLength} to ${maxLength} characters`;
}

/** Splits `host:port`, `:port` or `port`; without a host the API listens on every address. */
export function splitListenAddr(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = colon <= 0 ? '::' : address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host, port: Number(address.slice(colon + 1)) };
}
