import type { StreamIndex } from '../stored/stored-messages.js';
import { escapeToken } from '../subject.js';

/** Levels of a topic that are told apart; those behind them match any filter. */
const maxLevels = 4;
const maxDepth = 255;
const firstCapacity = 1_024;
/** In place of the hash of a level: any level. */
const anyLevel = -1;

/** A filter of MQTT as the index compares it: hashes of its first levels, and how many levels a topic has. */
interface Pattern {
  readonly first: number;
  readonly second: number;
  readonly third: number;
  readonly fourth: number;
  readonly least: number;
  readonly most: number;
}

/** What a session looks for among the messages. */
export type MessageFilters = readonly Pattern[];

/** Which messages of the stream could be for whom. */
export interface MessageIndex extends StreamIndex<MessageFilters> {
  /** Takes the next message; one whose sequence does not rise is known. @param tokens its topic, as in the subject. */
  add(tokens: string, sequence: number): void;
  /** The stream ends there: those behind it are forgotten. */
  cut(last: number): void;
}

export function compileFilters(filters: Iterable<string>): MessageFilters {
  return [...filters].map((filter) => {
    const levels = filter.split('/');
    const isOpen = levels.at(-1) === '#';
    if (isOpen) levels.pop();
    const hashes = levels.map((level) => (level === '+' ? anyLevel : hash(escapeToken(level))));
    const [first = anyLevel, second = anyLevel, third = anyLevel, fourth = anyLevel] = hashes;
    const least = Math.min(levels.length, maxDepth);
    return { first, second, third, fourth, least, most: isOpen ? maxDepth : least };
  });
}

/** Whether the message of a topic, as in its subject, could be looked for. */
export function couldMatch(filters: MessageFilters, tokens: string): boolean {
  const { depth, levels } = read(tokens);
  const [first = 0, second = 0, third = 0, fourth = 0] = levels;
  return filters.some((pattern) => matches(pattern, depth, first, second, third, fourth));
}

/**
 * An index in 25 bytes a message, whatever the topics are: messages lie in a ring in their order, each with hashes of the first
 * levels of its topic. So it may answer too much, and never too little.
 *
 * @param maxMessages more are not known: the oldest go.
 */
export function createMessageIndex(maxMessages: number): MessageIndex {
  const bound = Math.max(1, maxMessages);
  let capacity = Math.min(firstCapacity, bound);
  let sequences = new Float64Array(capacity);
  let depths = new Uint8Array(capacity);
  let hashes = Array.from({ length: maxLevels }, () => new Int32Array(capacity));
  /** Place of the oldest message, and how many there are from there on. */
  let head = 0;
  let size = 0;
  let floor = 0;

  const placeOf = (number: number) => (head + number) % capacity;
  const sequenceAt = (number: number) => sequences[placeOf(number)] as number;

  function grow(): void {
    const larger = Math.min(capacity * 2, bound);
    const copy = <T extends Float64Array | Int32Array | Uint8Array>(from: T, to: T): T => {
      to.set(from.subarray(head));
      to.set(from.subarray(0, head), capacity - head);
      return to;
    };
    sequences = copy(sequences, new Float64Array(larger));
    depths = copy(depths, new Uint8Array(larger));
    hashes = hashes.map((level) => copy(level, new Int32Array(larger)));
    head = 0;
    capacity = larger;
  }

  /** The number, from the oldest one on, of the first message behind a sequence. */
  function firstAfter(sequence: number): number {
    let low = 0;
    let high = size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sequenceAt(middle) <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Calls for each message behind a sequence that could match, until told to stop. */
  function visit(filters: MessageFilters, sequence: number, stop: (sequence: number) => boolean): void {
    const [firsts, seconds, thirds, fourths] = hashes as [Int32Array, Int32Array, Int32Array, Int32Array];
    const begin = firstAfter(sequence);
    let place = placeOf(begin);
    // A session that comes back may have a million to look at: nothing is made for one of them.
    for (let left = size - begin; left > 0; left -= 1) {
      const depth = depths[place] as number;
      const first = firsts[place] as number;
      const second = seconds[place] as number;
      const third = thirds[place] as number;
      const fourth = fourths[place] as number;
      for (let at = 0; at < filters.length; at += 1) {
        if (!matches(filters[at] as Pattern, depth, first, second, third, fourth)) continue;
        if (stop(sequences[place] as number)) return;
        break;
      }
      place += 1;
      if (place === capacity) place = 0;
    }
  }

  return {
    get size() {
      return size;
    },
    get floor() {
      return floor;
    },
    get oldest() {
      return size === 0 ? undefined : sequenceAt(0);
    },
    get latest() {
      return size === 0 ? undefined : sequenceAt(size - 1);
    },
    add(tokens, sequence) {
      if (size > 0 && sequence <= sequenceAt(size - 1)) return;
      if (size === capacity) {
        if (capacity < bound) {
          grow();
        } else {
          floor = sequenceAt(0);
          head = placeOf(1);
          size -= 1;
        }
      }
      const place = placeOf(size);
      const { depth, levels } = read(tokens);
      sequences[place] = sequence;
      depths[place] = depth;
      for (const [level, each] of hashes.entries()) each[place] = levels[level] ?? 0;
      size += 1;
    },
    cut(last) {
      while (size > 0 && sequenceAt(size - 1) > last) size -= 1;
      floor = Math.min(floor, last);
    },
    after(filters, sequence, most) {
      const found: number[] = [];
      if (most > 0) visit(filters, sequence, (each) => found.push(each) === most);
      return found;
    },
    countAfter(filters, sequence, most) {
      let count = 0;
      if (most > 0) visit(filters, sequence, () => ++count === most);
      return count;
    },
    trim(first) {
      const gone = firstAfter(first - 1);
      head = placeOf(gone);
      size -= gone;
      if (floor > 0 && floor < first) floor = 0;
    },
  };
}

function matches(
  pattern: Pattern,
  depth: number,
  first: number,
  second: number,
  third: number,
  fourth: number,
): boolean {
  return (
    (pattern.first === anyLevel || pattern.first === first) &&
    (pattern.second === anyLevel || pattern.second === second) &&
    (pattern.third === anyLevel || pattern.third === third) &&
    (pattern.fourth === anyLevel || pattern.fourth === fourth) &&
    depth >= pattern.least &&
    depth <= pattern.most
  );
}

/** Levels of a topic, of which there are at most 255, and the hashes of the first ones. */
function read(tokens: string): { readonly depth: number; readonly levels: readonly number[] } {
  const levels: number[] = [];
  let depth = 0;
  for (let start = 0; start <= tokens.length; ) {
    const dot = tokens.indexOf('.', start);
    const end = dot === -1 ? tokens.length : dot;
    if (depth < maxLevels) levels.push(hash(tokens, start, end));
    depth += 1;
    start = end + 1;
  }
  return { depth: Math.min(depth, maxDepth), levels };
}

/** FNV-1a, of 31 bits, so that none is `anyLevel`. */
function hash(text: string, start = 0, end = text.length): number {
  let value = 0x811c9dc5;
  for (let at = start; at < end; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value & 0x7fff_ffff;
}
