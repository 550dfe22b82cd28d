import type { Call } from '../command/command.js';
import { write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { readStore } from './open.js';
import type { Pages, Store } from './store.js';

/** Writes a list of what a store has: see `writeListing`. */
export async function listStored<Row extends object>(
  { config, options, io }: Call<object>,
  list: {
    read(store: Store, most: number): Pages<Row>;
    columns(page: readonly Row[]): readonly ListColumn<Row>[] | Promise<readonly ListColumn<Row>[]>;
    /** What is said when there is nothing, with its full stop. */
    readonly none: string;
  },
): Promise<void> {
  const { json, limit } = options;
  await readStore(config, io, async (store) => {
    const read = (most: number) => list.read(store, most);
    const found = await writeListing(io, { json, limit, read, columns: list.columns });
    if (!found) await write(io.stderr, `${list.none}\n`);
  });
}
