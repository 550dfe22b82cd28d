import { batchesOf } from '../../db/connection/query.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import type { FollowedTable } from '../../db/feed/followed-tables.js';
import { RecencyMap } from '../recency-map.js';
import { type Loaded, openRowLoader } from './row-loader.js';

/** A row that is remembered. */
export interface KnownRow<Row, Note = unknown> {
  row: Row;
  /** Nothing since it was loaded suggests that it changed. */
  verified: boolean;
  /** What whoever works with the rows keeps with it. */
  readonly note: Note;
}

/** Why a row was loaded again: it was reported changed; or to make sure. Undefined: somebody asked for it. */
export type Suspicion = 'changed' | 'unsure' | undefined;

/** A row that was loaded. */
export interface LoadedRow<Row, Note = unknown> {
  readonly id: string;
  /** Undefined: it does not exist. */
  readonly row: Row | undefined;
  /** What was remembered of it, if it was. */
  readonly before: Row | undefined;
  readonly note: Note | undefined;
  readonly suspicion: Suspicion;
}

/** Rows of one table, a bounded number remembered and kept true; the last known stay while the database is away. */
export type LiveTable<Row extends { readonly id: string }, Note = unknown> = ReturnType<
  typeof openLiveTable<Row, Note>
>;

const retryMs = 250;
/** Most rows loaded one by one because they changed; at it everything remembered is checked instead. */
const maxSuspects = 50_000;
const idsPerCheck = 1_000;

/**
 * Opens a live table.
 *
 * What keeps it true: the feed names a changed row, and it is loaded again at once, or says that any may have changed.
 * Then every remembered row is doubted, which means that who wants it next asks the database, and every row in use and then
 * every remembered one is loaded again in batches. Besides, `rowsPerSweep` remembered rows are loaded again with every sweep of
 * the feed, so that even a change that nothing tells of, as with triggers switched off, is found in time.
 *
 * @param options.fetch reads the rows that exist among the ids.
 * @param options.limit most rows remembered; at it the one unused longest is forgotten.
 * @param options.rowsInUse ids of rows that matter though they may not be remembered.
 * @param options.makeNote what is kept with a row that is remembered from now on.
 * @param options.onLoaded called with every row that was loaded, for whatever reason.
 */
export function openLiveTable<Row extends { readonly id: string }, Note>(options: {
  feed: ChangeFeed;
  table: FollowedTable;
  limit: number;
  rowsPerSweep: number;
  fetch(ids: readonly string[]): Promise<readonly Row[]>;
  rowsInUse?(): Iterable<string>;
  makeNote(): Note;
  onLoaded?(loaded: LoadedRow<Row, Note>): void;
  onFailed(error: unknown): void;
}) {
  const { feed, onLoaded, rowsInUse = () => [] } = options;
  const known = new RecencyMap<string, KnownRow<Row, Note>>(options.limit);
  /** Rows to be loaded because they were reported changed, or to make sure; until that has succeeded. */
  const suspects = new Map<string, 'changed' | 'unsure'>();
  let closed = false;
  /** Counts the occasions on which everything was doubted. */
  let doubts = 0;

  const remember = (row: Row) => {
    const entry = known.get(row.id);
    if (entry === undefined) known.set(row.id, { row, verified: true, note: options.makeNote() });
    else Object.assign(entry, { row, verified: true });
  };
  const loader = openRowLoader<Row>({
    fetch: options.fetch,
    timeoutMs: feed.timeoutMs,
    onLoaded(id, row) {
      const entry = known.get(id);
      const before = entry?.row;
      const suspicion = suspects.get(id);
      suspects.delete(id);
      if (row === undefined) known.delete(id);
      else if (entry !== undefined) remember(row);
      if (!closed) onLoaded?.({ id, row, before, note: entry?.note, suspicion });
    },
    onFailed: options.onFailed,
  });

  const changed = (ids: readonly string[]) => {
    for (const id of ids) {
      suspects.set(id, 'changed');
      const entry = known.get(id);
      if (entry !== undefined) entry.verified = false;
      loader.changed(id);
      void loader.load(id);
    }
    if (suspects.size > maxSuspects) {
      suspects.clear();
      checkAll();
    }
  };
  const checkAll = () => {
    doubts += 1;
    for (const entry of known.values()) entry.verified = false;
    loader.allChanged();
    const mine = doubts;
    void checkInBatches(() => !closed && feed.live && doubts === mine);
  };
  /** Loads the rows in use and then the remembered ones again, a batch at a time, as long as `isCurrent`. */
  const checkInBatches = async (isCurrent: () => boolean) => {
    const inUse = new Set(rowsInUse());
    const remembered = [...known.keys()].filter((id) => !inUse.has(id));
    for (const batch of batchesOf([...inUse, ...remembered], idsPerCheck)) {
      let rest: readonly string[] = batch;
      while (rest.length > 0) {
        if (!isCurrent()) return;
        for (const id of rest) if (!suspects.has(id)) suspects.set(id, 'unsure');
        const results = await Promise.all(rest.map((id) => loader.load(id)));
        rest = rest.filter((_, index) => 'error' in (results[index] ?? {}));
        if (rest.length > 0) await new Promise((resolve) => setTimeout(resolve, retryMs));
      }
    }
  };

  let next = known.keys();
  const onSweep = () => {
    for (const id of suspects.keys()) void loader.load(id);
    for (let count = 0; count < options.rowsPerSweep; count += 1) {
      const { value: id, done } = next.next();
      if (done) {
        next = known.keys();
        return;
      }
      if (!suspects.has(id)) suspects.set(id, 'unsure');
      void loader.load(id);
    }
  };

  const unfollow = feed.follow(options.table, {
    onLive: checkAll,
    onChanged: (ids) => (ids === undefined ? checkAll() : changed(ids)),
    onSweep,
  });
  return {
    /** Rows remembered. */
    get size(): number {
      return known.size;
    },
    /** What is remembered of a row, without counting as use. */
    peek: (id: string): KnownRow<Row, Note> | undefined => known.get(id),
    /** What is remembered and may be answered, which a row that is reported changed may not, as use. */
    use(id: string): KnownRow<Row, Note> | undefined {
      const entry = known.use(id);
      // Not even while the database is away.
      return suspects.get(id) === 'changed' ? undefined : entry;
    },
    /** Loads a row; it is not remembered by that. */
    load: (id: string): Promise<Loaded<Row>> => loader.load(id),
    remember,
    /** Has rows loaded again that are known to have changed. */
    changed,
    close(): void {
      closed = true;
      unfollow();
    },
  };
}
