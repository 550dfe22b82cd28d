import type { FleetEvent } from '../api/event.js';

export type NewFleetEvent = Omit<FleetEvent, 'number' | 'atMs'>;

export type EventFeed = ReturnType<typeof openEventFeed>;

/** Opens a feed: it passes events to those who listen, and remembers the latest `capacity`. */
export function openEventFeed(capacity = 1_024) {
  /** A ring: event number n is at n modulo capacity. */
  const ring: (FleetEvent | undefined)[] = new Array(capacity);
  const listeners = new Set<(event: FleetEvent) => void>();
  let last = 0;

  function* newestFirst(): Generator<FleetEvent> {
    for (let number = last; number > Math.max(0, last - capacity); number -= 1) {
      const event = ring[number % capacity];
      if (event !== undefined) yield event;
    }
  }

  return {
    /** Listeners that were cut off because they did not keep up, on whatever replica the events happened; counted by those who cut them off. */
    droppedListeners: 0,
    emit(event: NewFleetEvent): void {
      last += 1;
      const numbered: FleetEvent = { number: last, atMs: Date.now(), ...event };
      ring[last % capacity] = numbered;
      for (const listener of listeners) listener(numbered);
    },
    /** Number of the latest event; 0 before the first. */
    get last(): number {
      return last;
    },
    /** The remembered events after one of a number, oldest first. */
    since(number: number): readonly FleetEvent[] {
      const events: FleetEvent[] = [];
      for (const event of newestFirst()) {
        if (event.number <= number) break;
        events.push(event);
      }
      return events.reverse();
    },
    /** The latest remembered event that a condition holds for. */
    findLast(condition: (event: FleetEvent) => boolean): FleetEvent | undefined {
      for (const event of newestFirst()) if (condition(event)) return event;
      return undefined;
    },
    /** @returns a function that ends listening. `listener` must not throw. */
    listen(listener: (event: FleetEvent) => void): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
