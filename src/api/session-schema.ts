import Type from 'typebox';
import { closed, count, optional, orNull, page, pageQuery, refer, timeOrNull } from './schema.js';

export const SessionResponse = Type.Object(
  {
    id: Type.String({
      description:
        'Id of the session, the same on every replica: device and client id, with `=` and two digits for signs that it cannot hold',
      examples: ['roof-7.pump-1'],
    }),
    device: Type.String({ description: 'Id of the device' }),
    client: Type.String({ description: 'Client id; any text that the client chose' }),
    connected: Type.Boolean({ description: 'The client is connected, to some replica' }),
    away_since: timeOrNull('When its connection ended; null: it is connected'),
    expires_at: timeOrNull(
      'When the session ends if the client does not come back; null: it is connected, or never',
    ),
    expiry_seconds: orNull(Type.Number(), {
      description: 'How long the session outlives its connection; null: it does not expire',
    }),
    subscriptions: Type.Array(Type.Object({ filter: Type.String(), qos: Type.Number() }, closed), {
      description: 'As they are stored',
    }),
    unacknowledged: count('Messages sent to the client and not acknowledged, as stored'),
    pending: orNull(Type.Number(), {
      description:
        'Commands of its device behind the last that the client was sent or has acknowledged, also those that its filters do not match, and messages of other devices that its filters could match; 1000: so many or more; null: neither are stored',
    }),
    oldest_pending_at: timeOrNull(
      'When the first of `pending` was stored; null: none waits, or it is not known',
    ),
    problem: orNull(Type.String(), {
      description:
        'Why its record cannot be read, so that the client is refused; what is in it is not shown. null: it can',
    }),
  },
  { $id: 'Session', ...closed },
);

export const SessionPageResponse = page('SessionPage', { sessions: Type.Array(refer(SessionResponse)) });

export const SessionQuery = optional({
  device: Type.Union(
    [Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { maxItems: 100 })],
    {
      description: 'Only sessions of this device; repeated: of these',
    },
  ),
  device_prefix: Type.String({
    minLength: 1,
    description: 'Only sessions of devices whose id begins with this',
  }),
  ...pageQuery('sessions'),
});

export const SessionParams = Type.Object({
  id: Type.String({ minLength: 1, description: 'Id of the session, as the list has it' }),
});
