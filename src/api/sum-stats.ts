import type { FleetJson, StatsJson } from './stats.js';

type Total = FleetJson['total'];

/** The latest events of all replicas that are shown together. */
const recentEvents = 20;

/** Adds up what replicas do. Of latencies the longest one counts. */
export function sumStats(all: readonly StatsJson[]): Total {
  return {
    connections: sumFields(
      all.map(({ connections }) => connections),
      { open: 0, connected: 0, limit: 0 },
    ),
    rates: sumFields(
      all.map(({ rates }) => rates),
      traffic,
    ),
    totals: sumFields(
      all.map(({ totals }) => totals),
      { ...traffic, stored: 0, sent: 0 },
    ),
    waiting: {
      messages: sum(all.map(({ waiting }) => waiting.messages)),
      bytes: sum(all.map(({ waiting }) => waiting.bytes)),
      causes: joinCauses(all.flatMap(({ waiting }) => waiting.causes)),
    },
    ack_latency_ms: {
      p50: longest(all.map(({ ack_latency_ms: { p50 } }) => p50)),
      p99: longest(all.map(({ ack_latency_ms: { p99 } }) => p99)),
    },
    failures: sumFields(
      all.map(({ failures }) => failures),
      {},
    ),
    history: {
      messages_in: sumLatest(all.map(({ history }) => history.messages_in)),
      messages_out: sumLatest(all.map(({ history }) => history.messages_out)),
      bytes_in: sumLatest(all.map(({ history }) => history.bytes_in)),
      bytes_out: sumLatest(all.map(({ history }) => history.bytes_out)),
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
