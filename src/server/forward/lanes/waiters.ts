/** Calls made in one turn; the rest follow after other work had its chance. */
const wokenPerTurn = 32;

/**
 * Callers that wait until there is room, woken in the order in which they asked.
 *
 * @param full whether there is no room; asked again before every call, since the woken ones take it.
 */
export function openWaiters(full: () => boolean) {
  const queue = new Set<() => void>();
  let scheduled = false;

  function run(): void {
    scheduled = false;
    let woken = 0;
    // Who asks again while being called waits behind all others.
    for (const callback of queue) {
      if (woken === wokenPerTurn || full()) break;
      woken += 1;
      queue.delete(callback);
      callback();
    }
    wake();
  }

  /** There may be room: wakes callers, soon and not from within this call, while there is. */
  function wake(): void {
    if (scheduled || queue.size === 0 || full()) return;
    scheduled = true;
    setImmediate(run);
  }

  return {
    /** @returns a function that takes the request back. */
    add(callback: () => void): () => void {
      queue.add(callback);
      wake();
      return () => queue.delete(callback);
    },
    wake,
  };
}
