import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';

export type Releasers = ReturnType<typeof openReleasers>;

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
  const stack: { name: string; release: () => Promise<unknown> | unknown }[] = [];
  let releasing: Promise<void> | undefined;

  async function run(): Promise<void> {
    for (let entry = stack.pop(); entry !== undefined; entry = stack.pop()) {
      try {
        await entry.release();
      } catch (error) {
        log.warn(
          { event: 'release_failed', of: entry.name, reason: messageOf(error) },
          'Something did not stop cleanly',
        );
      }
    }
  }

  return {
    add: (name: string, release: () => Promise<unknown> | unknown): void =>
      void stack.push({ name, release }),
    /** Releases everything; a failure is logged and does not keep the others from being released. */
    releaseAll: (): Promise<void> => {
      releasing ??= run();
      return releasing;
    },
  };
}
