import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';

export type Releasers = ReturnType<typeof openReleasers>;

interface Closable {
  close(): Promise<unknown> | unknown;
}

/** Runs a start, and when it fails releases what it has acquired. */
export async function releaseOnFailure<T>(log: Log, start: (releasers: Releasers) => Promise<T>): Promise<T> {
  const releasers = openReleasers(log);
  try {
    return await start(releasers);
  } catch (error) {
    await releasers.releaseAll();
    throw error;
  }
}

/** What was acquired, to be released in reverse order, once. */
function openReleasers(log: Log) {
  const stack: { name: string; acquired: Closable }[] = [];
  let releasing: Promise<void> | undefined;

  async function run(): Promise<void> {
    for (let entry = stack.pop(); entry !== undefined; entry = stack.pop()) {
      try {
        await entry.acquired.close();
      } catch (error) {
        log.warn(
          { event: 'release_failed', of: entry.name, reason: messageOf(error) },
          'Something did not stop cleanly',
        );
      }
    }
  }

  return {
    /** Answers what was acquired; undefined: nothing was. */
    add<T extends Closable | undefined>(name: string, acquired: T): T {
      if (acquired !== undefined) stack.push({ name, acquired });
      return acquired;
    },
    /** Releases everything; a failure is logged and does not keep the others from being released. */
    releaseAll: (): Promise<void> => {
      releasing ??= run();
      return releasing;
    },
  };
}
