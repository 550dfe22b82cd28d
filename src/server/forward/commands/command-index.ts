import type { StreamIndex } from '../stored/stored-messages.js';

const none = -1;
const firstCapacity = 1_024;

/** Which commands of the stream are for which device. */
export interface CommandIndex extends StreamIndex<string> {
  /** Takes the next command; sequences rise. */
  add(device: string, sequence: number): void;
}

/**
 * An index in 16 bytes a command, and what the name of each device takes that has one: commands lie in a ring in their order, each
 * with the place of the next one of its device.
 *
 * @param maxCommands more are not known: the oldest go.
 */
export function createCommandIndex(maxCommands: number): CommandIndex {
  const bound = Math.max(1, maxCommands);
  let capacity = Math.min(firstCapacity, bound);
  let sequences = new Float64Array(capacity);
  let nexts = new Int32Array(capacity);
  let owners = new Int32Array(capacity);
  /** Place of the oldest command, and how many there are from there on. */
  let head = 0;
  let size = 0;
  let floor = 0;

  const numbers = new Map<string, number>();
  /** By the number of a device. `found` is where it was looked at last, so that who reads on does not begin anew. */
  const names: string[] = [];
  const firsts: number[] = [];
  const lasts: number[] = [];
  const founds: number[] = [];
  const freeNumbers: number[] = [];

  function grow(): void {
    const larger = Math.min(capacity * 2, bound);
    const moved = (place: number) => (place === none ? none : (place - head + capacity) % capacity);
    const copy = <T extends Float64Array | Int32Array>(from: T, to: T): T => {
      to.set(from.subarray(head));
      to.set(from.subarray(0, head), capacity - head);
      return to;
    };
    sequences = copy(sequences, new Float64Array(larger));
    owners = copy(owners, new Int32Array(larger));
    nexts = copy(nexts, new Int32Array(larger));
    for (let place = 0; place < size; place += 1) nexts[place] = moved(nexts[place] as number);
    for (const list of [firsts, lasts, founds])
      for (const [number, place] of list.entries()) list[number] = moved(place);
    head = 0;
    capacity = larger;
  }

  function dropOldest(): void {
    const number = owners[head] as number;
    const next = nexts[head] as number;
    if (founds[number] === head) founds[number] = next;
    firsts[number] = next;
    if (next === none) {
      numbers.delete(names[number] as string);
      names[number] = '';
      lasts[number] = none;
      freeNumbers.push(number);
    }
    head = (head + 1) % capacity;
    size -= 1;
  }

  function numberOf(device: string): number {
    const known = numbers.get(device);
    if (known !== undefined) return known;
    const number = freeNumbers.pop() ?? names.length;
    numbers.set(device, number);
    names[number] = device;
    firsts[number] = none;
    lasts[number] = none;
    founds[number] = none;
    return number;
  }

  /** Place of the first command of a device after a sequence. */
  function find(device: string, sequence: number): number {
    const number = numbers.get(device);
    if (number === undefined) return none;
    if ((sequences[lasts[number] as number] as number) <= sequence) return none;
    const found = founds[number] as number;
    let place =
      found !== none && (sequences[found] as number) <= sequence ? found : (firsts[number] as number);
    while (place !== none && (sequences[place] as number) <= sequence) {
      founds[number] = place;
      place = nexts[place] as number;
    }
    return place;
  }

  return {
    get size() {
      return size;
    },
    get floor() {
      return floor;
    },
    get oldest() {
      return size === 0 ? undefined : sequences[head];
    },
    get latest() {
      return size === 0 ? undefined : sequences[(head + size - 1) % capacity];
    },
    add(device, sequence) {
      if (size === capacity) {
        if (capacity < bound) {
          grow();
        } else {
          floor = sequences[head] as number;
          dropOldest();
        }
      }
      const place = (head + size) % capacity;
      const number = numberOf(device);
      sequences[place] = sequence;
      owners[place] = number;
      nexts[place] = none;
      const last = lasts[number] as number;
      if (last === none) firsts[number] = place;
      else nexts[last] = place;
      lasts[number] = place;
      size += 1;
    },
    after(device, sequence, most) {
      const found: number[] = [];
      for (let place = find(device, sequence); place !== none && found.length < most; ) {
        found.push(sequences[place] as number);
        place = nexts[place] as number;
      }
      return found;
    },
    countAfter(device, sequence, most) {
      let count = 0;
      for (let place = find(device, sequence); place !== none && count < most; count += 1)
        place = nexts[place] as number;
      return count;
    },
    trim(first) {
      while (size > 0 && (sequences[head] as number) < first) dropOldest();
      if (floor > 0 && floor < first) floor = 0;
    },
  };
}
