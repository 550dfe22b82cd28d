import { isReadOnly } from '../../db/connection/inspect.js';
import type { Database } from '../../db/connection/open.js';
import type { Log } from '../../log.js';

const askEveryMs = 5_000;

/**
 * Follows how the database stands: whether it takes changes.
 *
 * @param options.problem why devices cannot be looked up in it, if they cannot.
 */
export async function startDatabaseHealth(options: {
  db: Database;
  log: Log;
  problem(): string | undefined;
}) {
  const { db, log, problem } = options;
  let readOnly = false;
  let asking = false;

  const ask = async () => {
    if (asking || problem() !== undefined) return;
    asking = true;
    try {
      const before = readOnly;
      readOnly = await isReadOnly(db);
      if (readOnly && !before) {
        log.warn(
          { event: 'database_read_only', where: db.where },
          'The database takes no changes: devices log in, and nothing about them can be changed',
        );
      } else if (before && !readOnly) {
        log.info({ event: 'database_writable', where: db.where }, 'The database takes changes again');
      }
    } catch {
      // That it does not answer is told by those who need it.
    } finally {
      asking = false;
    }
  };
  await ask();
  const timer = setInterval(() => void ask(), askEveryMs);
  timer.unref();

  return {
    /** It answers, so that every device can log in. */
    get ok() {
      return problem() === undefined;
    },
    /** The same in words, without an address. */
    get detail() {
      const whole = readOnly
        ? 'answers, but takes no changes: it is a standby, or set to read-only'
        : 'answers';
      return problem() ?? whole;
    },
    close: () => clearInterval(timer),
  };
}
