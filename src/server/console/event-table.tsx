import type { EventJson } from '../../api/event.js';
import { linkTo } from './hooks.js';
import { shown, time } from './text.js';
import { Badge, Table, type Tone } from './ui.js';

const tones: Record<EventJson['kind'], Tone> = {
  connected: 'good',
  disconnected: 'dim',
  refused: 'bad',
  revoked: 'bad',
  dropped: 'warn',
};

/** Names an event: numbers are those of its replica. */
export const eventKey = ({ replica = '', number }: EventJson): string => `${replica}.${number}`;

/** Events, as they are given. */
export function EventTable({ events, replicas }: { events: readonly EventJson[]; replicas: boolean }) {
  return (
    <Table
      caption="Events, the latest first"
      rows={events}
      keyOf={eventKey}
      columns={[
        { key: 'at', title: 'Time', width: '6.2rem', render: ({ at }) => time(at).slice(11) },
        {
          key: 'kind',
          title: 'Event',
          width: '8.2rem',
          render: ({ kind }) => <Badge tone={tones[kind]}>{kind}</Badge>,
        },
        {
          key: 'device',
          title: 'Device',
          render: ({ device, kind }) =>
            device === undefined ? (
              ''
            ) : kind === 'refused' ? (
              shown(device)
            ) : (
              <a href={linkTo(['devices', device])}>{shown(device)}</a>
            ),
        },
        ...(replicas
          ? [
              {
                key: 'replica',
                title: 'Replica',
                width: '6rem',
                from: 'medium' as const,
                render: ({ replica = '' }: EventJson) => shown(replica),
              },
            ]
          : []),
        {
          key: 'reason',
          title: 'Reason',
          from: 'medium',
          render: ({ reason = '', count }) =>
            shown(count === undefined || count === 0 ? reason : `${reason} (${count})`),
        },
        { key: 'address', title: 'Address', from: 'wide', render: ({ address = '' }) => shown(address) },
      ]}
    />
  );
}
