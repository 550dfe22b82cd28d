/** Calls made in one turn; the rest follow after other work had its chance. */
const wokenPerTurn = 32;

/** Callers that wait until there is room, woken in the order in which they asked. */
export interface Waiters {
  add(callback: () => void): void;
  /** There may be room: wakes callers, soon and not from within this call, while there is. */
  wake(): void;
}

/** @param full whether there is no room; asked again before every call, since the woken ones take it. */
export function openWaiters(full: () => boolean): Waiters {
  let queue: (() => void)[] = [];
  let next = 0;
  let scheduled = false;

  function run(): void {
    scheduled = false;
    // Who asks again while being called waits behind all others.
    for (let woken = 0; woken < wokenPerTurn && next < queue.length && !full(); woken += 1) {
      const callback = queue[next];
      next += 1;
      callback?.();
    }
    if (next > 1_024 || next === queue.length) {
      queue = queue.slice(next);
      next = 0;
    }
    wake();
  }

  function wake(): void {
    if (scheduled || next === queue.length || full()) return;
    scheduled = true;
    setImmediate(run);
  }

  return {
    add(callback) {
      queue.push(callback);
      wake();
    },
    wake,
  };
}
