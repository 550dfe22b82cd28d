import { useRef, useState } from 'preact/hooks';
import { type Loaded, useLoad } from './hooks.js';

/** A list that comes page by page. */
export interface Pages<Row> extends Pick<Loaded<unknown>, 'error' | 'refresh'> {
  /** Undefined until the first page of what is asked for now is there. */
  readonly rows: readonly Row[] | undefined;
  /** Asks for the next page, or throws why it does not come; undefined: this is all. */
  readonly more: (() => Promise<void>) | undefined;
}

/**
 * Loads a list from its beginning, and page after page as one asks for more.
 *
 * @param what names what is asked for: another name begins anew.
 */
export function usePages<Page extends { next_cursor: string | null }, Row>(
  what: string,
  ask: (cursor: string | undefined) => Promise<Page>,
  rowsOf: (page: Page) => readonly Row[],
): Pages<Row> {
  const { data, current, error, refresh } = useLoad(what, () => ask(undefined));
  const first = current ? data : undefined;
  const [further, setFurther] = useState<{ of: Page | undefined; pages: readonly Page[] }>({
    of: undefined,
    pages: [],
  });
  const latest = useRef(first);
  latest.current = first;
  const pages = first === undefined ? [] : [first, ...(further.of === first ? further.pages : [])];
  const cursor = pages.at(-1)?.next_cursor ?? undefined;
  return {
    rows: first === undefined ? undefined : pages.flatMap(rowsOf),
    error,
    refresh,
    more:
      cursor === undefined
        ? undefined
        : async () => {
            const page = await ask(cursor);
            // Late, it would put away what is shown of another list.
            if (latest.current === first) setFurther({ of: first, pages: [...pages.slice(1), page] });
          },
  };
}
