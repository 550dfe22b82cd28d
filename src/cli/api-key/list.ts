import type { ApiKeyJson } from '../../api/api-key.js';
import type { Config } from '../../config.js';
import type { ApiKeyState } from '../../db/api-keys.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { tableTime, timeWidth, uncut } from '../terminal/table.js';

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
  await withStore(
    config,
    io,
    async ({ apiKeys }) => {
      const found = await writeListing<ApiKeyJson>(io, {
        json: options.json,
        limit: options.limit,
        read: (limit) => apiKeys.list({ state, limit }),
        columns: () => toColumns(io),
      });
      if (!found) await write(io.stderr, `There are no ${state === 'all' ? '' : `${state} `}API keys.\n`);
    },
    { endsAtOnce: true },
  );
}

function toColumns(io: CommandIo): ListColumn<ApiKeyJson>[] {
  const time = tableTime(io);
  const timeOr = (at: string | null, none: string) => (at === null ? none : time(at));
  const expired = ({ expires_at: at }: ApiKeyJson) => at !== null && Date.parse(at) <= Date.now();
  const keep = timeWidth;
  return [
    { title: 'ID', keep: uncut, text: ({ id }) => id },
    { title: 'NAME', keep: 16, text: ({ name }) => name },
    { title: 'ROLE', keep: 11, text: ({ role }) => role },
    { title: 'CREATED', keep, text: ({ created_at: at }) => time(at) },
    { title: 'LAST USED', keep, text: ({ last_used_at: at }) => timeOr(at, 'never') },
    {
      title: 'EXPIRES',
      keep,
      text: (key) => `${timeOr(key.expires_at, 'never')}${expired(key) ? ' (expired)' : ''}`,
    },
    { title: 'REVOKED', keep, text: ({ revoked_at: at }) => timeOr(at, '-') },
  ];
}
