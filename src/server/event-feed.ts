/** Kinds of events. `revoked` stands for every loss of a device's right to be connected; `reason` tells which. */
export const eventKinds = ['connected', 'disconnected', 'refused', 'revoked', 'dropped'] as const;

export type EventKind = (typeof eventKinds)[number];

/** Something that happened to the fleet. */
export interface FleetEvent {
  /** Numbered from 1 since the start of the replica. */
  readonly number: number;
  /** Wall-clock milliseconds. */
  readonly atMs: number;
  readonly kind: EventKind;
  readonly device?: string | undefined;
  readonly client?: string | undefined;
  readonly address?: string | undefined;
  /** Id of the connection. */
  readonly connection?: string | undefined;
  /** Why, as a word: a close reason, or what was dropped. */
  readonly reason?: string | undefined;
  /** How many connections or messages it is about, where it may be several. */
  readonly count?: number | undefined;
}

export type NewFleetEvent = Omit<FleetEvent, 'number' | 'atMs'>;

/** Passes events to those who listen, and remembers the latest. */
export interface EventFeed {
  emit(event: NewFleetEvent): void;
  /** Listeners that were cut off because they did not keep up, counted by those who cut them off. */
  droppedListeners: number;
  /** Number of the latest event; 0 before the first. */
  readonly last: number;
  /** The remembered events after one of a number, oldest first. */
  since(number: number): readonly FleetEvent[];
  /** The latest remembered event that a condition holds for. */
  findLast(condition: (event: FleetEvent) => boolean): FleetEvent | undefined;
  /** @returns a function that ends listening. `listener` must not throw. */
  listen(listener: (event: FleetEvent) => void): () => void;
}

/** Opens a feed that remembers the latest `capacity` events. */
export function openEventFeed(capacity = 1_024): EventFeed {
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
    droppedListeners: 0,
    emit(event) {
      last += 1;
      const numbered: FleetEvent = { number: last, atMs: Date.now(), ...event };
      ring[last % capacity] = numbered;
      for (const listener of listeners) listener(numbered);
    },
    get last() {
      return last;
    },
    since(number) {
      const events: FleetEvent[] = [];
      for (const event of newestFirst()) {
        if (event.number <= number) break;
        events.push(event);
      }
      return events.reverse();
    },
    findLast(condition) {
      for (const event of newestFirst()) if (condition(event)) return event;
      return undefined;
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
