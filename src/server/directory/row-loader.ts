import { within } from '../../time-limit.js';

/** What loading a row gave: the row, undefined when it does not exist; or why the database did not say. */
export type Loaded<Row> = { readonly row: Row | undefined } | { readonly error: unknown };

interface Load<Row> {
  readonly promise: Promise<Loaded<Row>>;
  readonly settle: (loaded: Loaded<Row>) => void;
  readonly askedAtMs: number;
  underWay: boolean;
  again: boolean;
}

const idsPerQuery = 1_000;

/**
 * Opens what loads rows in batches, one query after the other: while one is under way, what is asked for gathers for the next.
 * In a storm of connects a query for a few devices costs both sides more than the devices themselves; and a slow database is
 * asked less often and for more at once, where many small queries would queue up until each came too late.
 *
 * @param options.fetch reads the rows that exist among the ids.
 * @param options.timeoutMs longest wait for the answer to a query, and for a query while others fail; after it the
 *   database counts as away.
 * @param options.onLoaded called with every answer of the database, before those who asked get it.
 */
export function openRowLoader<Row extends { readonly id: string }>(options: {
  fetch(ids: readonly string[]): Promise<readonly Row[]>;
  timeoutMs: number;
  onLoaded(id: string, row: Row | undefined): void;
  onFailed(error: unknown): void;
}) {
  const loads = new Map<string, Load<Row>>();
  const queued: string[] = [];
  let flushing = false;
  let busy = false;

  const enqueue = (id: string) => {
    queued.push(id);
    if (!flushing) setImmediate(flush);
    flushing = true;
  };
  const flush = () => {
    flushing = false;
    if (busy || queued.length === 0) return;
    busy = true;
    void run(queued.splice(0, idsPerQuery)).finally(() => {
      busy = false;
      flush();
    });
  };
  /** Answers those who have waited for a query as long as one may take: behind a failed one their turn comes too late. */
  const giveUp = (error: unknown) => {
    const dueMs = performance.now() - options.timeoutMs;
    for (const id of queued.splice(0)) {
      const load = loads.get(id);
      if (load !== undefined && load.askedAtMs <= dueMs) {
        loads.delete(id);
        load.settle({ error });
      } else queued.push(id);
    }
  };
  const run = async (ids: readonly string[]) => {
    for (const id of ids) {
      const load = loads.get(id);
      if (load !== undefined) load.underWay = true;
    }
    let found: Map<string, Row> | undefined;
    let failure: unknown;
    try {
      const rows = await within(options.timeoutMs, options.fetch(ids));
      found = new Map(rows.map((row) => [row.id, row]));
    } catch (error) {
      failure = error;
      options.onFailed(error);
      giveUp(error);
    }
    for (const id of ids) {
      const load = loads.get(id);
      if (load === undefined) continue;
      if (found !== undefined && load.again) {
        load.again = false;
        load.underWay = false;
        enqueue(id);
        continue;
      }
      loads.delete(id);
      let problem = failure;
      try {
        if (found !== undefined) options.onLoaded(id, found.get(id));
      } catch (error) {
        // A row that cannot be used is nobody else's harm.
        problem = error;
        options.onFailed(error);
      }
      load.settle(problem === undefined ? { row: found?.get(id) } : { error: problem });
    }
  };

  return {
    /** Loads a row; requests for the same id share one load. */
    load(id: string): Promise<Loaded<Row>> {
      const existing = loads.get(id);
      if (existing !== undefined) return existing.promise;
      let settle: (loaded: Loaded<Row>) => void = () => {};
      const promise = new Promise<Loaded<Row>>((resolve) => {
        settle = resolve;
      });
      loads.set(id, { promise, settle, askedAtMs: performance.now(), underWay: false, again: false });
      enqueue(id);
      return promise;
    },
    /**
     * Says that a row has changed: a load of it that is under way may have read it before, so it is loaded
     * again before anyone gets an answer.
     */
    changed(id: string): void {
      const load = loads.get(id);
      if (load?.underWay === true) load.again = true;
    },
    /** Says that any row may have changed. */
    allChanged(): void {
      for (const load of loads.values()) load.again = load.underWay;
    },
  };
}
