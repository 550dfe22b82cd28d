import { createTokenBuckets } from '../../token-buckets.js';

/** Addresses whose connects of the last second are remembered; above it the one that connected longest ago is forgotten. */
const maxAddresses = 100_000;

/** What waits of one address, from `head` on. */
interface Line<T> {
  readonly items: T[];
  head: number;
}

/**
 * New connections that wait for their turn: at most so many go on in a second, in all and of one address. Those of one
 * address go in their order, and the addresses take turns.
 *
 * @param options.release called with a connection that goes on.
 * @param options.drop called with a connection that is given up, since more than `maxWaiting` wait: the newest of the
 *   address of which most do.
 */
export function openConnectQueue<T>(options: {
  readonly perSecond: number;
  readonly perSecondPerAddress: number;
  readonly maxWaiting: number;
  readonly nowMs?: () => number;
  release(item: T): void;
  drop(item: T): void;
}) {
  const { perSecond, perSecondPerAddress, maxWaiting, nowMs = () => performance.now() } = options;
  const all = createTokenBuckets({ capacity: perSecond, perSecond, maxKeys: 1, nowMs });
  const byAddress = createTokenBuckets({
    capacity: perSecondPerAddress,
    perSecond: perSecondPerAddress,
    maxKeys: maxAddresses,
    nowMs,
  });
  const lines = new Map<string, Line<T>>();
  /** Addresses that may have their turn, in the order of the turns; the others wait for a time. */
  const ready = new Set<string>();
  const notBeforeMs = new Map<string, number>();
  const crowds = openCrowds();
  let waiting = 0;

  function releaseDue(): void {
    while (ready.size > 0 && all.take('') === 0) {
      if (!releaseNext()) {
        all.giveBack('');
        return;
      }
    }
  }

  /** Releases one of the first address that has not used up its rate. */
  function releaseNext(): boolean {
    for (const address of ready) {
      ready.delete(address);
      const waitMs = byAddress.take(address);
      if (waitMs > 0) {
        notBeforeMs.set(address, nowMs() + waitMs);
        continue;
      }
      const item = takeFirst(address);
      if (lines.has(address)) ready.add(address);
      options.release(item);
      return true;
    }
    return false;
  }

  function takeFirst(address: string): T {
    const line = lines.get(address) as Line<T>;
    const item = line.items[line.head] as T;
    line.head += 1;
    if (line.head > 1_000 && line.head * 2 > line.items.length) {
      line.items.splice(0, line.head);
      line.head = 0;
    }
    leave(address, line);
    return item;
  }

  function dropOne(): void {
    const address = crowds.largest();
    const line = lines.get(address) as Line<T>;
    const item = line.items.pop() as T;
    leave(address, line);
    options.drop(item);
  }

  function leave(address: string, line: Line<T>): void {
    const left = line.items.length - line.head;
    waiting -= 1;
    crowds.move(address, left + 1, left);
    if (left > 0) return;
    lines.delete(address);
    ready.delete(address);
    notBeforeMs.delete(address);
  }

  return {
    get waiting() {
      return waiting;
    },

    /** Takes a connection; answers what it waits for, or undefined when it went on at once, or is not kept. */
    add(item: T, address: string): 'all' | 'address' | undefined {
      // Nobody is before it.
      if (waiting === 0 && all.take('') === 0) {
        if (byAddress.take(address) === 0) {
          options.release(item);
          return undefined;
        }
        all.giveBack('');
      }
      const line = lines.get(address) ?? { items: [], head: 0 };
      line.items.push(item);
      const length = line.items.length - line.head;
      waiting += 1;
      crowds.move(address, length - 1, length);
      lines.set(address, line);
      if (!notBeforeMs.has(address)) ready.add(address);
      releaseDue();
      if (waiting > maxWaiting) dropOne();
      if (line.items.at(-1) !== item || line.items.length === line.head) return undefined;
      return notBeforeMs.has(address) ? 'address' : 'all';
    },

    /** Time has passed: releases those whose turn has come. */
    advance(): void {
      const now = nowMs();
      for (const [address, ms] of notBeforeMs) {
        if (ms > now) continue;
        notBeforeMs.delete(address);
        ready.add(address);
      }
      releaseDue();
    },

    /** Takes out everything that waits. */
    clear(): T[] {
      const items = [...lines.values()].flatMap((line) => line.items.slice(line.head));
      for (const [address, line] of lines) crowds.move(address, line.items.length - line.head, 0);
      lines.clear();
      ready.clear();
      notBeforeMs.clear();
      waiting = 0;
      return items;
    },
  };
}

/** Addresses by how many of each wait, so that the largest crowd is found without a search. */
function openCrowds() {
  const bySize = new Map<number, Set<string>>();
  let max = 0;

  return {
    /** Notes that `to` of an address wait instead of `from`, one more or less, or none at all. */
    move(address: string, from: number, to: number): void {
      const before = bySize.get(from);
      before?.delete(address);
      if (before?.size === 0) bySize.delete(from);
      if (to > 0) {
        const after = bySize.get(to) ?? new Set();
        bySize.set(to, after.add(address));
      }
      max = Math.max(max, to);
      while (max > 0 && !bySize.has(max)) max -= 1;
    },
    /** An address of which most wait; only while any does. */
    largest(): string {
      for (const address of bySize.get(max) ?? []) return address;
      throw new Error('nothing waits');
    },
  };
}
