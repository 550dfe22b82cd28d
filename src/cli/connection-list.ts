import type { SortField } from '../server/live.js';
import { type ApiConfig, openApi } from './api-address.js';
import { type CommandIo, write } from './io.js';
import { formatCount, toJsonLine } from './text.js';
import type { ConnectionRow } from './top/api.js';
import { cellWidth, toCellText, toWidth } from './top/cells.js';
import { columns, sortsDescending } from './top/columns.js';
import { awaitRates } from './top/snapshot.js';

export interface ConnectionListOptions {
  readonly url?: string | undefined;
  readonly filter?: string | undefined;
  readonly sort: SortField;
  readonly reverse?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly json?: boolean | undefined;
}

const defaultLimit = 50;
const pageSize = 500;

/**
 * Lists live connections of a replica. They come and go while pages are read: one that moved from a page to the next is
 * listed once.
 *
 * @throws SvcMqttError USAGE, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function listConnections(
  config: ApiConfig,
  options: ConnectionListOptions,
  io: CommandIo,
): Promise<void> {
  const { filter = '', sort, reverse = false, limit = defaultLimit, json = false } = options;
  const { api } = openApi(options.url, config);
  const request = { filter, sort, descending: sortsDescending(sort, reverse), offset: 0, limit: 1 };
  // To sort by rates that are not known yet would be to sort by nothing.
  if (sort === 'rate') await awaitRates(api, request, io.signal);
  const seen = new Set<string>();
  let widths: readonly number[] | undefined;
  let matching = 0;
  for (let offset = 0; offset < limit && !io.signal.aborted && !io.outputClosed.aborted; offset += pageSize) {
    const page = await api.page({ ...request, offset, limit: Math.min(pageSize, limit - offset) });
    const rows = page.connections.filter(({ id }) => !seen.has(id));
    for (const { id } of rows) seen.add(id);
    matching = page.matching;
    if (json) await write(io.stdout, rows.map((row) => toJsonLine(row)).join(''));
    else if (rows.length > 0) {
      const nowMs = Date.parse(page.at);
      const lines = rows.map((row) => toCells(row, nowMs));
      if (widths === undefined) {
        widths = widthsOf([header, ...lines]);
        await write(io.stdout, formatLine(header, widths));
      }
      const fixed = widths;
      await write(io.stdout, lines.map((cells) => formatLine(cells, fixed)).join(''));
    }
    if (offset + page.connections.length >= matching) break;
  }
  if (matching === 0) {
    const none = filter === '' ? 'No device is connected.' : `No connection matches “${toCellText(filter)}”.`;
    await write(io.stderr, `${none}\n`);
  } else if (matching > limit) {
    const all = formatCount(matching, 'connection');
    await write(io.stderr, `${all} match; --limit shows more of them.\n`);
  }
}

const header = ['ID', ...columns.map(({ title }) => title)];

function toCells(row: ConnectionRow, nowMs: number): string[] {
  return [toCellText(row.id), ...columns.map(({ text }) => text(row, nowMs))];
}

/** Client ids may have characters that take two cells. */
function widthsOf(lines: readonly (readonly string[])[]): number[] {
  return header.map((_, index) => Math.max(...lines.map((cells) => cellWidth(cells[index] ?? ''))));
}

function formatLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, index) => {
    const width = Math.max(widths[index] ?? 0, cellWidth(cell));
    return toWidth(cell, width, columns[index - 1]?.align ?? 'left');
  });
  return `${padded.join('  ').trimEnd()}\n`;
}
