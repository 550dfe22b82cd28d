import { toApiKeyJson } from '../../api/api-key.js';
import type { Config } from '../../config.js';
import type { ApiKey, ApiKeyState } from '../../db/api-keys.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { tableTime, timeWidth, uncut } from '../terminal/table.js';

const pageSize = 1_000;

/**
 * Lists keys in order of name, page by page.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listKeys(
  config: Config,
  options: { readonly state: ApiKeyState; readonly limit?: number; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const { state } = options;
  await withStore(config, io, async ({ apiKeys }) => {
    const found = await writeListing<ApiKey>(io, {
      json: options.json,
      limit: options.limit,
      pageSize,
      read: (after, limit) => apiKeys.list({ state, after, limit }),
      toJson: toApiKeyJson,
      columns: () => toColumns(io),
    });
    if (!found) await write(io.stderr, `There are no ${state === 'all' ? '' : `${state} `}API keys.\n`);
  });
}

function toColumns(io: CommandIo): ListColumn<ApiKey>[] {
  const time = tableTime(io);
  const timeOr = (at: Date | null, none: string) => (at === null ? none : time(at));
  const expired = ({ expiresAt }: ApiKey) => expiresAt !== null && expiresAt.getTime() <= Date.now();
  const keep = timeWidth;
  return [
    { title: 'ID', keep: uncut, text: ({ id }) => id },
    { title: 'NAME', keep: 16, text: ({ name }) => name },
    { title: 'ROLE', keep: 11, text: ({ role }) => role },
    { title: 'CREATED', keep, text: ({ createdAt }) => time(createdAt) },
    { title: 'LAST USED', keep, text: ({ lastUsedAt }) => timeOr(lastUsedAt, 'never') },
    {
      title: 'EXPIRES',
      keep,
      text: (key) => `${timeOr(key.expiresAt, 'never')}${expired(key) ? ' (expired)' : ''}`,
    },
    { title: 'REVOKED', keep, text: ({ revokedAt }) => timeOr(revokedAt, '-') },
  ];
}
