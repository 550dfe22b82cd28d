import { type CommandIo, write } from './io.js';
import { columnWidths, formatRow, toJsonLine } from './text.js';

/**
 * Writes a list page by page, so that memory does not grow with its length: as JSON lines, or as a table with the column
 * widths of the first page.
 *
 * @param list.read reads the page after a row, the first one after none; one shorter than `pageSize` is the last.
 * @returns whether there was anything.
 */
export async function writeListing<Row>(
  io: CommandIo,
  list: {
    readonly json: boolean | undefined;
    readonly header: readonly string[];
    readonly pageSize: number;
    read(after: Row | undefined): Promise<readonly Row[]>;
    toJson(row: Row): object;
    /** Cells that a terminal can be shown as they are. */
    toCells(row: Row): string[];
  },
): Promise<boolean> {
  let widths: readonly number[] | undefined;
  let after: Row | undefined;
  for (;;) {
    const page = await list.read(after);
    if (list.json === true) {
      await write(io.stdout, page.map((row) => toJsonLine(list.toJson(row))).join(''));
    } else if (page.length > 0) {
      const rows = page.map(list.toCells);
      if (widths === undefined) {
        widths = columnWidths([list.header, ...rows]);
        await write(io.stdout, formatRow(list.header, widths));
      }
      const columns = widths;
      await write(io.stdout, rows.map((row) => formatRow(row, columns)).join(''));
    }
    after = page.at(-1) ?? after;
    if (page.length < list.pageSize || io.outputClosed.aborted) return after !== undefined;
  }
}
