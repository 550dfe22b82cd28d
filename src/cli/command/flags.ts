import { type Config, flagForms, type SettingName, settingEntries } from '../../config.js';
import { type ConfigSources, type ReadSettings, readSettings } from '../../read-config.js';
import { settleTarget } from '../store/target.js';
import type { Uses } from './command.js';
import { fileVariable, settingSelections } from './setting-options.js';

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
  const settings = readCommandSettings(options, env, uses);
  if (uses === 'api') return settleTarget(settings, ['listenAddr'], 'goes before');
  // Where a device is looked up is no contradiction for who names none.
  if (uses === 'nats') return settleTarget(settings, ['databaseUrl', 'dataDir'], 'goes before');
  if (uses === 'store') return settleTarget(settings, ['databaseUrl', 'dataDir'], 'contradicts');
  return settings.config;
}

/** As it is given, with what set each setting. An option that the command has of its own may have the name of a setting that it does not take. */
export function readCommandSettings(
  options: Readonly<Record<string, unknown>>,
  env: ConfigSources['env'],
  uses: Uses = 'all',
): ReadSettings {
  const taken = uses === 'none' ? [] : settingSelections[uses];
  const flags: Partial<Record<SettingName, string | boolean>> = {};
  const secretFiles: Partial<Record<SettingName, string>> = {};
  for (const [name, entry] of settingEntries) {
    if (!taken.includes(name)) continue;
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
