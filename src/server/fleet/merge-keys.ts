import type { ConnectionKey, SortKey } from '../../api/connection.js';

/** The first connections of one replica, in order. */
export interface KeyList {
  readonly keys: readonly ConnectionKey[];
  /** There are no more than these, as far as was asked. */
  readonly whole: boolean;
}

/**
 * The ids from `offset` to `offset + limit` of several sorted lists. Undefined when a list that is not whole would have
 * more of them.
 */
export function mergeKeys(
  lists: readonly KeyList[],
  { descending, offset, limit }: { descending: boolean; offset: number; limit: number },
): string[] | undefined {
  const heads = lists.map(() => 0);
  const ids: string[] = [];
  for (let rank = 0; rank < offset + limit; rank += 1) {
    let first = -1;
    let least: ConnectionKey | undefined;
    for (const [at, { keys, whole }] of lists.entries()) {
      const key = keys[heads[at] as number];
      if (key === undefined) {
        if (!whole) return undefined;
      } else if (least === undefined || isBefore(key, least, descending)) {
        first = at;
        least = key;
      }
    }
    if (least === undefined) break;
    heads[first] = (heads[first] as number) + 1;
    if (rank >= offset) ids.push(least[2]);
  }
  return ids;
}

/** As the list of one replica is sorted: of two alike the older one comes first. */
function isBefore(a: ConnectionKey, b: ConnectionKey, descending: boolean): boolean {
  const order = compare(a[0], b[0]);
  if (order !== 0) return descending ? order > 0 : order < 0;
  return a[1] === b[1] ? a[2] < b[2] : a[1] < b[1];
}

function compare(a: SortKey, b: SortKey): number {
  const [left, right] = [a ?? Number.POSITIVE_INFINITY, b ?? Number.POSITIVE_INFINITY];
  if (left === right) return 0;
  return left < right ? -1 : 1;
}
