import type { Config, SettingName } from '../../config.js';
import type { ReadSettings } from '../../read-config.js';
import { usageError } from '../command/usage-error.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';
import { readContexts } from './contexts.js';

/** The name that stands for no login: what is on this machine. */
export const localContext = 'local';

/**
 * Decides between what settings say of an HTTP API and of what is on this machine: an option beats a variable, which
 * beats a line of the file. What is beaten is left out of the answer; `apiContext` is `local` where this machine is
 * named. Where neither is, the login that was chosen last decides (`findRemote`).
 *
 * @param local the settings that name what is on this machine.
 * @param tie what becomes of both in one place: a contradiction, or the API goes before.
 * @throws SvcMqttError USAGE.
 */
export function settleTarget(
  { config, origins }: ReadSettings,
  local: readonly SettingName[],
  tie: 'contradicts' | 'goes before',
): Config {
  const best = (names: readonly SettingName[]) =>
    names.reduce(
      (one, other) => (rankOf(origins[other]) > rankOf(origins[one]) ? other : one),
      names[0] ?? 'apiUrl',
    );
  const rank = (name: SettingName) => rankOf(origins[name]);
  const [here, there] = [best(local), best(['apiUrl', 'apiContext'])];
  const isTie = (one: SettingName, other: SettingName) => rank(one) > 0 && rank(one) === rank(other);
  if (isTie('apiUrl', 'apiContext')) throw contradiction(origins.apiUrl, origins.apiContext);
  if (tie === 'contradicts' && isTie(here, there)) throw contradiction(origins[there], origins[here]);
  const isRemote = rank(there) > 0 && rank(there) >= rank(here);
  if (!isRemote)
    return { ...config, apiUrl: undefined, apiContext: rank(here) > 0 ? localContext : undefined };
  return there === 'apiUrl' ? { ...config, apiContext: undefined } : { ...config, apiUrl: undefined };
}

function rankOf(origin: string): number {
  if (origin === 'default') return 0;
  return origin.startsWith('--') ? 3 : /^[A-Z][A-Z0-9_]*$/.test(origin) ? 2 : 1;
}

function contradiction(one: string, other: string) {
  return usageError(`${one} and ${other} are both given, and name different places`, 'Give one of them');
}

/** An API that commands are to ask. */
export interface Remote {
  readonly url: string;
  readonly key: string | undefined;
  /** The login that it comes from; undefined: it was named for this command. */
  readonly context: string | undefined;
}

export type TargetConfig = Pick<Config, 'apiUrl' | 'apiContext' | 'apiKey' | 'apiToken'>;

/**
 * The API that is named, or else that of the login that was chosen last; undefined: neither, so what is on this machine.
 * A login's key goes to the login's address only, and no key of the environment goes there.
 *
 * @param config settled.
 * @throws SvcMqttError USAGE, CONFIG_INVALID.
 */
export function findRemote(config: TargetConfig, env: CommandIo['env']): Remote | undefined {
  if (config.apiUrl !== undefined) {
    const url = checkUrl(config.apiUrl);
    return { url, key: chooseKey(url, config, env), context: undefined };
  }
  if (config.apiContext === localContext) return undefined;
  const { current, contexts } = readContexts(env);
  const name = config.apiContext ?? current;
  if (name === undefined) return undefined;
  const found = contexts.find((each) => each.name === name);
  if (found === undefined)
    throw usageError(
      `There is no context "${name}"`,
      '`svc-mqtt context` lists them, `svc-mqtt login` makes one',
    );
  return { url: found.url, key: found.key, context: name };
}

/** The key for an address that was named, or is this machine's own. */
export function chooseKey(
  url: string,
  config: Pick<TargetConfig, 'apiKey' | 'apiToken'>,
  env: CommandIo['env'],
): string | undefined {
  return config.apiKey ?? config.apiToken ?? readContexts(env).contexts.find((each) => each.url === url)?.key;
}

/** Says which API is asked when nothing in the command says so. */
export function announce({ url, context }: Remote, io: CommandIo): void {
  if (context !== undefined)
    io.stderr.write(`On ${escapeControls(url)} (context ${escapeControls(context)}).\n`);
}

/**
 * An address in the one form in which addresses are kept.
 *
 * @throws SvcMqttError USAGE.
 */
export function checkUrl(given: string): string {
  const whole = given.includes('://') ? given : `http://${given}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url !== undefined && (url.username !== '' || url.password !== '')) {
    throw usageError(
      'The address of the API cannot carry a password, which every user of this machine could read',
      'Give the key in API_KEY or API_KEY_FILE',
    );
  }
  if (
    url === undefined ||
    !['http:', 'https:'].includes(url.protocol) ||
    url.search !== '' ||
    url.hash !== ''
  ) {
    throw usageError(
      `The address of the API cannot be "${given}"`,
      'Give one such as http://127.0.0.1:9091 (--url, API_URL)',
    );
  }
  return url.href.replace(/\/+$/, '');
}
