import type { Config } from '../../config.js';
import { parseApiKey } from '../../db/api-keys.js';
import { maskSecrets } from '../../db/secrets.js';
import { SvcMqttError } from '../../errors.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/**
 * Revokes a key of the HTTP API for good. It does not ask: a leaked key is in a hurry, and another is soon made.
 *
 * @throws SvcMqttError USAGE for the key itself, API_KEY_NOT_FOUND, DATABASE_*.
 */
export async function revokeKey(
  config: Config,
  options: { readonly key: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const parsed = parseApiKey(options.key);
  if (parsed !== undefined) {
    throw usageError(
      'A key is revoked by its name or id, and this is the key itself, which must not be an argument',
      `svc-mqtt api-key revoke ${parsed.id}`,
    );
  }
  const result = await withStore(config, io, ({ apiKeys }) => apiKeys.revoke(options.key));
  if (result === undefined) {
    const shown = escapeControls(maskSecrets(options.key));
    throw new SvcMqttError('API_KEY_NOT_FOUND', `There is no API key with the name or id ${shown}`, {
      suggestion: '`svc-mqtt api-key list --all` shows every key',
    });
  }
  const { id, name } = result.key;
  if (options.json === true) {
    const outcome = result.outcome === 'revoked' ? 'revoked' : 'already_revoked';
    await write(io.stdout, toJsonLine({ id, name, outcome }));
    return;
  }
  const words = result.outcome === 'revoked' ? 'revoked' : 'was revoked before';
  await write(io.stdout, `${escapeControls(name)} (${escapeControls(id)}) ${words}\n`);
}
