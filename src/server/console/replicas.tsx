import type { FleetJson } from '../../api/stats.js';
import { linkTo } from './hooks.js';
import { useStats } from './stats.js';
import { Table } from './table.js';
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

/** All replicas, each with what it does, and those that do not answer as such. */
export function ReplicaTable({ replicas }: { replicas: readonly Replica[] }) {
  return (
    <Table
      caption="Replicas"
      rows={replicas}
      keyOf={({ replica }) => replica}
      columns={[
        {
          title: 'Replica',
          width: '6rem',
          render: ({ replica }) => <a href={linkTo([''], { replica })}>{shown(replica)}</a>,
        },
        { title: 'Machine', class: 'medium', render: ({ host }) => shown(host) },
        { title: 'Version', width: '6rem', class: 'wide', render: ({ version }) => shown(version) },
        { title: 'State', render: (replica) => <ReplicaState replica={replica} /> },
        {
          title: 'Since',
          width: '12.5rem',
          class: 'wide',
          render: ({ stats }) => stats && time(stats.started_at),
        },
        {
          title: 'Clients',
          width: '6rem',
          class: 'right',
          render: ({ stats }) => stats && integer(stats.connections.connected),
        },
        {
          title: 'Msg/s in',
          width: '6.5rem',
          class: 'right',
          render: ({ stats }) => stats && brief(stats.rates.messages_in),
        },
        {
          title: 'Last minute',
          width: '9rem',
          class: 'medium',
          render: ({ replica, stats }) =>
            stats && (
              <Spark
                label={`Messages in of ${replica}, the last minute`}
                values={stats.history.messages_in}
              />
            ),
        },
        {
          title: 'p99',
          width: '5.5rem',
          class: 'right medium',
          render: ({ stats }) => stats && milliseconds(stats.ack_latency_ms.p99),
        },
        {
          title: 'Failures',
          width: '6.5rem',
          class: 'right wide',
          render: ({ stats }) => stats && integer(countFailures(stats.failures)),
        },
      ]}
    />
  );
}

const countFailures = (failures: Readonly<Record<string, number>>): number =>
  Object.values(failures).reduce((sum, count) => sum + count, 0);

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
