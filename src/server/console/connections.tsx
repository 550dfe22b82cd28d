import { useEffect } from 'preact/hooks';
import type { ConnectionJson } from '../../api/connection.js';
import { linkTo, useLoad, usePlace } from './hooks.js';
import { ReplicaChoice } from './replicas.js';
import { useSession } from './session.js';
import { ago, brief, bytes, integer, perSecond, shown, span } from './text.js';
import { type Column, Command, Empty, FilterField, Heading, ProblemBox, Table } from './ui.js';

const everyMs = 1_000;
const pageSize = 50;

const total = ({ received }: ConnectionJson) => received.qos0 + received.qos1 + received.qos2;

const link = (id: string, text: string) => <a href={linkTo(['connections', id])}>{shown(text)}</a>;

/** Of connections of many devices. */
const deviceColumns: Column<ConnectionJson>[] = [
  { key: 'device', title: 'Device', sortable: true, render: ({ device, id }) => link(id, device) },
  { key: 'type', title: 'Type', from: 'wide', sortable: true, render: ({ type }) => shown(type) },
  {
    key: 'client',
    title: 'Client id',
    from: 'medium',
    sortable: true,
    render: ({ client }) => shown(client),
  },
];

/** Of connections of one device. */
const clientColumns: Column<ConnectionJson>[] = [
  {
    key: 'client',
    title: 'Client id',
    render: ({ client, id }) => link(id, client === '' ? '(empty)' : client),
  },
];

const replicaColumn: Column<ConnectionJson> = {
  key: 'replica',
  title: 'Replica',
  width: '6rem',
  from: 'medium',
  render: ({ replica }) => shown(replica),
};

const columnsAt = (now: number): Column<ConnectionJson>[] => [
  { key: 'address', title: 'Address', from: 'wide', sortable: true, render: ({ address }) => shown(address) },
  {
    key: 'transport',
    title: 'By',
    width: '7rem',
    from: 'wide',
    sortable: true,
    render: ({ transport, protocol }) => `${transport}, ${protocol}`,
  },
  {
    key: 'rate',
    title: 'Msg/s',
    width: '5.5rem',
    align: 'right',
    sortable: true,
    render: ({ rate }) => (rate === null ? '…' : perSecond(rate)),
  },
  {
    key: 'messages',
    title: 'Messages',
    width: '7rem',
    align: 'right',
    from: 'medium',
    sortable: true,
    render: (row) => brief(total(row)),
  },
  {
    key: 'bytes',
    title: 'Bytes',
    width: '6rem',
    align: 'right',
    from: 'wide',
    sortable: true,
    render: ({ bytes_in, bytes_out }) => bytes(bytes_in + bytes_out),
  },
  {
    key: 'in_flight',
    title: 'Waiting',
    width: '6rem',
    align: 'right',
    from: 'medium',
    sortable: true,
    render: ({ in_flight }) => brief(in_flight),
  },
  {
    key: 'connected',
    title: 'For',
    width: '5rem',
    align: 'right',
    sortable: true,
    render: ({ connected_at }) => span(now - Date.parse(connected_at)),
  },
  {
    key: 'last_message',
    title: 'Last message',
    width: '9rem',
    align: 'right',
    from: 'medium',
    sortable: true,
    render: ({ last_message_at }) => (last_message_at === null ? '–' : ago(last_message_at, now)),
  },
];

/** A table of connections, with its order where it can be chosen. */
export function ConnectionTable(props: {
  rows: readonly ConnectionJson[];
  at: string;
  /** Name the replica of each. */
  replicas?: boolean;
  /** What the details are behind; the client where all are of one device. */
  link?: 'device' | 'client';
  sort?: { key: string; descending: boolean };
  onSort?(key: string): void;
}) {
  const { rows, at, link = 'device', replicas = false, sort, onSort } = props;
  const columns = [
    ...(link === 'device' ? deviceColumns : clientColumns),
    ...(replicas ? [replicaColumn] : []),
    ...columnsAt(Date.parse(at)),
  ];
  return (
    <Table
      caption="Connections"
      rows={rows}
      keyOf={({ id }) => id}
      columns={onSort === undefined ? columns.map((column) => ({ ...column, sortable: false })) : columns}
      {...(sort && { sort })}
      {...(onSort && { onSort })}
    />
  );
}

/** The live connections; what is looked for stands in the address. */
export function ConnectionsPage() {
  const { source } = useSession();
  const { query } = usePlace();
  const [q, sort, order] = [query.get('q') ?? '', query.get('sort') ?? 'rate', query.get('order') ?? 'desc'];
  const replica = query.get('replica') ?? '';
  const offset = Number(query.get('offset') ?? 0);
  const go = (changes: Record<string, string>) => {
    location.replace(linkTo(['connections'], { q, replica, sort, order, offset: '', ...changes }));
  };
  const asked = { q, replica, sort, order, offset, limit: pageSize };
  const { data, error, current } = useLoad(JSON.stringify(asked), () => source.connections(asked), everyMs);
  const goTo = (first: number) => go({ offset: first <= 0 ? '' : String(first) });
  const isBeyond = current && data !== undefined && offset > 0 && data.connections.length === 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each answer.
  useEffect(() => {
    // So many have ended that this page is no more.
    if (isBeyond) goTo(Math.floor((data.matching - 1) / pageSize) * pageSize);
  }, [isBeyond, data]);
  const onSort = (key: string) => {
    // What is counted begins with the most, what is named with A.
    const first = ['device', 'type', 'client', 'address', 'transport', 'connected'].includes(key)
      ? 'asc'
      : 'desc';
    const other = order === 'asc' ? 'desc' : 'asc';
    go({ sort: key, order: key === sort ? other : first });
  };
  return (
    <>
      <Heading title="Connections">
        {data !== undefined && (
          <span class="note">
            {q === '' ? integer(data.total) : `${integer(data.matching)} of ${integer(data.total)}`}
          </span>
        )}
      </Heading>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <FilterField
          label="Filter by words in device, type, client id or address"
          placeholder="Filter: words in device, type, client id, address"
          value={q}
          maxLength={256}
          live
          onFilter={(text) => go({ q: text })}
        />
        <ReplicaChoice chosen={replica} onChoose={(chosen) => go({ replica: chosen })} />
      </form>
      <ProblemBox error={error} />
      {data?.replicas
        .filter(({ ok }) => !ok)
        .map(({ replica, host, detail }) => (
          <p key={replica} class="trouble">
            Replica {shown(replica)} on {shown(host)} does not answer, its connections are missing here:{' '}
            {shown(detail ?? '')}.
          </p>
        ))}
      {data !== undefined && data.connections.length > 0 && (
        <ConnectionTable
          replicas={data.replicas.length > 1}
          rows={data.connections}
          at={data.at}
          sort={{ key: sort, descending: order === 'desc' }}
          onSort={onSort}
        />
      )}
      {data?.connections.length === 0 && offset === 0 && <NoConnections filtered={q + replica !== ''} />}
      {data !== undefined && (data.matching > pageSize || offset > 0) && (
        <div class="pager">
          <button type="button" disabled={offset === 0} onClick={() => goTo(offset - pageSize)}>
            Before
          </button>
          <span>
            {integer(offset + 1)}–{integer(Math.min(offset + pageSize, data.matching))} of{' '}
            {integer(data.matching)}
          </span>
          <button
            type="button"
            disabled={offset + pageSize >= data.matching}
            onClick={() => goTo(offset + pageSize)}
          >
            After
          </button>
        </div>
      )}
    </>
  );
}

function NoConnections({ filtered }: { filtered: boolean }) {
  if (filtered) return <Empty title="No connection is like this." />;
  return (
    <Empty title="No device is connected.">
      <p>Add one, and publish as that device:</p>
      <Command text={`mosquitto_pub -h ${location.hostname} -u ID -P PASSWORD -q 1 -t raw/ID -m hello`} />
    </Empty>
  );
}
