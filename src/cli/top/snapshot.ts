import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionPageJson } from '../../api/connection.js';
import type { LiveApi, PageRequest } from '../store/live-api.js';
import { plainText } from '../terminal/cells.js';
import { growToConnections } from './columns.js';
import { drawHeader } from './header.js';
import { initialState, type TopState } from './state.js';
import { drawTable } from './table.js';
import { type TopStats, toTopStats } from './top-stats.js';

export interface Snapshot {
  readonly stats: TopStats;
  readonly page: ConnectionPageJson;
}

/** Rates are known when the replica has been asked for a second. */
const rateMs = 2_100;

/** Reads what there is now; with rates, which takes two seconds. */
export async function readSnapshot(
  api: LiveApi,
  request: PageRequest,
  signal: AbortSignal,
): Promise<Snapshot> {
  await awaitRates(api, request, signal);
  return readNow(api, request);
}

/** Makes the replica measure rates, and waits until it has. */
export async function awaitRates(api: LiveApi, request: PageRequest, signal: AbortSignal): Promise<void> {
  await api.page({ ...request, limit: 1 });
  await sleep(rateMs, undefined, { signal }).catch(() => {});
}

export async function readNow(api: LiveApi, request: PageRequest): Promise<Snapshot> {
  const [fleet, page] = await Promise.all([api.fleet(), api.page(request)]);
  return { stats: toTopStats(fleet), page };
}

/** The snapshot as one JSON object: what `/stats` answers, of several replicas the sums, with the connections. */
export function toSnapshotJson({ stats, page }: Snapshot): Record<string, unknown> {
  const { at, total, matching, connections, replicas } = page;
  return { at, stats, total, matching, connections, replicas };
}

/** The snapshot as plain text: the screen's header and table. */
export function toSnapshotText({ stats, page }: Snapshot, request: PageRequest, width: number): string {
  const state: TopState = {
    ...initialState({ columns: width, rows: 40, ...request }),
    stats,
    page: { ...page, offset: request.offset },
    widths: growToConnections({}, page.connections),
    // No row is marked as selected.
    cursor: -1,
    // Without connections there is room for the words that say so.
    tableRows: page.connections.length || 2,
  };
  const more = page.matching - page.connections.length;
  const lines = [...drawHeader(stats, '', width, 5), ...drawTable(state, '', { keys: false })].map((line) =>
    plainText(line).trimEnd(),
  );
  if (more > 0) lines.push(` and ${more.toLocaleString('en-US')} more; --limit shows more of them`);
  return `${lines.join('\n')}\n`;
}
