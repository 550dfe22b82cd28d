import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import type { ConnectionJson } from '../../api/connection.js';
import { FilterField } from './forms.js';
import { linkTo, useLoad, usePlace } from './hooks.js';
import { ReplicaChoice, replicaColumn } from './replicas.js';
import { useSession } from './session.js';
import { type Column, column, Table } from './table.js';
import { ago, brief, bytes, integer, perSecond, shown, span } from './text.js';
import { Button, Command, Empty, Heading, ProblemBox } from './ui.js';

const everyMs = 1_000;
const pageSize = 50;

const link = (id: string, text: string) => <a href={linkTo(['connections', id])}>{shown(text)}</a>;

/** Of connections of many devices. */
const deviceColumns: readonly Column<ConnectionJson>[] = [
  column('Device', { sortKey: 'device' }, ({ device, id }) => link(id, device)),
  column('Type', { class: 'wide', sortKey: 'type' }, ({ type }) => shown(type)),
  column('Client id', { class: 'medium', sortKey: 'client' }, ({ client }) => shown(client)),
];

/** Of connections of one device. */
const clientColumns: readonly Column<ConnectionJson>[] = [
  column('Client id', {}, ({ client, id }) => link(id, client === '' ? '(empty)' : client)),
];

const columnsAt = (now: number): readonly Column<ConnectionJson>[] => [
  column('Address', { class: 'wide', sortKey: 'address' }, ({ address }) => shown(address)),
  column(
    'By',
    { width: '7rem', class: 'wide', sortKey: 'transport' },
    ({ transport, protocol }) => `${transport}, ${protocol}`,
  ),
  column('Msg/s', { width: '5.5rem', class: 'right', sortKey: 'rate' }, ({ rate }) =>
    rate === null ? '…' : perSecond(rate),
  ),
  column('Messages', { width: '7rem', class: 'right medium', sortKey: 'messages' }, ({ received }) =>
    brief(received.qos0 + received.qos1 + received.qos2),
  ),
  column('Bytes', { width: '6rem', class: 'right wide', sortKey: 'bytes' }, ({ bytes_in, bytes_out }) =>
    bytes(bytes_in + bytes_out),
  ),
  column('Waiting', { width: '6rem', class: 'right medium', sortKey: 'in_flight' }, ({ in_flight }) =>
    brief(in_flight),
  ),
  column('For', { width: '5rem', class: 'right', sortKey: 'connected' }, ({ connected_at }) =>
    span(now - Date.parse(connected_at)),
  ),
  column(
    'Last message',
    { width: '9rem', class: 'right medium', sortKey: 'last_message' },
    ({ last_message_at }) => (last_message_at === null ? '–' : ago(last_message_at, now)),
  ),
];

/** A table of connections, with its order where it can be chosen. */
export function ConnectionTable(props: {
  rows: readonly ConnectionJson[];
  at: string;
  /** Name the replica of each. */
  replicas?: boolean;
  /** What the details are behind; the client where all are of one device. */
  link?: 'device' | 'client';
  empty: ComponentChildren;
  sort?: { key: string; descending: boolean };
  onSort?(key: string): void;
}) {
  const { at, link = 'device', replicas = false, ...table } = props;
  const columns = [
    ...(link === 'device' ? deviceColumns : clientColumns),
    ...(replicas ? [replicaColumn] : []),
    ...columnsAt(Date.parse(at)),
  ];
  return <Table caption="Connections" keyOf={({ id }) => id} columns={columns} {...table} />;
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
      {data !== undefined && (
        <ConnectionTable
          replicas={data.replicas.length > 1}
          rows={data.connections}
          at={data.at}
          sort={{ key: sort, descending: order === 'desc' }}
          onSort={onSort}
          empty={offset === 0 && <NoConnections filtered={q + replica !== ''} />}
        />
      )}
      {data !== undefined && (data.matching > pageSize || offset > 0) && (
        <div class="pager">
          <Button text="Before" disabled={offset === 0} onClick={() => goTo(offset - pageSize)} />
          <span>
            {integer(offset + 1)}–{integer(Math.min(offset + pageSize, data.matching))} of{' '}
            {integer(data.matching)}
          </span>
          <Button
            text="After"
            disabled={offset + pageSize >= data.matching}
            onClick={() => goTo(offset + pageSize)}
          />
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
