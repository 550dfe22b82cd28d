import type { Config } from '../config.js';
import { toApiKeyJson } from '../db/api-key-json.js';
import { type ApiKey, type ApiKeyState, listApiKeys, maxApiKeysPerPage } from '../db/api-keys.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { writeListing } from './listing.js';
import { escapeControls, formatTime } from './text.js';

const header = ['ID', 'NAME', 'ROLE', 'CREATED', 'LAST USED', 'EXPIRES', 'REVOKED'];

/**
 * Lists keys in order of name, page by page.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listKeys(
  config: Config,
  options: { readonly state: ApiKeyState; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const { state } = options;
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const found = await writeListing<ApiKey>(io, {
      json: options.json,
      header,
      pageSize: maxApiKeysPerPage,
      read: (after) => listApiKeys(db, { state, after, limit: maxApiKeysPerPage }),
      toJson: toApiKeyJson,
      toCells,
    });
    if (!found) await write(io.stderr, `There are no ${state === 'all' ? '' : `${state} `}API keys.\n`);
  });
}

function toCells(key: ApiKey): string[] {
  const timeOr = (time: Date | null, none: string) => (time === null ? none : formatTime(time));
  const expired = key.expiresAt !== null && key.expiresAt.getTime() <= Date.now();
  return [
    escapeControls(key.id),
    escapeControls(key.name),
    key.role,
    formatTime(key.createdAt),
    timeOr(key.lastUsedAt, 'never'),
    `${timeOr(key.expiresAt, 'never')}${expired ? ' (expired)' : ''}`,
    timeOr(key.revokedAt, '-'),
  ];
}
