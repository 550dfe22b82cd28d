import { SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import type { ApiConfig } from '../store/api-address.js';
import { callForJson, sendOverHttp } from '../store/api-send.js';
import { readContexts, writeContexts } from '../store/contexts.js';
import { ownApiUrl } from '../store/own-server.js';
import { checkUrl, localContext } from '../store/target.js';
import { askSecret } from '../terminal/ask.js';
import { type CommandIo, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/**
 * Remembers an API and a key that it takes, and makes commands use them.
 *
 * @throws SvcMqttError USAGE, UNAUTHENTICATED, API_UNREACHABLE, CONFIG_INVALID.
 */
export async function login({ config, options, args, io }: Call<{ readonly name?: string }>): Promise<void> {
  const given = args[0] ?? config.apiUrl ?? ownApiUrl(config);
  if (given === undefined)
    throw usageError('LISTEN_ADDR names port 0, which says not where to ask', 'Give a URL');
  const url = checkUrl(given);
  const name = options.name ?? new URL(url).host;
  if (name === localContext || !/^[A-Za-z0-9][A-Za-z0-9._:[\]-]{0,63}$/.test(name))
    throw usageError(
      `--name cannot be "${name}"`,
      'Give a word of up to 64 letters, digits, . _ : -, and not local',
    );
  const saved = readContexts(io.env);
  const key = await findKey(url, config, io);
  const contexts = [
    ...saved.contexts.filter((each) => each.name !== name),
    { name, url, ...(key && { key }) },
  ];
  const path = await writeContexts({ current: name, contexts }, io.env);
  if (options.json === true) await write(io.stdout, toJsonLine({ name, url }));
  else await write(io.stdout, `Logged in to ${url}: commands use it from now on, as the context ${name}.\n`);
  const what = key === undefined ? 'The API asks for no key so far; the address is' : 'Address and key are';
  await write(io.stderr, `${what} kept in ${escapeControls(path)}. \`svc-mqtt logout\` forgets it.\n`);
}

/** A key that the API takes; undefined: it asks for none. */
async function findKey(url: string, config: ApiConfig, io: CommandIo): Promise<string | undefined> {
  if (await isAccepted(url, undefined)) return undefined;
  const { protocol, hostname } = new URL(url);
  if (protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname))
    await write(io.stderr, `Warning: over http:// everybody on the way to ${hostname} can read the key.\n`);
  const key = config.apiKey ?? (await askSecret(`Key for ${url}: `, io));
  if (key === '')
    throw usageError('There is no key', 'Type it, or give it on stdin, in API_KEY or API_KEY_FILE');
  if (!/^[\x21-\x7e]+$/.test(key))
    throw usageError('That is no key: it holds spaces or characters beyond ASCII');
  if (await isAccepted(url, key)) return key;
  throw new SvcMqttError('UNAUTHENTICATED', `${url} does not take this key; nothing was remembered`, {
    suggestion: '`svc-mqtt api-key create` makes one',
  });
}

/** Whether the API lets in who shows a key, whatever the role of it. */
async function isAccepted(url: string, key: string | undefined): Promise<boolean> {
  const send = sendOverHttp(url, key);
  try {
    const { devices } = await callForJson<{ devices?: unknown }>(send, 'GET', '/devices?limit=1');
    if (Array.isArray(devices)) return true;
  } catch (error) {
    if (!(error instanceof SvcMqttError)) throw error;
    if (error.code === 'UNAUTHENTICATED') return false;
    if (error.code === 'FORBIDDEN') return true;
    throw error;
  }
  throw new SvcMqttError('API_UNREACHABLE', 'What answers is not the HTTP API of svc-mqtt', {
    suggestion: 'Check the address',
  });
}
