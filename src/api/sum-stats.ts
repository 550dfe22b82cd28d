import type { FleetJson, StatsJson } from './stats.js';

type Total = FleetJson['total'];

/** The latest events of all replicas that are shown together. */
const recentEvents = 20;

/** Adds up what replicas do. Of latencies the longest one counts. */
export function sumStats(all: readonly StatsJson[]): Total {
  const each = <Name extends keyof StatsJson>(name: Name) => all.map((stats) => stats[name]);
  const waiting = each('waiting');
  const latencies = each('ack_latency_ms');
  const histories = each('history');
  return {
    connections: sumFields(each('connections'), { open: 0, connected: 0, limit: 0 }),
    rates: sumFields(each('rates'), traffic),
    totals: sumFields(each('totals'), { ...traffic, stored: 0, sent: 0 }),
    waiting: {
      messages: sum(waiting.map(({ messages }) => messages)),
      bytes: sum(waiting.map(({ bytes }) => bytes)),
      causes: joinCauses(waiting.flatMap(({ causes }) => causes)),
    },
    ack_latency_ms: {
      p50: longest(latencies.map(({ p50 }) => p50)),
      p99: longest(latencies.map(({ p99 }) => p99)),
    },
    failures: sumFields(each('failures'), {}),
    history: {
      messages_in: sumLatest(histories.map((history) => history.messages_in)),
      messages_out: sumLatest(histories.map((history) => history.messages_out)),
      bytes_in: sumLatest(histories.map((history) => history.bytes_in)),
      bytes_out: sumLatest(histories.map((history) => history.bytes_out)),
    },
    recent_events: all
      .flatMap(({ replica, recent_events: events }) => events.map((event) => ({ ...event, replica })))
      .sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
      .slice(-recentEvents),
  };
}

const traffic = { messages_in: 0, messages_out: 0, bytes_in: 0, bytes_out: 0 };

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function sumFields<T extends Readonly<Record<string, number>>>(all: readonly T[], none: T): T {
  const total: Record<string, number> = { ...none };
  for (const each of all)
    for (const [name, value] of Object.entries(each)) total[name] = (total[name] ?? 0) + value;
  return total as T;
}

function longest(latencies: readonly (number | null)[]): number | null {
  const known = latencies.filter((ms) => ms !== null);
  return known.length === 0 ? null : Math.max(...known);
}

/** Of the same cause one, since when it first was. */
function joinCauses(causes: readonly Total['waiting']['causes'][number][]): Total['waiting']['causes'] {
  const joined = new Map<string, Total['waiting']['causes'][number]>();
  for (const each of causes) {
    const known = joined.get(each.cause);
    joined.set(
      each.cause,
      known === undefined
        ? each
        : {
            ...known,
            clients: known.clients + each.clients,
            since: [known.since, each.since].sort()[0] ?? each.since,
          },
    );
  }
  return [...joined.values()].sort((a, b) => b.clients - a.clients);
}

/** Histories end now, wherever they begin. */
function sumLatest(histories: readonly (readonly number[])[]): number[] {
  const length = Math.max(0, ...histories.map((each) => each.length));
  return Array.from({ length }, (_, at) =>
    sum(histories.map((each) => each[each.length - length + at] ?? 0)),
  );
}
