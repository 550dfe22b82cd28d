import type { FleetJson } from '../../api/stats.js';
import { linkTo } from './hooks.js';
import { useStats } from './stats.js';
import { type Column, column, Table } from './table.js';
import { brief, integer, milliseconds, shown, time } from './text.js';
import { Badge } from './ui.js';

type Replica = FleetJson['replicas'][number];

/** Chooses one of several replicas, or all; nothing to choose where there is one. */
export function ReplicaChoice({ chosen, onChoose }: { chosen: string; onChoose(replica: string): void }) {
  const { data } = useStats();
  const replicas = data?.replicas ?? [];
  if (replicas.length < 2 && chosen === '') return null;
  const isKnown = replicas.some(({ replica }) => replica === chosen);
  return (
    <select aria-label="Replica" value={chosen} onChange={(event) => onChoose(event.currentTarget.value)}>
      <option value="">all replicas</option>
      {replicas.map(({ replica, host }) => (
        <option key={replica} value={replica}>
          {shown(`${replica}, ${host}`)}
        </option>
      ))}
      {chosen !== '' && !isKnown && <option value={chosen}>{shown(chosen)}, which is gone</option>}
    </select>
  );
}

const columns: readonly Column<Replica>[] = [
  column('Replica', { width: '6rem' }, ({ replica }) => (
    <a href={linkTo([''], { replica })}>{shown(replica)}</a>
  )),
  column('Machine', { class: 'medium' }, ({ host }) => shown(host)),
  column('Version', { width: '6rem', class: 'wide' }, ({ version }) => shown(version)),
  column('State', {}, (replica) => <ReplicaState replica={replica} />),
  column('Since', { width: '12.5rem', class: 'wide' }, ({ stats }) => stats && time(stats.started_at)),
  column(
    'Clients',
    { width: '6rem', class: 'right' },
    ({ stats }) => stats && integer(stats.connections.connected),
  ),
  column(
    'Msg/s in',
    { width: '6.5rem', class: 'right' },
    ({ stats }) => stats && brief(stats.rates.messages_in),
  ),
  column(
    'Last minute',
    { width: '9rem', class: 'medium' },
    ({ replica, stats }) =>
      stats && (
        <Spark label={`Messages in of ${replica}, the last minute`} values={stats.history.messages_in} />
      ),
  ),
  column(
    'p99',
    { width: '5.5rem', class: 'right medium' },
    ({ stats }) => stats && milliseconds(stats.ack_latency_ms.p99),
  ),
  column(
    'Failures',
    { width: '6.5rem', class: 'right wide' },
    ({ stats }) => stats && integer(countFailures(stats.failures)),
  ),
];

/** All replicas, each with what it does, and those that do not answer as such. */
export function ReplicaTable({ replicas }: { replicas: readonly Replica[] }) {
  return <Table caption="Replicas" rows={replicas} keyOf={({ replica }) => replica} columns={columns} />;
}

const countFailures = (failures: Readonly<Record<string, number>>): number =>
  Object.values(failures).reduce((sum, count) => sum + count, 0);

/** Which replica something is of. */
export const replicaColumn = column<{ readonly replica?: string }>(
  'Replica',
  { width: '6rem', class: 'medium' },
  ({ replica = '' }) => shown(replica),
);

function ReplicaState({ replica: { ok, detail, stats } }: { replica: Replica }) {
  if (!ok || stats === null) return <Badge tone="bad">away: {shown(detail ?? 'no answer')}</Badge>;
  const missing = [stats.nats.ok ? [] : 'NATS', stats.database.ok ? [] : 'database'].flat();
  return missing.length === 0 ? (
    <Badge tone="good">answers</Badge>
  ) : (
    <Badge tone="warn">without {missing.join(' and ')}</Badge>
  );
}

const [sparkWidth, sparkHeight] = [120, 20];

/** A line as high as a row; from nothing to the most that there was. */
function Spark({ label, values }: { label: string; values: readonly number[] }) {
  const most = Math.max(...values, 1);
  const step = sparkWidth / Math.max(1, values.length - 1);
  const points = values.map(
    (value, index) =>
      `${(index * step).toFixed(1)},${(sparkHeight - 1 - (value / most) * (sparkHeight - 2)).toFixed(1)}`,
  );
  return (
    <svg class="spark" role="img" aria-label={label} viewBox={`0 0 ${sparkWidth} ${sparkHeight}`}>
      <polyline points={points.join(' ')} />
    </svg>
  );
}
