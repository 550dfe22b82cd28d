import type { ComponentChildren } from 'preact';
import type { EventJson } from '../../api/event.js';
import { linkTo } from './hooks.js';
import { type Column, Table } from './table.js';
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

const replicaColumn: Column<EventJson> = {
  title: 'Replica',
  width: '6rem',
  class: 'medium',
  render: ({ replica = '' }) => shown(replica),
};

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
      columns={[
        { title: 'Time', width: '6.2rem', render: ({ at }) => time(at).slice(11) },
        { title: 'Event', width: '8.2rem', render: ({ kind }) => <Badge tone={tones[kind]}>{kind}</Badge> },
        {
          title: 'Device',
          render: ({ device = '', kind }) =>
            device === '' || kind === 'refused' ? (
              shown(device)
            ) : (
              <a href={linkTo(['devices', device])}>{shown(device)}</a>
            ),
        },
        ...(replicas ? [replicaColumn] : []),
        {
          title: 'Reason',
          class: 'medium',
          render: ({ reason = '', count = 0 }) => shown(count === 0 ? reason : `${reason} (${count})`),
        },
        { title: 'Address', class: 'wide', render: ({ address = '' }) => shown(address) },
      ]}
      empty={empty}
    />
  );
}
