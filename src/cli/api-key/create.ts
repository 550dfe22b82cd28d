import type { Config } from '../../config.js';
import type { Role } from '../../db/api-keys.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { type CommandIo, requireWritten, write } from '../terminal/io.js';
import { blockTime } from '../terminal/table.js';
import { formatBlock, toJsonLine } from '../terminal/text.js';

export interface ApiKeyCreateOptions {
  readonly name?: string | undefined;
  readonly role?: Role | undefined;
  /** How long from now the key is valid; left out: for ever. */
  readonly expires?: number | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Makes a key of the HTTP API and shows it, once.
 *
 * @throws SvcMqttError USAGE without name or role, INPUT_INVALID, API_KEY_EXISTS, DATABASE_*.
 */
export async function createKey(config: Config, options: ApiKeyCreateOptions, io: CommandIo): Promise<void> {
  const { name, role, expires } = options;
  if (name === undefined || role === undefined) {
    throw usageError(
      `api-key create needs ${name === undefined ? '--name <name>' : '--role <role>'}`,
      'Example: svc-mqtt api-key create --name ci --role provisioner --expires 90d',
    );
  }
  const expiresAt = expires === undefined ? undefined : new Date(Date.now() + expires);
  const { key, isFirst } = await withStore(config, io, ({ apiKeys }) =>
    apiKeys.create({ name, role, expiresAt }),
  );
  const rows = [
    ['id', key.id],
    ['name', key.name],
    ['role', key.role],
    ['key', key.key],
    ['expires', key.expires_at === null ? 'never' : blockTime(io)(key.expires_at)],
  ] as const;
  await write(io.stdout, options.json === true ? toJsonLine(key) : formatBlock(rows));
  await requireWritten(io, `API key ${key.id} is made`, 'Revoke it and create another');
  if (options.json !== true) await write(io.stderr, 'Keep the key: nothing can show it again.\n');
  if (isFirst) {
    const note =
      'This is the first key: the HTTP API now wants a key or API_TOKEN of everybody, on this machine too.\n';
    await write(io.stderr, note);
  }
}
