/** Prefix of every topic: everything is wanted. No level of a topic is this. */
export const everything = '#';
/** Levels of a topic that are told apart. */
const maxLevels = 2;
/** Most prefixes below one; with more, all that is below it is wanted. */
const maxBelow = [64, 16] as const;
/** A longer level is not told apart from others. */
const maxLevelLength = 64;

interface Node {
  /** Filters that end here, or from where on levels are not told apart. */
  count: number;
  /** Undefined: levels below are not told apart. */
  below: Map<string, Node> | undefined;
}

/** What a replica's clients subscribe to, in at most 1,024 prefixes of topics, however many subscriptions there are. */
export function createInterestSummary() {
  const root: Node = { count: 0, below: new Map() };

  /** Counts a filter in where it ends. @returns a prefix is wanted that was not before. */
  function add(filter: string): boolean {
    let node = root;
    let isNew = false;
    for (const [depth, level] of levelsOf(filter).entries()) {
      if (node.below === undefined) break;
      let next = node.below.get(level);
      if (next === undefined) {
        isNew = true;
        if (node.below.size >= (maxBelow[depth] as number)) {
          merge(node);
          break;
        }
        next = { count: 0, below: depth + 1 < maxLevels ? new Map() : undefined };
        node.below.set(level, next);
      }
      node = next;
    }
    node.count += 1;
    return isNew || node.count === 1;
  }

  function merge(node: Node): void {
    for (const each of node.below?.values() ?? []) node.count += countOf(each);
    node.below = undefined;
  }

  /** Takes back what was added. */
  function remove(filter: string): void {
    const path: [Map<string, Node>, string][] = [];
    let node = root;
    for (const level of levelsOf(filter)) {
      const next = node.below?.get(level);
      if (node.below === undefined || next === undefined) break;
      path.push([node.below, level]);
      node = next;
    }
    node.count -= 1;
    if (node === root && root.count === 0) root.below ??= new Map();
    for (const [siblings, level] of path.toReversed()) {
      const { count, below } = siblings.get(level) as Node;
      if (count > 0 || (below?.size ?? 0) > 0) return;
      siblings.delete(level);
    }
  }

  function* walk({ count, below }: Node, prefix: string): Iterable<string> {
    if (count > 0) {
      yield prefix;
      return;
    }
    for (const [level, next] of below ?? [])
      yield* walk(next, prefix === everything ? level : `${prefix}/${level}`);
  }

  /** Whether the topic begins with one of the prefixes. */
  function match(topic: string): boolean {
    let node: Node | undefined = root;
    for (let start = 0; node !== undefined; ) {
      if (node.count > 0) return true;
      if (start > topic.length) return false;
      const slash = topic.indexOf('/', start);
      const end = slash === -1 ? topic.length : slash;
      node = node.below?.get(topic.slice(start, end));
      start = end + 1;
    }
    return false;
  }

  return {
    add,
    remove,
    /** Every topic that a filter matches begins with one of them. */
    prefixes: () => [...walk(root, everything)],
    match,
  };
}

function countOf({ count, below }: Node): number {
  let sum = count;
  for (const each of below?.values() ?? []) sum += countOf(each);
  return sum;
}

/** What the topics of a filter begin with: a filter of which the summary is the same. */
export function prefixOf(filter: string): string {
  const levels = levelsOf(filter);
  return levels.length === 0 ? everything : levels.join('/');
}

/** The levels of a filter that say where its topics begin. */
function levelsOf(filter: string): string[] {
  const levels = filter.split('/', maxLevels);
  const end = levels.findIndex((level) => level === '+' || level === '#' || level.length > maxLevelLength);
  return end < 0 ? levels : levels.slice(0, end);
}

/** Whether any of the prefixes is one of the topic. */
export function isWanted(prefixes: ReadonlySet<string>, topic: string): boolean {
  if (prefixes.size === 0) return false;
  if (prefixes.has(everything)) return true;
  const first = topic.indexOf('/');
  if (first < 0) return prefixes.has(topic);
  if (prefixes.has(topic.slice(0, first))) return true;
  const second = topic.indexOf('/', first + 1);
  return prefixes.has(second < 0 ? topic : topic.slice(0, second));
}
