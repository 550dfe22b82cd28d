/** The items from `offset` to `offset + limit` of those that are offered, in order. */
export interface PageSelection<T> {
  /** @returns whether the item was taken; one that was not comes on no page and may be used for the next. */
  offer(item: T): boolean;
  /** The page; ends the selection. */
  page(): T[];
}

/** Fewer items than this are not looked through to make room. */
const leastRoom = 256;

/**
 * Selects a page without sorting the others, or keeping them: what is asked for every second must not cost what sorting ten
 * thousands does.
 *
 * @param compare a total order: no two items are equal.
 */
export function openPageSelection<T>(
  compare: (a: T, b: T) => number,
  offset: number,
  limit: number,
): PageSelection<T> {
  const end = limit === 0 ? 0 : offset + limit;
  const room = Math.max(leastRoom, 2 * end);
  let kept: T[] = [];
  /** The last of the page, of those seen so far; undefined: there are fewer. */
  let last: T | undefined;

  return {
    offer(item) {
      if (end === 0 || (last !== undefined && compare(item, last) > 0)) return false;
      kept.push(item);
      if (kept.length < room) return true;
      partition(kept, compare, 0, kept.length - 1, end - 1);
      kept = kept.slice(0, end);
      last = kept[end - 1];
      return true;
    },
    page: () => selectPage(kept, compare, offset, limit),
  };
}

function selectPage<T>(items: T[], compare: (a: T, b: T) => number, offset: number, limit: number): T[] {
  const end = Math.min(items.length, offset + limit);
  if (offset >= end) return [];
  if (offset > 0) partition(items, compare, 0, items.length - 1, offset);
  if (end < items.length) partition(items, compare, offset, items.length - 1, end - 1);
  return items.slice(offset, end).sort(compare);
}

/** Quickselect: brings the item of rank `rank` to its place, with smaller ones before and greater ones after it. */
function partition<T>(
  items: T[],
  compare: (a: T, b: T) => number,
  first: number,
  last: number,
  rank: number,
): void {
  let left = first;
  let right = last;
  while (left < right) {
    const pivot = medianOfThree(items, compare, left, right);
    let low = left;
    let high = right;
    while (low <= high) {
      while (compare(items[low] as T, pivot) < 0) low += 1;
      while (compare(items[high] as T, pivot) > 0) high -= 1;
      if (low > high) break;
      const swapped = items[low] as T;
      items[low] = items[high] as T;
      items[high] = swapped;
      low += 1;
      high -= 1;
    }
    if (rank <= high) right = high;
    else if (rank >= low) left = low;
    else return;
  }
}

/** Items that are sorted already, as they often are, must not be the worst case. */
function medianOfThree<T>(
  items: readonly T[],
  compare: (a: T, b: T) => number,
  left: number,
  right: number,
): T {
  const [a, b, c] = [items[left] as T, items[(left + right) >> 1] as T, items[right] as T];
  if (compare(a, b) < 0) {
    if (compare(b, c) < 0) return b;
    return compare(a, c) < 0 ? c : a;
  }
  if (compare(a, c) < 0) return a;
  return compare(b, c) < 0 ? c : b;
}
