import { defaultPageLimit } from '../../api/schema.js';
import { invalidField } from './problem.js';

/** Makes the cursor of the page after a row. It says nothing to clients, which keeps paging free to change. */
export function encodeCursor(lastKey: string): string {
  return Buffer.from(lastKey).toString('base64url');
}

/** @throws ProblemError when it is not a cursor that `encodeCursor` made. */
export function decodeCursor(cursor: string): string {
  const key = Buffer.from(cursor, 'base64url').toString();
  if (key !== '' && !key.includes('\0') && encodeCursor(key) === cursor) return key;
  throw invalidField('cursor', 'is not a next_cursor of this API; leave it out to start with the first page');
}

/**
 * Makes a page of rows of which one more was read than the page is to hold: that one shows whether there is a further
 * page.
 *
 * @param keyOf what the page after a row is found by.
 */
export function makePage<Row>(
  rows: readonly Row[],
  limit: number,
  keyOf: (last: Row) => string,
): { page: Row[]; next: string | null } {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  const more = rows.length > limit && last !== undefined;
  return { page, next: more ? encodeCursor(keyOf(last)) : null };
}

/**
 * Reads the page that a query asks for.
 *
 * @param read reads rows: those behind a key, or the first ones.
 * @param keyOf what the page after a row is found by.
 */
export async function readPage<Row>(
  { limit = defaultPageLimit, cursor }: { limit?: number; cursor?: string },
  read: (place: { after: string | undefined; limit: number }) => Promise<readonly Row[]>,
  keyOf: (last: Row) => string,
): Promise<{ page: Row[]; next: string | null }> {
  const after = cursor === undefined ? undefined : decodeCursor(cursor);
  return makePage(await read({ after, limit: limit + 1 }), limit, keyOf);
}
