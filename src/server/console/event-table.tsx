import type { ComponentChildren } from 'preact';
import type { EventJson } from '../../api/event.js';
import { linkTo } from './hooks.js';
import { replicaColumn } from './replicas.js';
import { type Column, column, Table } from './table.js';
import { shown, time } from './text.js';
import { Badge, type Tone } from './ui.js';

const tones: Record<EventJson['kind'], Tone> = {
  connected: 'good',
  disconnected: 'dim',
  refused: 'bad',
  revoked: 'bad',
  dropped: 'warn',
};

/** Names an event: numbers are those of its replica. */
export const eventKey = ({ replica = '', number }: EventJson): string => `${replica}.${number}`;

const columnsOf = (replicas: boolean): readonly Column<EventJson>[] => [
  column('Time', { width: '6.2rem' }, ({ at }) => time(at).slice(11)),
  column('Event', { width: '8.2rem' }, ({ kind }) => <Badge tone={tones[kind]}>{kind}</Badge>),
  column('Device', {}, ({ device = '', kind }) =>
    device === '' || kind === 'refused' ? (
      shown(device)
    ) : (
      <a href={linkTo(['devices', device])}>{shown(device)}</a>
    ),
  ),
  ...(replicas ? [replicaColumn] : []),
  column('Reason', { class: 'medium' }, ({ reason = '', count = 0 }) =>
    shown(count === 0 ? reason : `${reason} (${count})`),
  ),
  column('Address', { class: 'wide' }, ({ address = '' }) => shown(address)),
];

/** Events, as they are given. */
export function EventTable(props: {
  events: readonly EventJson[];
  replicas: boolean;
  empty: ComponentChildren;
}) {
  const { events, replicas, empty } = props;
  return (
    <Table
      caption="Events, the latest first"
      rows={events}
      keyOf={eventKey}
      columns={columnsOf(replicas)}
      empty={empty}
    />
  );
}
