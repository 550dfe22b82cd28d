import type { ComponentChildren } from 'preact';
import type { FleetJson, StatsJson } from '../../api/stats.js';
import { Chart } from './chart.js';
import { EventTable } from './event-table.js';
import { linkTo, usePlace } from './hooks.js';
import { ReplicaChoice, ReplicaTable } from './replicas.js';
import { useSession } from './session.js';
import { keptSeconds, useStats } from './stats.js';
import { brief, bytes, integer, milliseconds, shown, span, time } from './text.js';
import { Empty, Facts, Heading, Section } from './ui.js';

/** How the replicas are doing: all together, or one of them. */
export function FleetPage() {
  const { data } = useStats();
  const chosen = usePlace().query.get('replica') ?? '';
  if (data === undefined) return <Heading title="Fleet" />;
  const { replicas } = data;
  const one = replicas.find(({ replica }) => replica === (chosen === '' ? replicas[0]?.replica : chosen));
  const isOne = chosen !== '' || replicas.length === 1;
  const table = replicas.length > 1 && (
    <div class="spaced">
      <Section title="Replicas">
        <ReplicaTable replicas={replicas} />
      </Section>
    </div>
  );
  return (
    <>
      <Heading title="Fleet">
        <ReplicaChoice chosen={chosen} onChoose={(replica) => location.replace(linkTo([''], { replica }))} />
        {!isOne && (
          <span class="note">
            {replicas.filter(({ ok }) => ok).length} of {replicas.length} replicas answer; of latencies the
            longest is shown
          </span>
        )}
      </Heading>
      {!isOne ? (
        <Figures name="" work={data.total} several>
          {table}
        </Figures>
      ) : one?.stats ? (
        <Figures key={one.replica} name={chosen} work={one.stats} several={false} stats={one.stats}>
          {table}
        </Figures>
      ) : (
        <>
          <Empty title={one === undefined ? 'This replica is gone.' : 'This replica does not answer.'} />
          {table}
        </>
      )}
    </>
  );
}

/** What is done, by one replica or by all. */
function Figures(props: {
  /** Of the replica, as its figures are remembered by; empty: of all. */
  name: string;
  work: FleetJson['total'];
  several: boolean;
  /** Of the one replica. */
  stats?: StatsJson;
  /** What stands between lines and failures. */
  children: ComponentChildren;
}) {
  const { may } = useSession();
  const { name, work, several, stats, children } = props;
  const remembered = useStats().rememberedOf(name);
  const { connections, rates, history, ack_latency_ms: latency, waiting, totals } = work;
  const failures = Object.entries(work.failures)
    .filter(([, count]) => count > 0)
    .sort(([, one], [, other]) => other - one);
  return (
    <>
      <Tiles
        tiles={[
          ['Connections', integer(connections.connected), `of ${brief(connections.limit)}`],
          ['Messages in', `${brief(rates.messages_in)}/s`, `${bytes(rates.bytes_in)}/s`],
          ['Messages out', `${brief(rates.messages_out)}/s`, `${bytes(rates.bytes_out)}/s`],
          ['Stored after', milliseconds(latency.p50), `p99 ${milliseconds(latency.p99)}`],
          ['Waiting', integer(waiting.messages), bytes(waiting.bytes)],
          ['Stored', brief(totals.stored), 'since the start'],
        ]}
      />
      <div class="charts">
        <Chart
          title="Messages a second"
          seconds={60}
          format={brief}
          lines={{ in: history.messages_in, out: history.messages_out }}
        />
        <Chart
          title="Until stored"
          seconds={keptSeconds}
          format={(ms) => milliseconds(ms)}
          lines={{ p50: remembered.map(({ p50 }) => p50), p99: remembered.map(({ p99 }) => p99) }}
        />
        <Chart
          title="Connections"
          seconds={keptSeconds}
          format={brief}
          lines={{ connected: remembered.map(({ connected }) => connected) }}
        />
      </div>
      {children}
      <div class="halves">
        <Section title="What went wrong since the start">
          {failures.length === 0 ? (
            <Empty title="Nothing." />
          ) : (
            <Facts facts={failures.map(([kind, count]) => [kind.replaceAll('_', ' '), integer(count)])} />
          )}
          {stats !== undefined && <About stats={stats} />}
        </Section>
        <Section title="Latest events">
          <EventTable
            events={work.recent_events.slice(-12).reverse()}
            replicas={several}
            empty={
              <Empty title="No device has connected yet.">
                {may('enroller') && <p>Add a device, and connect it with what is shown then.</p>}
              </Empty>
            }
          />
        </Section>
      </div>
    </>
  );
}

/** What one replica is, and what it works with. */
function About({ stats }: { stats: StatsJson }) {
  const { acknowledgement: worth } = stats;
  return (
    <>
      <h2>This replica</h2>
      <Facts
        facts={[
          [
            'replica',
            <a key="id" href={linkTo(['connections'], { replica: stats.replica })}>
              {shown(stats.replica)}
            </a>,
          ],
          ['version', shown(stats.version)],
          ['running since', `${time(stats.started_at)}, for ${span(stats.uptime_seconds * 1_000)}`],
          ['NATS', shown(stats.nats.detail)],
          ['database', shown(stats.database.detail)],
          ['acknowledged is', worth && shown(`${worth.level}: ${worth.why}`)],
        ]}
      />
    </>
  );
}

function Tiles({ tiles }: { tiles: readonly (readonly [name: string, value: string, note: string])[] }) {
  return (
    <dl class="tiles">
      {tiles.map(([name, value, note]) => (
        <div key={name} class="tile">
          <dt>{name}</dt>
          <dd>
            {value} <small>{note}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}
