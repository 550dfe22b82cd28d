import { type ConnectionKey, type SortKey, sampleStep } from '../../api/connection.js';

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

/** Connections of one replica, of which every so manieth is known. */
export interface SampledList {
  readonly keys: readonly ConnectionKey[];
  readonly matching: number;
}

/** Where in a list a page is: it begins not before `offset`, and has none behind `offset + limit`. */
export interface Window {
  readonly offset: number;
  readonly limit: number;
}

/**
 * Where in each list the page of all of them is, as closely as samples tell. What the windows leave out before them is before
 * the page, too.
 */
export function findWindows(
  lists: readonly SampledList[],
  { samples, descending, offset, limit }: { samples: number; descending: boolean } & Window,
): Window[] {
  const steps = lists.map(({ matching }) => sampleStep(matching, samples));
  const all = lists
    .flatMap(({ keys }, list) => keys.map((key) => ({ key, list })))
    .sort((a, b) => (isBefore(a.key, b.key, descending) ? -1 : 1));
  /** Samples of each list up to the one that is looked at. */
  const passed = lists.map(() => 0);
  const leastOf = (list: number) => (passed[list] as number) * (steps[list] as number);
  const mostOf = (list: number) =>
    Math.min((lists[list] as SampledList).matching, leastOf(list) + (steps[list] as number) - 1);
  let least = 0;
  let most = lists.reduce((sum, _each, list) => sum + mostOf(list), 0);
  let begins = lists.map(() => 0);
  let ends = lists.map(({ matching }) => matching);
  for (const { list } of all) {
    most -= mostOf(list);
    passed[list] = (passed[list] as number) + 1;
    least += steps[list] as number;
    most += mostOf(list);
    if (most <= offset) begins = lists.map((_each, at) => leastOf(at));
    if (least < offset + limit) continue;
    ends = lists.map((_each, at) => mostOf(at));
    break;
  }
  return begins.map((begin, list) => ({ offset: begin, limit: (ends[list] as number) - begin }));
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
