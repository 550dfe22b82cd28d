import { tooManyRequests } from './problem.js';

interface Waiting {
  readonly isGone: () => boolean;
  readonly run: () => void;
  readonly refuse: (error: Error) => void;
}

/** A rest is this many times as long as the work before it, which so takes a fifth of the time at most. */
const restForWork = 4;
/** Work so short may be followed by more at once. */
const shortMs = 1;

/**
 * Opens turns for work that holds up the event loop, and with it every device: one after the other, with rests between. At most
 * `maxWaiting` wait for theirs.
 */
export function openTurns(maxWaiting: number) {
  /** What waits, by caller, in the order of their turns. */
  const queues = new Map<string, Waiting[]>();
  let restUntilMs = Number.NEGATIVE_INFINITY;
  let scheduled = false;

  function perform<T>(work: () => T): T {
    const startMs = performance.now();
    try {
      return work();
    } finally {
      const endMs = performance.now();
      if (endMs - startMs >= shortMs) restUntilMs = endMs + (endMs - startMs) * restForWork;
    }
  }

  function serve(): void {
    scheduled = false;
    while (queues.size > 0 && performance.now() >= restUntilMs) nextOf(queues)?.run();
    if (queues.size > 0) schedule();
  }

  function schedule(): void {
    if (!scheduled) setTimeout(serve, Math.max(0, Math.ceil(restUntilMs - performance.now())));
    scheduled = true;
  }

  function dropGone(): void {
    for (const [caller, queue] of queues) {
      const left: Waiting[] = [];
      for (const waiting of queue) {
        if (waiting.isGone()) waiting.refuse(tooManyWait());
        else left.push(waiting);
      }
      if (left.length > 0) queues.set(caller, left);
      else queues.delete(caller);
    }
  }

  function makeRoom(caller: string): void {
    if (count(queues) < maxWaiting) return;
    dropGone();
    if (count(queues) < maxWaiting) return;
    const own = queues.get(caller)?.length ?? 0;
    const longest = [...queues.values()].reduce((a, b) => (b.length > a.length ? b : a));
    if (longest.length <= own + 1) throw tooManyWait();
    longest.pop()?.refuse(tooManyWait());
  }

  const tooManyWait = () =>
    tooManyRequests(
      `${maxWaiting} requests for this wait already, which is the limit; try again in a second`,
      1_000,
    );

  return {
    /**
     * Does the work when its turn comes: at once, when nothing waits and no rest is due.
     *
     * @param caller names who asks. The callers take turns, and when too many wait, the one who waits for most gives way.
     * @param isGone whether nobody waits for the answer any more: then nothing is done.
     * @throws ProblemError TOO_MANY_REQUESTS when too many wait.
     */
    async take<T>(caller: string, isGone: () => boolean, work: () => T): Promise<T> {
      if (queues.size === 0 && performance.now() >= restUntilMs) return perform(work);
      makeRoom(caller);
      return new Promise((resolve, reject) => {
        const run = () => {
          if (isGone()) {
            reject(tooManyWait());
            return;
          }
          try {
            resolve(perform(work));
          } catch (error) {
            reject(error);
          }
        };
        const queue = queues.get(caller);
        const waiting = { isGone, run, refuse: reject };
        if (queue === undefined) queues.set(caller, [waiting]);
        else queue.push(waiting);
        schedule();
      });
    },
  };
}

/** Takes out the oldest of the caller whose turn it is, who then comes last. */
function nextOf(queues: Map<string, Waiting[]>): Waiting | undefined {
  for (const [caller, queue] of queues) {
    const next = queue.shift();
    queues.delete(caller);
    if (queue.length > 0) queues.set(caller, queue);
    return next;
  }
  return undefined;
}

function count(queues: ReadonlyMap<string, Waiting[]>): number {
  let total = 0;
  for (const queue of queues.values()) total += queue.length;
  return total;
}
