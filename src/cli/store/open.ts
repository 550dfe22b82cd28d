import type { Config } from '../../config.js';
import { type CommandIo, requireGoing, waitFor } from '../terminal/io.js';
import type { Store } from './store.js';
import { announce, findRemote } from './target.js';

/**
 * Opens what a command works on, runs `work` on it and closes it, whatever happens: the HTTP API that is named or was
 * logged in to, else the database.
 *
 * A signal does not end the work, which takes heed of it where it can stop: only its end says what was changed.
 *
 * @param options.creates of the database: see `withDatabase`.
 * @param options.endsAtOnce of the work: see `waitFor`.
 * @param options.looks a database whose schema is not up to date is refused, an embedded one too.
 * @throws SvcMqttError as `withDatabase`, `findRemote` and `work`; Interrupted when a signal came first.
 */
export async function withStore<T>(
  config: Config,
  io: CommandIo,
  work: (store: Store) => Promise<T>,
  options: { readonly creates?: boolean; readonly looks?: boolean; readonly endsAtOnce?: boolean } = {},
): Promise<T> {
  const remote = findRemote(config, io.env);
  if (remote === undefined) {
    const { requireSchema, withDatabase } = await import('./database.js');
    const { openDatabaseStore } = await import('./database-store.js');
    const onDatabase = async (db: Parameters<typeof openDatabaseStore>[0]) => {
      await requireSchema(db, options.looks === true);
      requireGoing(io.signal);
      return work(openDatabaseStore(db, config, io.signal));
    };
    return withDatabase(config, io, onDatabase, options);
  }
  announce(remote, io);
  const { openApiStore } = await import('./api-store.js');
  requireGoing(io.signal);
  return await waitFor(work(openApiStore(remote, io.signal)), io, options);
}

/** The same for work that changes nothing, which a signal ends at once. */
export function readStore<T>(config: Config, io: CommandIo, work: (store: Store) => Promise<T>): Promise<T> {
  return withStore(config, io, work, { endsAtOnce: true });
}
