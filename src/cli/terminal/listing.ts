import { type CommandIo, write } from './io.js';
import { openTable, type TableColumn } from './table.js';
import { toJsonLine } from './text.js';

/** A column of a list, and what stands in it. */
export interface ListColumn<Row> extends TableColumn {
  text(row: Row): string;
}

/**
 * Writes a list page by page, so that memory does not grow with its length: as JSON lines, or as a table with the column
 * widths of the first page. When there are more rows than the limit, stderr says so.
 *
 * @param list.read reads the pages of at most so many rows.
 * @param list.columns called with the first page, when it is not empty.
 * @returns whether there was anything.
 */
export async function writeListing<Row extends object>(
  io: CommandIo,
  list: {
    readonly json: boolean | undefined;
    /** Most rows shown; undefined: all. */
    readonly limit: number | undefined;
    read(most: number): AsyncIterable<readonly Row[]>;
    columns(page: readonly Row[]): readonly ListColumn<Row>[] | Promise<readonly ListColumn<Row>[]>;
  },
): Promise<boolean> {
  const { limit = Number.POSITIVE_INFINITY } = list;
  let columns: readonly ListColumn<Row>[] | undefined;
  let table: ReturnType<typeof openTable> | undefined;
  let shown = 0;
  // One more than is shown says whether there are more.
  for await (const read of list.read(limit + 1)) {
    const page = read.slice(0, limit - shown);
    if (list.json === true) await write(io.stdout, page.map(toJsonLine).join(''));
    else if (page.length > 0) {
      columns ??= await list.columns(page);
      table ??= openTable(io, columns);
      const each = columns;
      await table(page.map((row) => each.map(({ text }) => text(row))));
    }
    shown += page.length;
    if (read.length > page.length) await write(io.stderr, 'There are more; --limit shows more of them.\n');
    if (io.outputClosed.aborted) break;
  }
  return shown > 0;
}
