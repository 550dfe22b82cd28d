import { type ComponentChildren, createContext } from 'preact';
import { useContext, useEffect, useRef } from 'preact/hooks';
import type { StatsJson } from '../../api/stats.js';
import { type Loaded, useLoad } from './hooks.js';
import { useSession } from './session.js';
import { brief, integer, shown } from './text.js';

const everyMs = 1_000;
/** How far back the lines of what the API has no history of go. */
export const keptSeconds = 120;

/** A figure that the page itself remembers. */
export interface Remembered {
  readonly p50: number | null;
  readonly p99: number | null;
  readonly connected: number;
}

interface Stats extends Loaded<StatsJson> {
  readonly remembered: readonly Remembered[];
}

const StatsContext = createContext<Stats | undefined>(undefined);

/** Asks how the replica is doing, once a second, for all who show something of it. */
export function StatsProvider({ children }: { children: ComponentChildren }) {
  const { source, may } = useSession();
  const loaded = useLoad('stats', async () => (may('viewer') ? await source.stats() : undefined), everyMs);
  const remembered = useRef<Remembered[]>([]);
  const { data } = loaded;
  useEffect(() => {
    if (data === undefined) return;
    const { p50, p99 } = data.ack_latency_ms;
    remembered.current = [
      ...remembered.current.slice(1 - keptSeconds),
      { p50, p99, connected: data.connections.connected },
    ];
  }, [data]);
  const stats = { ...loaded, data, remembered: remembered.current };
  return <StatsContext.Provider value={stats}>{children}</StatsContext.Provider>;
}

export function useStats(): Stats {
  const stats = useContext(StatsContext);
  if (stats === undefined) throw new Error('There are no stats here');
  return stats;
}

/** What is wrong, the worst first. */
export function listTroubles(stats: StatsJson): string[] {
  const { nats, database, waiting, connections } = stats;
  return [
    ...(nats.ok ? [] : [`NATS: ${nats.detail}. Messages wait until it is back.`]),
    ...(database.ok ? [] : [`Database: ${database.detail}. Known devices work on.`]),
    ...waiting.causes.map(
      ({ clients, cause, detail }) =>
        `${integer(clients)} ${clients === 1 ? 'client waits' : 'clients wait'} to be stored: ${detail} (${cause}).`,
    ),
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
          <span aria-hidden="true">●</span> {integer(data.connections.connected)} connected,{' '}
          {brief(data.rates.messages_in)} messages/s in
        </p>
      )}
    </div>
  );
}
