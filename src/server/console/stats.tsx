import { type ComponentChildren, createContext } from 'preact';
import { useContext, useEffect, useRef } from 'preact/hooks';
import type { FleetJson, StatsJson } from '../../api/stats.js';
import { type Loaded, useLoad } from './hooks.js';
import { useSession } from './session.js';
import { brief, integer, shown } from './text.js';

const everyMs = 1_000;
/** How far back the lines of what the API has no history of go. */
export const keptSeconds = 120;

/** Figures that the page itself remembers. */
interface Remembered {
  readonly p50: number | null;
  readonly p99: number | null;
  readonly connected: number;
}

interface Stats extends Loaded<FleetJson> {
  /** Of a replica that is still there, or with an empty name of all. */
  rememberedOf(replica: string): readonly Remembered[];
}

const StatsContext = createContext<Stats | undefined>(undefined);

/** Asks how the replicas are doing, once a second, for all who show something of it. */
export function StatsProvider({ children }: { children: ComponentChildren }) {
  const { source, may } = useSession();
  const loaded = useLoad('fleet', async () => (may('viewer') ? await source.fleet() : undefined), everyMs);
  const remembered = useRef<ReadonlyMap<string, readonly Remembered[]>>(new Map());
  const { data } = loaded;
  useEffect(() => {
    if (data !== undefined) remembered.current = remember(remembered.current, data);
  }, [data]);
  const rememberedOf = (replica: string) => remembered.current.get(replica) ?? [];
  return <StatsContext.Provider value={{ ...loaded, data, rememberedOf }}>{children}</StatsContext.Provider>;
}

function remember(before: ReadonlyMap<string, readonly Remembered[]>, { replicas, total }: FleetJson) {
  const now = [['', total] as const, ...replicas.map(({ replica, stats }) => [replica, stats] as const)];
  return new Map(
    now.map(([name, stats]) => {
      const { p50, p99 } = stats?.ack_latency_ms ?? { p50: null, p99: null };
      const kept = (before.get(name) ?? []).slice(1 - keptSeconds);
      return [name, [...kept, { p50, p99, connected: stats?.connections.connected ?? 0 }]];
    }),
  );
}

export function useStats(): Stats {
  const stats = useContext(StatsContext);
  if (stats === undefined) throw new Error('There are no stats here');
  return stats;
}

/** What is wrong, the worst first. */
function listTroubles({ replicas, total }: FleetJson): string[] {
  const where = (host: string) => (replicas.length > 1 ? `${host}: ` : '');
  const answering = replicas.flatMap(({ host, stats }) => (stats === null ? [] : [{ host, stats }]));
  return [
    ...replicas.flatMap(({ replica, host, ok, detail }) =>
      ok ? [] : [`Replica ${replica} on ${host} does not answer, and counts in no sum: ${detail}.`],
    ),
    ...answering.flatMap(({ host, stats }) => listFaults(stats).map((text) => `${where(host)}${text}`)),
    ...total.waiting.causes.map(
      ({ clients, cause, detail }) =>
        `${integer(clients)} ${clients === 1 ? 'client waits' : 'clients wait'} to be stored: ${detail} (${cause}).`,
    ),
  ];
}

/** What one replica misses. */
function listFaults({ nats, database, connections, acknowledgement }: StatsJson): string[] {
  return [
    ...(nats.ok ? [] : [`NATS: ${nats.detail}. Messages wait until it is back.`]),
    ...(database.ok ? [] : [`Database: ${database.detail}. Known devices work on.`]),
    ...(acknowledgement === null || acknowledgement.holds
      ? []
      : [`Acknowledgements are worth less than promised: ${acknowledgement.why}.`]),
    ...(connections.open >= connections.limit
      ? [
          `All ${integer(connections.limit)} connections are in use: further ones are refused (MAX_CONNECTIONS).`,
        ]
      : []),
  ];
}

/** How it is doing, on every page. */
export function StatusLine() {
  const { may } = useSession();
  const { data, error } = useStats();
  if (!may('viewer')) return null;
  const troubles = data === undefined ? [] : listTroubles(data);
  return (
    <div class="status" role="status">
      {error !== undefined && (
        <p class="trouble">
          {shown(error.problem.detail)}
          {data === undefined ? '' : '; what is shown may be old'}.
        </p>
      )}
      {troubles.map((text) => (
        <p key={text} class="trouble">
          {shown(text)}
        </p>
      ))}
      {troubles.length === 0 && error === undefined && data !== undefined && (
        <p class="well">
          <span aria-hidden="true">●</span> {integer(data.total.connections.connected)} connected,{' '}
          {brief(data.total.rates.messages_in)} messages/s in
        </p>
      )}
    </div>
  );
}
