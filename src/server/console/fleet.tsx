import { Chart } from './chart.js';
import { EventTable } from './event-table.js';
import { useSession } from './session.js';
import { keptSeconds, useStats } from './stats.js';
import { brief, bytes, integer, milliseconds, shown, span } from './text.js';
import { Empty, Facts, Heading } from './ui.js';

/** How the replica is doing. */
export function FleetPage() {
  const { may } = useSession();
  const { data, remembered } = useStats();
  if (data === undefined) return <Heading title="Fleet" />;
  const { connections, rates, history, ack_latency_ms: latency, waiting, totals } = data;
  const failures = Object.entries(data.failures)
    .filter(([, count]) => count > 0)
    .sort(([, one], [, other]) => other - one);
  const several = data.replicas !== null && data.replicas > 1;
  return (
    <>
      <Heading title="Fleet">
        <span class="note">
          replica {shown(data.replica)}
          {several ? `, one of ${data.replicas}: the figures are its own` : ''}
        </span>
      </Heading>
      <dl class="tiles">
        <Tile
          name="Connections"
          value={integer(connections.connected)}
          note={`of ${brief(connections.limit)}`}
        />
        <Tile
          name="Messages in"
          value={`${brief(rates.messages_in)}/s`}
          note={`${bytes(rates.bytes_in)}/s`}
        />
        <Tile
          name="Messages out"
          value={`${brief(rates.messages_out)}/s`}
          note={`${bytes(rates.bytes_out)}/s`}
        />
        <Tile
          name="Stored after"
          value={milliseconds(latency.p50)}
          note={`p99 ${milliseconds(latency.p99)}`}
        />
        <Tile name="Waiting" value={integer(waiting.messages)} note={bytes(waiting.bytes)} />
        <Tile name="Stored" value={brief(totals.stored)} note="since the start" />
      </dl>
      <div class="charts">
        <Chart
          title="Messages a second"
          seconds={60}
          format={brief}
          lines={[
            { name: 'in', color: '--line1', values: history.messages_in },
            { name: 'out', color: '--line2', values: history.messages_out },
          ]}
        />
        <Chart
          title="Until stored"
          seconds={keptSeconds}
          format={(ms) => milliseconds(ms)}
          lines={[
            { name: 'p50', color: '--line1', values: remembered.map(({ p50 }) => p50) },
            { name: 'p99', color: '--line2', values: remembered.map(({ p99 }) => p99) },
          ]}
        />
        <Chart
          title="Connections"
          seconds={keptSeconds}
          format={brief}
          lines={[
            { name: 'connected', color: '--line1', values: remembered.map(({ connected }) => connected) },
          ]}
        />
      </div>
      <div class="halves">
        <section aria-labelledby="failures">
          <h2 id="failures">What went wrong since the start</h2>
          {failures.length === 0 ? (
            <Empty title="Nothing." />
          ) : (
            <Facts
              facts={failures.map(([kind, count]) => [kind.replaceAll('_', ' '), integer(count)] as const)}
            />
          )}
          <h2>This replica</h2>
          <Facts
            facts={[
              ['version', shown(data.version)],
              ['running for', span(data.uptime_seconds * 1_000)],
              ['NATS', shown(data.nats.detail)],
              ['database', shown(data.database.detail)],
            ]}
          />
        </section>
        <section aria-labelledby="latest">
          <h2 id="latest">Latest events</h2>
          {data.recent_events.length === 0 ? (
            <Empty title="No device has connected yet.">
              {may('enroller') ? <p>Add a device, and connect it with what is shown then.</p> : null}
            </Empty>
          ) : (
            <EventTable events={data.recent_events.slice(-12).reverse()} />
          )}
        </section>
      </div>
    </>
  );
}

function Tile({ name, value, note }: { name: string; value: string; note: string }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd>
        {value} <small>{note}</small>
      </dd>
    </div>
  );
}
