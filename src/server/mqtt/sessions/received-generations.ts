import type { ReceivedExchanges } from './store/session-record.js';

/**
 * Gives each QoS 2 message of a client with a stored session a name that every replica finds again: the generation and the
 * packet identifier. So a PUBLISH that is repeated after its replica died is the same message to NATS, though nothing was
 * written when it came first; and a packet identifier that is used for another message, once PUBREL has ended the exchange
 * before, gets another name by the next generation, which is stored before it is used.
 */
export class ReceivedGenerations {
  private generation: number;
  /** Ranges of packet identifiers whose exchanges of this generation have ended, in order. */
  private completed: [first: number, last: number][];
  /** Exchanges of earlier generations that may be open. */
  private readonly older: Map<number, number>;
  /** What an earlier replica stored: what the client repeats was begun under it. */
  private readonly restored: ReceivedExchanges | undefined;
  /** Those of the generation of `restored` that have ended, whenever: what is repeated with such an identifier was begun since. */
  private ended: [first: number, last: number][];
  /** The next generation is being stored: no exchange begins before it is. */
  isRaising = false;

  constructor(restored?: ReceivedExchanges) {
    this.restored = restored;
    this.generation = restored?.generation ?? 0;
    this.completed = (restored?.completed ?? []).map(([first, last]) => [first, last]);
    this.ended = this.completed;
    this.older = new Map(restored?.open);
  }

  /** The generation that a PUBLISH is of; undefined: the next one has to be stored first. */
  find(packetId: number, dup: boolean): number | undefined {
    const older = this.older.get(packetId);
    if (older !== undefined) return older;
    const { restored } = this;
    if (dup && restored !== undefined && !isIn(this.ended, packetId)) return restored.generation;
    return isIn(this.completed, packetId) ? undefined : this.generation;
  }

  /** An exchange that is not known here may have been begun, and answered with PUBREC, by who had the session before. */
  mayBeOpen(packetId: number): boolean {
    return this.older.has(packetId) || (this.restored !== undefined && !isIn(this.ended, packetId));
  }

  /** An exchange begins under the generation that `find` gave. */
  begin(packetId: number, generation: number): void {
    if (generation !== this.generation) this.older.set(packetId, generation);
  }

  /** PUBREL has ended an exchange, also one of which only an earlier replica knew. */
  complete(packetId: number): void {
    const generation = this.older.get(packetId) ?? this.generation;
    this.older.delete(packetId);
    if (this.restored !== undefined) this.ended = addTo(this.ended, packetId);
    if (generation === this.generation) this.completed = addTo(this.completed, packetId);
  }

  /** None of what is open can be unknown here. */
  get knowsAll(): boolean {
    return this.restored === undefined;
  }

  /** Begins the next generation. @param open packet identifiers of the exchanges that are open. */
  raise(open: Iterable<number>): void {
    for (const packetId of open) if (!this.older.has(packetId)) this.older.set(packetId, this.generation);
    this.generation += 1;
    this.completed = [];
  }

  snapshot(): ReceivedExchanges {
    return { generation: this.generation, completed: this.completed, open: [...this.older] };
  }
}

/** The index of the first range that does not end before the number. */
function indexIn(ranges: readonly (readonly [number, number])[], number: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as [number, number])[1] < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isIn(ranges: readonly (readonly [number, number])[], number: number): boolean {
  const range = ranges[indexIn(ranges, number)];
  return range !== undefined && range[0] <= number;
}

/** A new list: one that is being written does not change. */
function addTo(ranges: readonly [number, number][], number: number): [number, number][] {
  if (isIn(ranges, number)) return [...ranges];
  const index = indexIn(ranges, number);
  const before = ranges[index - 1];
  const after = ranges[index];
  const joinsBefore = before !== undefined && before[1] === number - 1;
  const joinsAfter = after !== undefined && after[0] === number + 1;
  const joined: [number, number] = [joinsBefore ? before[0] : number, joinsAfter ? after[1] : number];
  return [
    ...ranges.slice(0, joinsBefore ? index - 1 : index),
    joined,
    ...ranges.slice(joinsAfter ? index + 1 : index),
  ];
}
