import type { Config } from '../config.js';
import { toApiKeyJson } from '../db/api-key-json.js';
import { type ApiKey, type ApiKeyState, listApiKeys, maxApiKeysPerPage } from '../db/api-keys.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { columnWidths, escapeControls, formatRow, formatTime, toJsonLine } from './text.js';

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
    let widths: readonly number[] | undefined;
    let after: ApiKey | undefined;
    for (;;) {
      const page = await listApiKeys(db, { state, after, limit: maxApiKeysPerPage });
      if (options.json === true) {
        await write(io.stdout, page.map((key) => toJsonLine(toApiKeyJson(key))).join(''));
      } else if (page.length > 0) {
        const rows = page.map(toCells);
        if (widths === undefined) {
          widths = columnWidths([header, ...rows]);
          await write(io.stdout, formatRow(header, widths));
        }
        const columns = widths;
        await write(io.stdout, rows.map((row) => formatRow(row, columns)).join(''));
      }
      if (page.length === 0 && after === undefined) {
        await write(io.stderr, `There are no ${state === 'all' ? '' : `${state} `}API keys.\n`);
      }
      after = page.at(-1);
      if (page.length < maxApiKeysPerPage || io.outputClosed.aborted) return;
    }
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
