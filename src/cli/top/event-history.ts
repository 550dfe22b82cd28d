import type { EventJson } from '../../api/event.js';
import type { FleetJson } from '../../api/stats.js';
import { eventKey } from './lists.js';

/** Most events that are remembered; of more, the oldest go. */
const kept = 500;

/** The events of all replicas, as far as the answers of the fleet have told them. */
export function openEventHistory() {
  let events: readonly EventJson[] = [];
  let known: ReadonlySet<string> = new Set();
  return {
    add({ replicas }: FleetJson): void {
      const told = replicas.flatMap(({ replica, stats }) =>
        (stats?.recent_events ?? []).map((event): EventJson => ({ ...event, replica })),
      );
      const news = told.filter((event) => !known.has(eventKey(event)));
      if (news.length === 0) return;
      events = [...news.reverse(), ...events]
        .sort((one, other) => Date.parse(other.at) - Date.parse(one.at))
        .slice(0, kept);
      known = new Set([...events, ...told].map(eventKey));
    },
    /** The latest first. */
    list: () => events,
  };
}
