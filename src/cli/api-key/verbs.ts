import type { ApiKeyJson } from '../../api/api-key.js';
import type { Role } from '../../db/api-keys.js';
import { maskSecrets } from '../../db/secrets.js';
import { SvcMqttError } from '../../errors.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { listStored } from '../store/list.js';
import { withStore } from '../store/open.js';
import { type CommandIo, requireWritten, write } from '../terminal/io.js';
import type { ListColumn } from '../terminal/listing.js';
import { blockTime, tableTime, timeWidth, uncut } from '../terminal/table.js';
import { escapeControls, formatBlock, toJsonLine } from '../terminal/text.js';

interface CreateOptions {
  readonly name?: string;
  readonly role?: Role;
  /** How long from now the key is valid, ms; left out: for ever. */
  readonly expires?: number;
}

/**
 * Makes a key of the HTTP API and shows it, once.
 *
 * @throws SvcMqttError USAGE without name or role, INPUT_INVALID, API_KEY_EXISTS, DATABASE_*.
 */
export async function createKey({ config, options, io }: Call<CreateOptions>): Promise<void> {
  const { name, role, expires, json } = options;
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
  await write(io.stdout, json === true ? toJsonLine(key) : formatBlock(rows));
  await requireWritten(io, `API key ${key.id} is made`, 'Revoke it and create another');
  if (json !== true) await write(io.stderr, 'Keep the key: nothing can show it again.\n');
  if (isFirst) {
    const note =
      'This is the first key: the HTTP API now wants a key or API_TOKEN of everybody, on this machine too.\n';
    await write(io.stderr, note);
  }
}

/** Lists keys in order of name, page by page. @throws SvcMqttError DATABASE_*. */
export async function listKeys(
  call: Call<{ readonly all?: boolean; readonly revoked?: boolean }>,
): Promise<void> {
  const { all, revoked } = call.options;
  const state = all === true ? 'all' : revoked === true ? 'revoked' : 'active';
  await listStored(call, {
    read: ({ apiKeys }, limit) => apiKeys.list({ state, limit }),
    columns: () => toColumns(call.io),
    none: `There are no ${state === 'all' ? '' : `${state} `}API keys.`,
  });
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

/**
 * Revokes a key of the HTTP API for good. It does not ask: a leaked key is in a hurry, and another is soon made.
 *
 * @throws SvcMqttError USAGE for the key itself, API_KEY_NOT_FOUND, DATABASE_*.
 */
export async function revokeKey({ config, options, args: [given = ''], io }: Call): Promise<void> {
  // Over the API the other verbs do without the database.
  const { parseApiKey } = await import('../../db/api-keys.js');
  const parsed = parseApiKey(given);
  if (parsed !== undefined) {
    throw usageError(
      'A key is revoked by its name or id, and this is the key itself, which must not be an argument',
      `svc-mqtt api-key revoke ${parsed.id}`,
    );
  }
  const result = await withStore(config, io, ({ apiKeys }) => apiKeys.revoke(given));
  if (result === undefined) {
    const shown = escapeControls(maskSecrets(given));
    throw new SvcMqttError('API_KEY_NOT_FOUND', `There is no API key with the name or id ${shown}`, {
      suggestion: '`svc-mqtt api-key list --all` shows every key',
    });
  }
  const { id, name } = result.key;
  const words = result.outcome === 'revoked' ? 'revoked' : 'was revoked before';
  const json = { id, name, outcome: result.outcome.replace(' ', '_') };
  const text = `${escapeControls(name)} (${escapeControls(id)}) ${words}\n`;
  await write(io.stdout, options.json === true ? toJsonLine(json) : text);
}
