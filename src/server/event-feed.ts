import type { FleetEvent } from '../api/event.js';

export type NewFleetEvent = Omit<FleetEvent, 'number' | 'atMs'>;

/** Passes events to those who listen, and remembers the latest. */
export class EventFeed {
  /** Listeners that were cut off because they did not keep up, on whatever replica the events happened; counted by those who cut them off. */
  droppedListeners = 0;
  private readonly capacity: number;
  /** A ring: event number n is at n modulo capacity. */
  private readonly ring: (FleetEvent | undefined)[];
  private readonly listeners = new Set<(event: FleetEvent) => void>();
  private lastNumber = 0;

  /** @param capacity events that are remembered. */
  constructor(capacity = 1_024) {
    this.capacity = capacity;
    this.ring = new Array(capacity);
  }

  emit(event: NewFleetEvent): void {
    this.lastNumber += 1;
    const numbered: FleetEvent = { number: this.lastNumber, atMs: Date.now(), ...event };
    this.ring[this.lastNumber % this.capacity] = numbered;
    for (const listener of this.listeners) listener(numbered);
  }

  /** Number of the latest event; 0 before the first. */
  get last(): number {
    return this.lastNumber;
  }

  /** The remembered events after one of a number, oldest first. */
  since(number: number): readonly FleetEvent[] {
    const events: FleetEvent[] = [];
    for (const event of this.newestFirst()) {
      if (event.number <= number) break;
      events.push(event);
    }
    return events.reverse();
  }

  /** The latest remembered event that a condition holds for. */
  findLast(condition: (event: FleetEvent) => boolean): FleetEvent | undefined {
    for (const event of this.newestFirst()) if (condition(event)) return event;
    return undefined;
  }

  /** @returns a function that ends listening. `listener` must not throw. */
  listen(listener: (event: FleetEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private *newestFirst(): Generator<FleetEvent> {
    for (let number = this.lastNumber; number > Math.max(0, this.lastNumber - this.capacity); number -= 1) {
      const event = this.ring[number % this.capacity];
      if (event !== undefined) yield event;
    }
  }
}
