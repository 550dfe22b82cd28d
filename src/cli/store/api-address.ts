import type { Config } from '../../config.js';
import { usageError } from '../command/usage-error.js';
import type { CommandIo } from '../terminal/io.js';
import { sendOverHttp } from './api-send.js';
import { type FollowMessages, followOverHttp } from './follow-messages.js';
import { openLiveApi, type RemoteApi } from './live-api.js';
import { ownApiUrl } from './own-server.js';
import { announce, chooseKey, findRemote, type TargetConfig } from './target.js';

/** The settings that say where the API is, and with which key it is asked. */
export type ApiConfig = TargetConfig & Pick<Config, 'listenAddr' | 'httpTlsCert'>;

/**
 * Opens the API of a replica; nothing is asked yet. It is the one that is named, that of a login, or of the server on this
 * machine.
 *
 * @param options.quietly nothing is said of a login that decides.
 * @throws SvcMqttError USAGE, CONFIG_INVALID.
 */
export function openApi(
  config: ApiConfig,
  io: CommandIo,
  options: { readonly timeoutMs?: number; readonly quietly?: boolean } = {},
): { url: string; api: RemoteApi; follow: FollowMessages } {
  const remote = findRemote(config, io.env);
  if (remote !== undefined && options.quietly !== true) announce(remote, io);
  const { url, key } = remote ?? findOwn(config, io.env);
  return {
    url,
    api: openLiveApi(sendOverHttp(url, key, options.timeoutMs)),
    follow: followOverHttp(url, key),
  };
}

/** Where a server with these settings listens on this machine. */
function findOwn(config: ApiConfig, env: CommandIo['env']): { url: string; key: string | undefined } {
  const url = ownApiUrl(config);
  if (url === undefined)
    throw usageError('LISTEN_ADDR names port 0, which says not where to ask', 'Give --url');
  return { url, key: chooseKey(url, config, env) };
}
