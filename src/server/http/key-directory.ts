import type { ApiKeyCredentials } from '../../db/api-keys.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { openLiveTable } from '../directory/live-table.js';
import type { Queries } from './queries.js';

/** `away`: the database does not answer, and the key is not remembered or that has lasted for a minute. */
export type KeyLookUp =
  | { readonly found: 'yes'; readonly key: ApiKeyCredentials }
  | { readonly found: 'no' }
  | { readonly found: 'away' };

/** The server's view of the API keys: live tables of the keys, and of whether there are any. */
export type KeyDirectory = ReturnType<typeof openKeyDirectory>;

/** For so long a key is known while the database is away. */
const keepMs = 60_000;
/** A little more than the minute that the database insists on, so that no write is in vain. */
const usedEveryMs = 62_000;
const usedRetryMs = 500;
/** Most keys remembered; at it the one used longest ago is forgotten. */
const maxKeys = 10_000;
/** Keys looked at again with every sweep, whatever was notified. */
const keysPerSweep = 100;
/** Most uses being written at a time; at it a key's next one is. */
const maxWriting = 32;
/** The one row of the table of whether there are keys. */
const any = 'any';

/** Opens the directory. */
export function openKeyDirectory(
  queries: Pick<Queries['keys'], 'load' | 'exist' | 'markUsed'>,
  feed: ChangeFeed,
  log: Log,
) {
  const listeners = new Set<() => void>();
  const tellEnded = () => {
    for (const listener of listeners) listener();
  };
  let writing = 0;
  const onFailed = (error: unknown) =>
    log.debug({ event: 'api_key_look_up_failed', reason: messageOf(error) }, 'A key could not be looked up');
  const keys = openLiveTable({
    feed,
    table: 'api_keys',
    limit: maxKeys,
    rowsPerSweep: keysPerSweep,
    fetch: (ids) => queries.load(ids),
    makeNote: () => ({ usedAtMs: Number.NEGATIVE_INFINITY }),
    onLoaded({ row, before }) {
      if (before?.revoked === false && row?.revoked !== false) tellEnded();
    },
    onFailed,
  });
  const existence = openLiveTable({
    feed,
    table: 'api_keys',
    limit: 1,
    rowsPerSweep: 0,
    fetch: async () => [{ id: any, found: await queries.exist() }],
    makeNote: () => undefined,
    onLoaded({ row, before }) {
      if (before?.found === false && row?.found === true) tellEnded();
    },
    onFailed,
  });
  const peek = (id: string) =>
    performance.now() - feed.awaySinceMs < keepMs ? keys.peek(id)?.row : undefined;

  return {
    async find(id: string): Promise<KeyLookUp> {
      const known = keys.use(id);
      const isKept = known !== undefined && peek(id) !== undefined;
      if (isKept && (known.verified || !feed.live)) return { found: 'yes', key: known.row };
      if (!feed.live) return { found: 'away' };
      const loaded = await keys.load(id);
      if ('error' in loaded) return isKept ? { found: 'yes', key: known.row } : { found: 'away' };
      if (loaded.row === undefined) return { found: 'no' };
      keys.remember(loaded.row);
      return { found: 'yes', key: loaded.row };
    },

    /** Has the database asked again at the next look-up. */
    forget: (id: string): void => keys.changed([id]),

    /** What is remembered of a key, without asking the database. */
    peek,

    /**
     * Whether keys exist, so that one is required; the last answer while the database is away.
     *
     * @throws SvcMqttError DATABASE_* when there was no answer yet.
     */
    async exist(): Promise<boolean> {
      const known = existence.peek(any);
      if (known !== undefined && (known.verified || !feed.live)) return known.row.found;
      const loaded = await existence.load(any);
      if ('row' in loaded && loaded.row !== undefined) {
        existence.remember(loaded.row);
        return loaded.row.found;
      }
      if (known === undefined) throw 'error' in loaded ? loaded.error : new Error('no answer');
      return known.row.found;
    },

    /** Notes that a key was used; written to the database at most once a minute. */
    used(id: string): void {
      const note = keys.use(id)?.note;
      const now = performance.now();
      if (note === undefined || now - note.usedAtMs < usedEveryMs || !feed.live || writing >= maxWriting)
        return;
      note.usedAtMs = now;
      writing += 1;
      // A database that takes no changes still answers look-ups.
      const onRefused = () => {
        note.usedAtMs = performance.now() - usedEveryMs + usedRetryMs;
      };
      queries
        .markUsed(id)
        .catch(onRefused)
        .finally(() => {
          writing -= 1;
        });
    },

    /** Calls back when somebody may have lost the right to call: a key has ended, or there are keys now. */
    onEnded: (listener: () => void) => void listeners.add(listener),

    close(): void {
      keys.close();
      existence.close();
    },
  };
}
