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
 * @param list.read reads the page after a row, the first one after none; one shorter than asked for is the last.
 * @param list.columns called with the first page, when it is not empty.
 * @returns whether there was anything.
 */
export async function writeListing<Row>(
  io: CommandIo,
  list: {
    readonly json: boolean | undefined;
    /** Most rows shown; undefined: all. */
    readonly limit: number | undefined;
    readonly pageSize: number;
    read(after: Row | undefined, limit: number): Promise<readonly Row[]>;
    toJson(row: Row): object;
    columns(page: readonly Row[]): readonly ListColumn<Row>[] | Promise<readonly ListColumn<Row>[]>;
  },
): Promise<boolean> {
  const { limit = Number.POSITIVE_INFINITY, pageSize } = list;
  let columns: readonly ListColumn<Row>[] | undefined;
  let table: ReturnType<typeof openTable> | undefined;
  let after: Row | undefined;
  let shown = 0;
  for (;;) {
    // One more than is shown says whether there are more.
    const asked = Math.min(pageSize, limit - shown + 1);
    const read = await list.read(after, asked);
    const page = read.slice(0, limit - shown);
    if (list.json === true) {
      await write(io.stdout, page.map((row) => toJsonLine(list.toJson(row))).join(''));
    } else if (page.length > 0) {
      columns ??= await list.columns(page);
      table ??= openTable(io, columns);
      const each = columns;
      await table(page.map((row) => each.map(({ text }) => text(row))));
    }
    shown += page.length;
    after = page.at(-1) ?? after;
    if (read.length > page.length) await write(io.stderr, 'There are more; --limit shows more of them.\n');
    if (read.length > page.length || read.length < asked || io.outputClosed.aborted) return shown > 0;
  }
}
