import type { Config } from '../config.js';
import { SvcMqttError } from '../errors.js';
import { ownApiUrl } from './own-server.js';
import { openTopApi, type RemoteApi, sendOverHttp } from './top/api.js';
import { usageError } from './usage-error.js';

/** The settings that say where the API is, and with which key it is asked. */
export type ApiConfig = Pick<Config, 'listenAddr' | 'httpTlsCert' | 'apiToken' | 'apiKey'>;

/**
 * Opens the API of a replica; nothing is asked yet.
 *
 * @param given the value of --url.
 * @throws SvcMqttError USAGE.
 */
export function openApi(
  given: string | undefined,
  config: ApiConfig,
  options: { readonly timeoutMs?: number } = {},
): { url: string; api: RemoteApi } {
  const url = chooseUrl(given, config);
  return { url, api: openTopApi(sendOverHttp(url, config.apiKey ?? config.apiToken, options.timeoutMs)) };
}

/** The address of the API: as given, or where a server with these settings listens. */
function chooseUrl(given: string | undefined, config: ApiConfig): string {
  if (given === undefined) {
    const own = ownApiUrl(config);
    if (own !== undefined) return own;
    throw usageError('LISTEN_ADDR names port 0, which says not where to ask', 'Give --url');
  }
  const whole = given.includes('://') ? given : `http://${given}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw usageError(`--url cannot be "${given}"`, 'Give an address such as http://127.0.0.1:9091');
  }
  if (url.username !== '' || url.password !== '') {
    throw new SvcMqttError(
      'USAGE',
      '--url cannot carry a password, which every user of this machine could read',
      {
        suggestion: 'Give the key in API_KEY or API_KEY_FILE',
      },
    );
  }
  return url.href.replace(/\/+$/, '');
}
